"""When the events of a replay are due, with a clock that the test owns."""

from datetime import UTC, datetime, timedelta

import pytest

from handlers.events.pacing import CATCH_UP_S, Pace

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
NOW = 1_000_000.0


def moments(*seconds: float) -> list[datetime]:
    return [BEGAN + timedelta(seconds=each) for each in seconds]


def due_times(pace: Pace, recorded: list[datetime]) -> list[float]:
    """When each is played by somebody who sleeps exactly as long as is said."""
    now, played = NOW, []
    while recorded:
        count, wait_s = pace.take(recorded, now)
        played += [now - NOW] * count
        recorded, now = recorded[count:], now + wait_s
    return played


def test_without_a_speed_everything_is_due_at_once():
    assert Pace(None, None).take(moments(0, 5, 500), NOW) == (3, 0.0)


@pytest.mark.parametrize("speed", [0.5, 1.0, 10.0])
def test_at_a_speed_the_distances_are_kept_in_proportion(speed):
    happened = (0.0, 1.0, 1.0, 4.0)
    expected = [each / speed for each in happened]

    assert due_times(Pace(speed, None), moments(*happened)) == pytest.approx(expected)


def test_at_a_rate_events_are_evenly_apart_whenever_they_happened():
    assert due_times(Pace(None, 4), moments(0, 100, 100, 100)) == pytest.approx(
        [0, 0.25, 0.5, 0.75]
    )


def test_with_both_it_is_never_faster_than_either():
    assert due_times(Pace(1.0, 2), moments(0, 0.1, 3)) == pytest.approx([0, 0.5, 3.4])


def test_what_was_recorded_out_of_order_adds_no_wait():
    assert due_times(Pace(1.0, None), moments(0, 2, 1, 2)) == pytest.approx([0, 2, 2, 2])


def test_whoever_goes_on_waits_for_the_rest_of_the_distance():
    pace = Pace(1.0, None, at=NOW - 3, recorded=BEGAN)

    assert pace.take(moments(5), NOW) == (0, pytest.approx(2.0))


def test_after_a_long_absence_only_a_second_is_caught_up():
    pace = Pace(None, 10, at=NOW - 3600, recorded=BEGAN)
    count, _ = pace.take(moments(*range(1000)), NOW)

    assert count == pytest.approx(CATCH_UP_S * 10, abs=2)
