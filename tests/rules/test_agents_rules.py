"""Which agent is given the work: capabilities, room and success weighed, and who cannot is not."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from handlers.agents import rules
from schemas.agents import Agent, AgentConfig, AgentLimits

AT = datetime(2026, 11, 23, tzinfo=UTC)
CAPABILITIES = ("read", "write", "compare")
SHARES = st.floats(0, 1, allow_nan=False)


@st.composite
def candidates(draw: st.DrawFn) -> list[tuple[Agent, float]]:
    """Agents with room, and how much of what they did has succeeded."""
    found = []
    for number in range(draw(st.integers(0, 6))):
        parallel = draw(st.integers(1, 5))
        agent = Agent(
            id=f"00000000-0000-7000-8000-{number:012}", version=1, name=f"a{number}",
            agent_type="general", status="idle", status_reason=None, owner_id="ada",
            capabilities=tuple(sorted(draw(st.sets(st.sampled_from(CAPABILITIES))))),
            config=AgentConfig(), limits=AgentLimits(parallel=parallel),
            running=draw(st.integers(0, parallel - 1)), created_at=AT + timedelta(seconds=number),
            updated_at=AT, terminated_at=None,
        )  # fmt: skip
        found.append((agent, draw(SHARES)))
    return found


@given(candidates(), st.sets(st.sampled_from(CAPABILITIES)))
def test_the_best_has_every_capability_and_nobody_who_has_them_weighs_more(given_agents, wanted):
    asked = tuple(sorted(wanted))
    best = rules.best_agent(given_agents, asked)
    able = [(a, s) for a, s in given_agents if wanted <= set(a.capabilities)]
    if best is None:
        assert able == []
        return
    assert wanted <= set(best.capabilities)
    scores = {a.id: rules.fit(a, asked, s) for a, s in able}
    assert scores[best.id] == max(scores.values())
    equals = [a for a, _ in able if scores[a.id] == scores[best.id]]
    assert best == min(equals, key=lambda a: a.created_at), "of equals the oldest"


@given(candidates(), SHARES)
def test_the_weights_are_half_for_capabilities_three_tenths_for_room_the_rest_for_success(
    given_agents, success
):
    for agent, _ in given_agents:
        free = 1 - agent.running / agent.limits.parallel
        share = len(agent.capabilities) / len(CAPABILITIES)
        score = rules.fit(agent, CAPABILITIES, success)
        assert abs(score - (0.5 * share + 0.3 * free + 0.2 * success)) < 1e-9
        assert 0 <= score <= 1 + 1e-9
