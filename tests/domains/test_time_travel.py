"""Time travel: an entity as it was at any moment is what was live then."""

import pytest

from schemas import agents, events
from schemas.agents import ConfigureAgent, GetAgent
from schemas.events import EntityAt
from schemas.identity import grants, keys
from schemas.identity.grants import Give
from schemas.identity.keys import IssueKey
from schemas.problems import NotFound
from tests.conftest import eventually, look
from tests.factories import create_agent

NOW = "SELECT clock_timestamp() AS now, (SELECT max(seq) FROM mcp_documents.events) AS seq"


@pytest.fixture
async def story(platform, ask):
    """An agent through its life: each state, with a time and a position when it was live."""
    agent = await ask(agents.create, create_agent())
    told = []

    async def remember(state):
        [row] = await look(platform, NOW)
        told.append((state, row["now"], row["seq"]))

    await remember(agent)
    for number in range(3):
        change = ConfigureAgent(
            id=agent.id, version=told[-1][0].version, capabilities=(f"c{number}",)
        )
        await remember(await ask(agents.configure, change))
    await remember(await ask(agents.suspend, agents.SuspendAgent(id=agent.id)))
    return told


async def test_an_entity_is_shown_as_it_was_at_each_time(ask, story):
    for state, now, _ in story:
        found = await ask(events.entity_at, EntityAt(type="agent", id=state.id, at=now))
        assert found.state == state.model_dump(mode="json")
        assert found.version == state.version


async def test_an_entity_is_shown_as_it_was_at_each_position(ask, story):
    for state, _, seq in story:
        found = await ask(events.entity_at, EntityAt(type="agent", id=state.id, seq=seq))
        assert found.state == state.model_dump(mode="json")
        assert found.seq <= seq


async def test_without_a_moment_it_is_shown_as_it_is(ask, story):
    last = story[-1][0]
    live = await ask(agents.get, GetAgent(id=last.id))
    found = await ask(events.entity_at, EntityAt(type="agent", id=last.id))

    assert found.state == live.model_dump(mode="json")
    assert found.type == "agents.moved"


async def test_of_two_moments_the_earlier_counts(ask, story):
    (first, then, seq), (last, now, end) = story[0], story[-1]
    for at, position in ((then, end), (now, seq)):
        found = await ask(events.entity_at, EntityAt(type="agent", id=last.id, at=at, seq=position))
        assert found.version == first.version


async def test_before_its_beginning_there_was_no_such_thing(ask, story):
    thing, _, seq = story[0]
    [row] = await look_first(ask, thing.id)
    for how in ({"seq": row.seq - 1}, {"at": "2020-01-01T00:00:00Z"}):
        with pytest.raises(NotFound):
            await ask(events.entity_at, EntityAt(type="agent", id=thing.id, **how))
    with pytest.raises(NotFound):
        await ask(events.entity_at, EntityAt(type="goal", id=thing.id, seq=seq))


async def look_first(ask, thing):
    page = await ask(events.query, events.QueryEvents(aggregate_id=thing, limit=1))
    return page.items


async def test_a_time_without_a_zone_is_refused(ask, platform):
    with pytest.raises(ValueError, match="zone"):
        EntityAt(type="agent", id="00000000-0000-7000-8000-000000000000", at="2026-01-01T00:00:00")


async def test_whoever_may_not_see_it_now_does_not_see_it_then(ask, ask_as, story):
    thing, now, _ = story[0]
    viewer = ask_as("viewer", "eve")
    asked = EntityAt(type="agent", id=thing.id, at=now)
    assert (await viewer(events.entity_at, asked)).version == 1
    denial = Give(subject="user:eve", permission="agents:read", thing=thing.id, allow=False)
    await ask(grants.give, denial)

    async def hidden():
        try:
            await viewer(events.entity_at, asked)
        except NotFound:
            return True
        return False

    await eventually(hidden)


async def test_a_denial_of_events_on_one_thing_hides_its_past(ask, ask_as, story):
    thing, now, _ = story[0]
    viewer = ask_as("viewer", "ned")
    asked = EntityAt(type="agent", id=thing.id, at=now)
    denial = Give(subject="user:ned", permission="events:read", thing=thing.id, allow=False)
    await ask(grants.give, denial)

    async def hidden():
        try:
            await viewer(events.entity_at, asked)
        except NotFound:
            return True
        return False

    await eventually(hidden)


async def test_the_past_of_somebody_elses_key_is_hidden(ask, ask_as, platform):
    issued = await ask_as("developer", "ann")(keys.issue_key, IssueKey(name="k"))
    asked = EntityAt(type="api_key", id=issued.key.id)

    assert (await ask_as("developer", "ann")(events.entity_at, asked)).version == 1
    with pytest.raises(NotFound):
        await ask_as("developer", "bob")(events.entity_at, asked)
