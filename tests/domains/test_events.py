"""Events: reading the log, counting it, and proving that it is the truth."""

import pytest

from bus.service import own_context
from bus.statement import Statement
from handlers.events import reactions, service
from schemas import agents, catalogue, events
from schemas.events import EventStatistics, GetEvent, QueryEvents, VerifyEvents
from schemas.problems import Denied, Malformed, NotFound
from tests.conftest import eventually
from tests.factories import create_agent

PARTITIONS = Statement(
    "SELECT count(*) AS count FROM pg_inherits WHERE inhparent = 'mcp_documents.events'::regclass"
)
OLD_ROWS = Statement(
    """
    INSERT INTO ops.inbox (consumer, message_id, seen_at)
    SELECT 'c', n::text, now() - make_interval(days => n) FROM generate_series(1, 30) n
    """
)
OLD_ANSWERS = Statement(
    """
    INSERT INTO ops.idempotency (actor, key, fingerprint, created_at)
    SELECT 'a', n::text, 'f', now() - make_interval(hours => n * 12) FROM generate_series(1, 8) n
    """
)
LEFT = Statement(
    """
    SELECT (SELECT count(*) FROM ops.inbox WHERE consumer = 'c') AS inbox,
           (SELECT count(*) FROM ops.idempotency WHERE actor = 'a') AS answers
    """
)
TAMPER = Statement("UPDATE mcp_documents.agents SET name = 'tampered' WHERE id = $1")


@pytest.fixture
async def agent(ask, platform):
    return await ask(agents.create, create_agent())


async def test_the_log_is_read_in_pages_that_neither_skip_nor_repeat(ask, agent):
    for _ in range(5):
        await ask(agents.create, create_agent())

    async def all_types(**how):
        seen, cursor = [], None
        while True:
            page = await ask(events.query, QueryEvents(limit=2, cursor=cursor, **how))
            seen += [event.seq for event in page.items]
            cursor = page.next
            if cursor is None:
                return seen

    async def all_shown():
        shown = await all_types(type="agents.created")
        return (
            shown
            if shown == (await all_types(type="agents.created", newest_first=True))[::-1]
            else None
        )

    forward = await eventually(all_shown)
    assert forward == sorted(set(forward))
    assert len(forward) >= 6
    assert await all_types(type="agents.created", newest_first=True) == forward[::-1]
    assert await all_types(type="agents.created", after_seq=forward[2]) == forward[3:]


async def test_a_domain_stands_for_all_of_its_types(ask, agent):
    await ask(agents.suspend, agents.SuspendAgent(id=agent.id))
    found = await ask(events.query, QueryEvents(type="agents", aggregate_id=agent.id))
    assert [event.type for event in found.items] == ["agents.created", "agents.moved"]
    assert found.items[0].payload["agent"]["name"] == agent.name


async def test_one_event_is_read_by_its_id(ask, agent):
    found = await ask(events.query, QueryEvents(aggregate_id=agent.id))
    assert await ask(events.get, GetEvent(id=found.items[0].event_id)) == found.items[0]
    with pytest.raises(NotFound):
        await ask(events.get, GetEvent(id="00000000-0000-7000-8000-000000000000"))


async def test_a_cursor_of_another_list_is_refused(ask, agent):
    page = await ask(events.query, QueryEvents(limit=1))
    with pytest.raises(Malformed):
        await ask(events.query, QueryEvents(limit=1, type="agents", cursor=page.next))


async def test_statistics_count_what_is_there(ask, agent):
    counted = await ask(events.statistics, EventStatistics(hours=1))
    by_type = {each.type: each.count for each in counted.types}
    assert by_type["agents.created"] >= 1
    assert counted.total >= sum(by_type.values()) > 0
    assert counted.last_seq >= counted.total


async def test_the_log_and_the_tables_agree_until_somebody_tampers(ask, platform, agent):
    assert (await ask(events.verify, VerifyEvents())).ok
    await platform.database.execute(TAMPER, agent.id)
    found = await ask(events.verify, VerifyEvents())
    [different] = [entity for entity in found.entities if entity.different]
    assert not found.ok
    assert (different.entity, different.different) == ("agent", (agent.id,))


async def test_every_table_of_an_entity_is_compared(ask, platform):
    found = await ask(events.verify, VerifyEvents())
    assert {entity.table for entity in found.entities} == {e.table for e in catalogue.entities()}


async def test_a_viewer_may_read_the_log_but_not_replay_it(ask_as, platform):
    viewer = ask_as("viewer")
    await viewer(events.query, QueryEvents())
    with pytest.raises(Denied):
        await viewer(events.verify, VerifyEvents())


async def test_partitions_of_this_and_the_next_month_are_made(platform):
    async def made():
        row = await platform.database.row(PARTITIONS)
        return row["count"] == 3

    await eventually(made)


async def test_what_nobody_can_ask_for_any_more_is_forgotten(platform):
    await platform.database.execute(OLD_ROWS)
    await platform.database.execute(OLD_ANSWERS)
    await reactions.forget(own_context(service, platform))
    left = await platform.database.row(LEFT)
    assert (left["inbox"], left["answers"]) == (13, 3)
