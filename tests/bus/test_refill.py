"""The stream EVENTS deleted and filled again from the log, while requests and consumers go on."""

import asyncio
from collections import defaultdict

import nats
import pytest

from bus import outbox, refill, topology
from schemas import agents, catalogue
from schemas.identity import keys
from schemas.identity.keys import IssueKey
from tests.bus.test_delivery import all_messages, published
from tests.conftest import eventually, look
from tests.factories import create_agent

LOG = "SELECT event_id FROM mcp_documents.events"
NOTED = """
    SELECT count(*) AS entries, count(DISTINCT details ->> 'event') AS events
    FROM audit.entries WHERE action = 'identity.key_issued' AND door = 'event'
"""


@pytest.fixture
async def jetstream(settings):
    """JetStream as the admin has it."""
    connection = await nats.connect(settings.nats_url.get_secret_value())
    yield connection.jetstream()
    await connection.close()


@pytest.fixture
async def story(platform, ask):
    """Agents that change, and keys that the audit log notes by a durable consumer."""
    for _ in range(3):
        agent = await ask(agents.create, create_agent())
        await ask(agents.suspend, agents.SuspendAgent(id=agent.id))
        await ask(agents.resume, agents.ResumeAgent(id=agent.id))
        await ask(keys.issue_key, IssueKey(name="k"))
    await eventually(lambda: published(platform))
    await eventually(lambda: noted(platform, 3))


async def noted(platform, count):
    """Whether so many keys were noted, each once."""
    [row] = await look(platform, NOTED)
    assert row["entries"] == row["events"]
    return row["entries"] == count


async def rebuild(platform, jetstream, tell=lambda *_: None, days=refill.DAYS):
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
    return await refill.rebuild_stream(platform.database, jetstream, wanted, 1, days, tell)


async def caught_up(jetstream):
    """Whether every consumer of events has had everything."""
    for reaction in catalogue.reactions():
        info = await jetstream.consumer_info("EVENTS", reaction.durable)
        if info.num_pending or info.num_ack_pending:
            return False
    return True


async def test_a_deleted_stream_is_filled_again_and_consumers_do_nothing_twice(
    platform, ask, settings, jetstream, story
):
    told = []
    await jetstream.delete_stream("EVENTS")
    done = await rebuild(platform, jetstream, lambda *what: told.append(what))

    logged = {row["event_id"] for row in await look(platform, LOG)}
    await eventually(lambda: published(platform))
    messages = await all_messages(settings, "evt.>")
    assert {m.headers["Nats-Msg-Id"] for m in messages} >= logged
    assert (done.waiting, done.events <= len(logged)) == (0, True)
    assert ("published", done.events) in told
    await eventually(lambda: caught_up(jetstream))
    assert await noted(platform, 3)
    await ask(keys.issue_key, IssueKey(name="another"))
    await eventually(lambda: noted(platform, 4))


async def test_the_order_of_each_entity_holds_while_requests_go_on(
    platform, ask, settings, jetstream, story
):
    agent = await ask(agents.create, create_agent())
    rebuilding = asyncio.create_task(rebuild(platform, jetstream))
    version = 1
    while not rebuilding.done() or version < 5:
        change = agents.ConfigureAgent(id=agent.id, version=version, capabilities=(f"c{version}",))
        version = (await ask(agents.configure, change)).version
    await rebuilding
    await eventually(lambda: published(platform))

    versions = defaultdict(list)
    for message in await all_messages(settings, "evt.>"):
        versions[message.headers["ce-subject"]].append(int(message.headers["ce-version"]))
    assert versions[agent.id] == list(range(1, version + 1))
    assert all(found == list(range(1, len(found) + 1)) for found in versions.values())


async def test_what_an_earlier_attempt_left_waiting_is_not_put_there_again(
    platform, jetstream, story
):
    connection = await platform.database.connect()
    await refill.take_lanes(connection)
    first = await refill.queue_all(connection, refill.DAYS, lambda *_: None)
    second = await refill.queue_all(connection, refill.DAYS, lambda *_: None)
    await connection.close()

    assert first > 0
    assert second == 0
    await eventually(lambda: published(platform))


async def test_nothing_is_deleted_while_somebody_holds_a_lane(
    platform, jetstream, story, monkeypatch
):
    monkeypatch.setattr(refill, "LANES_S", 0.5)
    holder = await platform.database.connect()
    await refill.take_lanes(holder)
    before = await jetstream.stream_info("EVENTS")
    with pytest.raises(refill.LanesHeld):
        await rebuild(platform, jetstream)
    after = await jetstream.stream_info("EVENTS")
    await holder.close()

    assert after.created == before.created
    assert outbox.LOCK_SPACE
