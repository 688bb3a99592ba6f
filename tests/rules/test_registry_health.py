"""How a service is: told at once when it matters, and not again and again when it flaps."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus import stopping
from handlers.registry import calls, health
from handlers.registry.health import FALL, PENALTY_MAX, RELEASE_AT, RISE, SUPPRESS_AT, Health
from schemas.problems import Internal, NotFound, TimedOut

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANY = st.tuples(
    st.floats(-5, 400),
    st.one_of(
        st.booleans().map(lambda well: ("check", well)),
        st.booleans().map(lambda present: ("roll call", present)),
        st.floats(-60, 60).map(lambda lease_s: ("lease", lease_s)),
        st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda calls: ("calls", calls)),
        st.just(("time", None)),
    ),
)
WORLDS = st.lists(ANY, max_size=60)
few = settings(max_examples=40)


def after(before, at, what, value):
    match what:
        case "check":
            return health.checked(before, at, well=value)
        case "roll call":
            return health.seen(before, at, present=value)
        case "lease":
            return health.leased(before, at, at + timedelta(seconds=value))
        case "calls":
            return health.called(before, at, good=value[0], bad=value[1])
    return health.passed(before, at)


def history(world):
    """How it was after each thing that happened, with the time."""
    at, states = AT, [Health(at=AT)]
    for elapsed_s, (what, value) in world:
        at += timedelta(seconds=elapsed_s)
        states.append(after(states[-1], at, what, value))
    return states


def checks(said, every_s=30.0, begin=None):
    state = begin or Health(at=AT)
    for well in said:
        state = health.checked(state, state.at + timedelta(seconds=every_s), well=well)
    return state


def turns(states):
    return sum(a.status != b.status for a, b in pairwise(states))


def test_it_is_unwell_at_the_third_failure_in_a_row_and_well_at_the_second_success():
    assert checks([False] * (FALL - 1)).status == "ready"
    unwell = checks([False] * FALL)
    assert unwell.status == "unhealthy"
    assert unwell.reason == "3 checks in a row have failed."
    assert checks([True] * (RISE - 1), begin=unwell).status == "unhealthy"
    assert checks([True] * RISE, begin=unwell).status == "ready"


@few
@given(st.lists(st.booleans(), max_size=200))
def test_fewer_failures_in_a_row_than_that_never_show(said):
    for number, well in enumerate(said):
        if not well and number >= FALL - 1 and not any(said[number - FALL + 1 : number]):
            said[number] = True
    assert checks(said).status == "ready"


@pytest.mark.parametrize(
    ("good", "bad", "status"),
    [(9, 0, "ready"), (1, 8, "ready"), (85, 15, "ready"), (80, 20, "degraded"),
     (50, 50, "unhealthy"), (0, 10, "unhealthy")],
)  # fmt: skip
def test_calls_that_fail_show_when_there_are_enough(good, bad, status):
    assert health.called(Health(at=AT), AT, good=good, bad=bad).status == status


def test_a_share_of_errors_between_two_thresholds_leaves_it_as_it_is():
    fine = health.called(Health(at=AT), AT, good=85, bad=15)
    bad = health.called(Health(at=AT), AT, good=75, bad=25)
    for state, status in ((fine, "ready"), (bad, "degraded")):
        again = health.called(state, AT, good=85, bad=15)
        assert again.status == status


def test_what_calls_said_is_forgotten_when_nobody_calls_any_more():
    unwell = health.called(Health(at=AT), AT, good=0, bad=64)
    assert unwell.status == "unhealthy"
    assert health.passed(unwell, AT + timedelta(minutes=5)).status == "unhealthy"
    assert health.passed(unwell, AT + timedelta(minutes=7)).status == "ready"


def test_what_comes_and_goes_is_flapping_and_must_then_hold_still():
    state, said = Health(at=AT), []
    for second in range(0, 3600, 10):
        at = AT + timedelta(seconds=second)
        state = health.seen(state, at, present=second % 20 == 0)
        said.append(state.status)
    assert said[0] == "ready"
    assert set(said[5:]) == {"flapping"}
    steady = health.seen(state, state.at, present=True)
    still_s = health.HALF_LIFE_S * 2
    assert health.passed(steady, at + timedelta(seconds=60)).status == "flapping"
    assert health.passed(steady, at + timedelta(seconds=still_s + 1)).status == "ready"


@few
@given(WORLDS)
def test_a_penalty_is_bounded_and_grows_only_by_a_turn_for_the_worse(world):
    states = history(world)
    for before, state in pairwise(states):
        assert 0 <= state.penalty <= PENALTY_MAX
        assert state.at >= before.at
        worse = health.RANK[state.condition] > health.RANK[before.condition]
        assert worse or state.penalty <= before.penalty


@few
@given(WORLDS)
def test_it_is_flapping_from_one_threshold_down_to_the_other(world):
    states = history(world)
    for before, state in pairwise(states):
        if state.flapping != before.flapping:
            assert state.penalty >= SUPPRESS_AT if state.flapping else state.penalty < RELEASE_AT
        assert state.status == ("flapping" if state.flapping else state.condition)


@few
@given(WORLDS)
def test_unhealthy_since_is_the_beginning_of_the_present_stretch(world):
    states, since = history(world), None
    for state in states:
        unwell = health.RANK[state.condition] >= health.RANK["unhealthy"]
        since = (since or state.at) if unwell else None
        assert state.unhealthy_since == since


@few
@given(st.lists(st.tuples(st.floats(0.1, 20), st.booleans()), min_size=50, max_size=400))
def test_however_it_flaps_little_is_announced(world):
    """Each turn but into flapping costs at least half a point, and 2.5 points are too many.

    Within one half-life no more than that many points fit; a stay in flapping lasts longer than
    one.
    """
    states = history([(elapsed_s, ("roll call", present)) for elapsed_s, present in world])
    minutes = (states[-1].at - AT).total_seconds() / 60
    a_half_life_holds = 2 * (2 * SUPPRESS_AT + 1) + 2
    assert turns(states) <= a_half_life_holds * (1 + minutes * 60 / health.HALF_LIFE_S)


@few
@given(WORLDS)
def test_time_alone_changes_nothing_before_the_next_look(world):
    state = history(world)[-1]
    look = health.next_look(state)
    until = look - timedelta(seconds=0.01) if look else state.at + timedelta(days=1)
    if until > state.at:
        quiet = health.passed(state, until)
        assert quiet.status == state.status
    if look:
        then = health.passed(state, look)
        forgotten = state.calls > 0 and then.calls == 0
        assert forgotten or (state.flapping and not then.flapping)


@few
@given(WORLDS)
def test_what_is_remembered_survives_its_row(world):
    state = history(world)[-1]
    assert Health.model_validate_json(state.model_dump_json()) == state


@few
@given(WORLDS)
def test_whatever_happened_good_hours_end_ready_and_bad_ones_unhealthy(world):
    state = history(world)[-1]
    at = state.at
    for well, status in ((False, "unhealthy"), (True, "ready")):
        for _ in range(120):
            at += timedelta(seconds=60)
            state = health.checked(health.seen(state, at, present=True), at, well=well)
            state = health.leased(state, at, at + timedelta(seconds=1))
        assert state.status == status


@few
@given(WORLDS)
def test_what_is_registered_anew_keeps_its_penalty_and_nothing_else(world):
    state = history(world)[-1]
    new = health.forgiven(state, state.at)
    assert (new.penalty, new.flapping) == (state.penalty, state.flapping)
    assert new.condition == "ready"


@pytest.mark.parametrize(
    ("ended_by", "counts"),
    [
        (None, (1, 0)),
        (NotFound(), (1, 0)),
        (Internal(), (0, 1)),
        (TimedOut(), (0, 1)),
        (asyncio.CancelledError(), (0, 1)),
        (asyncio.CancelledError(stopping.FOR_GOOD), None),
        (ValueError("no such answer was promised"), (0, 1)),
    ],
    ids=["answered", "refused", "broken", "too late", "cut off", "stopped", "unreadable"],
)
def test_a_call_counts_against_its_service_however_it_fails(ended_by, counts):
    async def call():
        with calls.counted("weather"):
            if ended_by is not None:
                raise ended_by

    calls.taken()
    if ended_by is None:
        asyncio.run(call())
    else:
        with pytest.raises(type(ended_by)):
            asyncio.run(call())
    assert calls.taken().get("weather") == counts
