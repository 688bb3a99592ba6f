"""The outbox, the inbox and the work queue under crash, duplicate and outage."""

import asyncio

import asyncpg
import nats
import pytest

from bus.outbox import COUNT_PENDING, Relay
from bus.topology import STREAMS
from schemas import agents, events
from schemas.events import EventStatistics, QueryEvents, VerifyEvents
from tests.conftest import eventually
from tests.factories import create_agent


async def all_messages(settings, subject):
    """Every message of a subject in the stream EVENTS, oldest first."""
    connection = await nats.connect(settings.nats_url.get_secret_value())
    subscription = await connection.jetstream().subscribe(subject, ordered_consumer=True)
    found = []
    while True:
        try:
            found.append(await subscription.next_msg(timeout=0.5))
        except TimeoutError:
            await connection.close()
            return found


async def published(platform):
    """Whether the outbox is empty."""
    row = await platform.database.row(COUNT_PENDING)
    return row["pending"] == 0


def test_no_stream_covers_requests():
    subjects = [subject for stream in STREAMS for subject in stream.subjects or []]
    assert not [s for s in subjects if s.startswith(("req", ">", "*"))]


async def test_an_event_is_published_with_cloudevents_headers_and_the_stored_bytes(
    platform, ask, settings
):
    agent = await ask(agents.create, create_agent())
    await eventually(lambda: published(platform))
    [message] = await all_messages(settings, f"evt.agents.created.{agent.id}")
    [stored] = (await ask(events.query, QueryEvents(aggregate_id=agent.id))).items
    assert message.headers["ce-id"] == message.headers["Nats-Msg-Id"] == stored.event_id
    assert message.headers["ce-type"] == "agents.created"
    assert message.headers["ce-subject"] == agent.id


async def test_a_message_published_twice_is_in_the_stream_once(platform, ask, settings):
    agent = await ask(agents.create, create_agent())
    await eventually(lambda: published(platform))
    jetstream = platform.connection.jetstream()
    [message] = await all_messages(settings, f"evt.agents.created.{agent.id}")
    again = await jetstream.publish(message.subject, message.data, headers=message.headers)
    assert again.duplicate
    assert len(await all_messages(settings, f"evt.agents.created.{agent.id}")) == 1


async def test_events_of_one_entity_are_published_in_order(platform, ask, settings):
    agent = await ask(agents.create, create_agent())
    for version in range(1, 20):
        change = agents.ConfigureAgent(id=agent.id, version=version, capabilities=(f"c{version}",))
        await ask(agents.configure, change)
    await eventually(lambda: published(platform))
    messages = await all_messages(settings, f"evt.agents.*.{agent.id}")
    versions = [int(message.headers["ce-version"]) for message in messages]
    assert versions == sorted(versions) == list(range(1, 21))


async def test_nothing_is_lost_when_the_bus_is_killed(platform, ask, bus_server, settings):
    agent = await ask(agents.create, create_agent())
    bus_server.kill()
    bus_server.start()

    async def answers():
        try:
            return await ask(agents.create, create_agent(), deadline_ms=None)
        except Exception:
            return None

    second = await eventually(answers, 30)
    await eventually(lambda: published(platform), 30)
    ids = {m.headers["ce-subject"] for m in await all_messages(settings, "evt.agents.created.*")}
    assert {agent.id, second.id} <= ids
    assert (await ask(events.verify, VerifyEvents())).ok


async def test_the_log_refuses_to_be_changed(platform, ask, database_url):
    await ask(agents.create, create_agent())
    connection = await asyncpg.connect(database_url)
    for statement in (
        "UPDATE mcp_documents.events SET type = 'x'",
        "DELETE FROM mcp_documents.events",
        "TRUNCATE mcp_documents.events",
    ):
        with pytest.raises(Exception, match="append-only"):
            await connection.execute(statement)
    await connection.close()


async def test_a_row_changed_behind_the_log_is_found(platform, ask):
    agent = await ask(agents.create, create_agent())
    assert (await ask(events.verify, VerifyEvents())).ok
    connection = await platform.database.connect()
    await connection.execute(
        "UPDATE mcp_documents.agents SET agent_type = 'spy' WHERE id = $1", agent.id
    )
    await connection.close()
    verdict = await ask(events.verify, VerifyEvents())
    [bad] = [entity for entity in verdict.entities if entity.different]
    assert (verdict.ok, bad.entity, bad.different) == (False, "agent", (agent.id,))


async def test_an_event_changed_by_a_superuser_breaks_the_hash_chain(platform, ask, database_url):
    agent = await ask(agents.create, create_agent())
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE mcp_documents.events DISABLE TRIGGER USER")
    await connection.execute(
        "UPDATE mcp_documents.events SET payload = replace(payload::text, 'idle', 'busy')::json"
        " WHERE aggregate_id = $1",
        agent.id,
    )
    await connection.close()
    verdict = await ask(events.verify, VerifyEvents())
    assert agent.id in {i for entity in verdict.entities for i in entity.broken_chains}


async def test_two_relays_publish_everything_once(platform, ask, settings):
    second = asyncio.create_task(Relay(platform).run())
    for _ in range(20):
        await ask(agents.create, create_agent())
    await eventually(lambda: published(platform))
    second.cancel()
    assert len(await all_messages(settings, "evt.agents.created.*")) == 20 + 4


async def test_statistics_count_what_is_in_the_log(platform, ask):
    await ask(agents.create, create_agent())
    statistics = await ask(events.statistics, EventStatistics())
    counted = {row.type: row.count for row in statistics.types}
    assert counted["agents.created"] == 1 + 4
