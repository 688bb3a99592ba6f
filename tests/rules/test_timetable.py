"""Times of schedules, over all the days on which clocks are set; nothing else decides when one fires."""

from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from handlers.workflows import timetable
from handlers.workflows.timetable import becomes, due, firing_id, next_times, shown_times
from schemas.workflows.schedules import BadTiming, Timing, WorkflowSchedule

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu",
         "America/Santiago", "Pacific/Apia", "Africa/Casablanca", "Europe/Dublin")  # fmt: skip
STILL = ("UTC", "Asia/Kathmandu")
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def at(text):
    return datetime.fromisoformat(text)


def times(cron, zone, after, count=1):
    return [
        t.isoformat() for t in shown_times(Timing(cron=cron, zone=zone), at(after), EPOCH, count)
    ]


def some(values, most):
    chosen = st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)
    return chosen.map(lambda numbers: ",".join(map(str, sorted(numbers))))


NAMED = st.tuples(some(range(60), 3), some(range(24), 4)).map(lambda parts: (*parts, "*", "*", "*"))
STEPS = st.tuples(
    st.sampled_from(["*", "*/7", "*/15", "*/30", "5", "0,30"]),
    st.sampled_from(["*", "*/2", "*/3", "1-4", "2"]),
    st.just("*"), st.just("*"), st.just("*"),
).filter(lambda fields: fields[0].startswith("*") or fields[1].startswith("*"))  # fmt: skip
CRONS = (NAMED | STEPS).map(" ".join)
DAYS = st.dates(at("2011-12-28").date(), at("2030-12-31").date())


def set_days(zone):
    """The days between these years on which the clock of a zone is set."""
    found, day = [], at("2011-01-01T12:00:00+00:00")
    while day.year < 2031:
        if day.astimezone(zone).utcoffset() != (day + DAY).astimezone(zone).utcoffset():
            found.append(day)
        day += DAY
    return found


SET = {zone: set_days(ZoneInfo(zone)) for zone in ZONES if zone not in STILL}


@st.composite
def moments(draw):
    """A zone and a moment: mostly near one at which its clock is set."""
    zone = draw(st.sampled_from(ZONES))
    day = draw(st.sampled_from(SET[zone])) if zone in SET else at("2026-03-29T00:00:00+00:00")
    return zone, day + timedelta(minutes=draw(st.integers(-1800, 1800)))


def wall_of(moment, zone):
    return moment.astimezone(zone).replace(tzinfo=None)


def allowed(field):
    """The numbers of a field; says once more what an expression means, in another way."""
    found = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = ("0-59" if span == "*" else span).partition("-")
        found |= set(range(int(low), int(high or low) + 1, int(step or 1)))
    return found


def expected(cron, zone, after, until):
    """Minute by minute: what the clock shows, and what it leaps over."""
    named = not any(field.startswith("*") for field in cron.split()[:2])
    minutes, hours = map(allowed, cron.split()[:2])
    found, moment, before = [], after.replace(second=0), wall_of(after, zone)
    while (moment := moment + MINUTE) <= until:
        local = moment.astimezone(zone)
        wall = local.replace(tzinfo=None, fold=0)
        leapt = [before + n * MINUTE for n in range(1, (wall - before) // MINUTE)]
        before = wall
        hit = wall.minute in minutes and wall.hour in hours
        if named:
            hit = hit and not local.fold
            hit = hit or any(w.minute in minutes and w.hour in hours for w in leapt)
        found += [moment] if hit else []
    return found


@settings(max_examples=60, deadline=None)
@given(CRONS, moments())
def test_times_are_those_that_the_clock_shows_and_those_that_it_leaps_over(cron, place):
    zone, after = place
    until = after + timedelta(hours=30)
    timing = Timing(cron=cron, zone=zone)

    found = list(takewhile(lambda t: t <= until, next_times(timing, after, EPOCH)))

    assert found == expected(cron, ZoneInfo(zone), after, until)


@settings(max_examples=60, deadline=None)
@given(CRONS, moments(), st.integers(1, 20))
def test_times_are_later_and_later_and_the_same_wherever_one_begins(cron, place, skip):
    zone, after = place
    timing = Timing(cron=cron, zone=zone)
    found = list(islice(next_times(timing, after, EPOCH), skip + 5))
    assert found == sorted(set(found))
    assert found[0] > after

    again = list(islice(next_times(timing, found[skip - 1], EPOCH), 5))

    assert again == found[skip : skip + 5]


@pytest.mark.parametrize(
    ("cron", "zone", "after", "told"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00",
         ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"]),
        ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00+00:00",
         ["2026-03-29T03:00:00+02:00", "2026-03-30T02:00:00+02:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00+00:00",
         ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T00:00:00+00:00",
         ["2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T02:30:00+01:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00+00:00",
         ["2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00"]),
        ("*/15 5 * * *", "Australia/Lord_Howe", "2026-04-04T12:00:00+00:00",
         ["2026-04-05T05:00:00+10:30", "2026-04-05T05:15:00+10:30"]),
        ("0 12 30 12 *", "Pacific/Apia", "2011-12-29T12:00:00+00:00",
         ["2011-12-31T00:00:00+14:00", "2012-12-30T12:00:00+14:00"]),
        ("0 9 * * MON-FRI", "Europe/Berlin", "2026-11-27T12:00:00+00:00",
         ["2026-11-30T09:00:00+01:00"]),
        ("0 0 L * *", "UTC", "2028-02-10T00:00:00+00:00", ["2028-02-29T00:00:00+00:00"]),
    ],
    ids=["leapt over", "leapt over twice", "shown twice", "whenever", "not there", "half an hour",
         "a whole day", "working days", "the last day"],
)  # fmt: skip
def test_known_days(cron, zone, after, told):
    assert times(cron, zone, after, len(told)) == told


@pytest.mark.parametrize(
    ("cron", "zone", "field"),
    [("0 9 * *", "UTC", "cron"), ("60 * * * *", "UTC", "cron"), ("0 0 31 2 *", "UTC", "cron"),
     ("* * * * * *", "UTC", "cron"), ("0 0 29 2 MON#5 x", "UTC", "cron"), ("", "UTC", "cron"),
     ("0 9 * * *", "Europe/Atlantis", "zone"), ("0 9 * * *", "../etc/passwd", "zone"),
     ("0 9 * * *", "Europe", "zone"), ("0 9 * * *", "", "zone")],
    ids=range(10),
)  # fmt: skip
def test_what_is_no_time_is_told_with_its_field(cron, zone, field):
    with pytest.raises(BadTiming) as refused:
        timetable.first_time(Timing(cron=cron, zone=zone), EPOCH, EPOCH)
    assert refused.value.details["field"] == field


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789*/,-#LW JANMO٣", max_size=24))
def test_any_text_is_either_times_or_a_problem(cron):
    assume(cron.strip())
    try:
        first = timetable.first_time(Timing(cron=cron, zone="Europe/Berlin"), EPOCH, EPOCH)
    except BadTiming:
        return
    assert first > EPOCH


@pytest.mark.parametrize("year", [1, 1900, 2200, 9999], ids=str)
def test_times_beyond_all_calendars_are_refused(year):
    with pytest.raises(BadTiming):
        shown_times(Timing(cron="0 0 * * *"), datetime(year, 1, 1, tzinfo=UTC), EPOCH, 1)


@given(st.integers(1, 10_000), st.integers(0, 10**7))
def test_an_interval_counts_from_its_beginning_however_late_one_asks(every_s, late_s):
    after = EPOCH + timedelta(seconds=late_s)
    [first, second] = islice(next_times(Timing(every_s=every_s), after, EPOCH), 2)
    assert (first - EPOCH) % timedelta(seconds=every_s) == timedelta()
    assert timedelta() < first - after <= timedelta(seconds=every_s)
    assert second - first == timedelta(seconds=every_s)


def schedule(**fields):
    return WorkflowSchedule.model_validate({
        "id": "0" * 8 + "-0000-7000-8000-" + "0" * 12, "version": 1, "name": "s", "owner_id": "o",
        "workflow_id": "0" * 8 + "-0000-7000-8000-" + "0" * 12, "status": "active", "inputs": {},
        "cron": None, "zone": "UTC", "every_s": None, "catch_up": "one", "catch_up_max": 10,
        "overlap": "skip", "counted_from": EPOCH, "created_at": EPOCH, "updated_at": EPOCH,
    } | fields)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["*/5 * * * *", "0 9 * * *", "30 2 * * SUN", "0 0 1 * *", None]),
    st.sampled_from(["none", "one", "all"]), st.integers(1, 20), moments(), st.integers(0, 10**6),
)  # fmt: skip
def test_of_the_times_that_have_passed_the_newest_count_and_none_comes_again(
    cron, catch_up, most, place, away_s
):
    zone, begin = place
    made = schedule(
        cron=cron, zone=zone if cron else "UTC", every_s=None if cron else 7919, catch_up=catch_up,
        catch_up_max=most, counted_from=begin,
    )  # fmt: skip
    next_at = next(next_times(made.timing, begin, begin))
    until = next_at + timedelta(seconds=away_s)
    every = list(takewhile(lambda t: t <= until, next_times(made.timing, begin, begin)))

    found = due(made, next_at, until)

    wanted = most if catch_up == "all" else 1
    assert list(found.times) == every[-wanted:]
    assert found.missed == (catch_up == "none" and every[-1] < until - MINUTE)
    assert found.passed_from == (every[0] if len(every) > len(found.times) else None)
    assert found.next_at == next(next_times(made.timing, until, begin))
    assert len({firing_id(made.id, time) for time in every}) == len(every)


def test_what_becomes_of_a_time_follows_from_what_goes_on():
    assert becomes("allow", busy=True, queued=False) == "due"
    assert becomes("skip", busy=False, queued=False) == "due"
    assert becomes("skip", busy=True, queued=False) == "skipped"
    assert becomes("queue", busy=False, queued=False) == "due"
    assert becomes("queue", busy=True, queued=False) == "queued"
    assert becomes("queue", busy=True, queued=True) == "skipped"


def test_a_schedule_says_one_of_both():
    for both in ({}, {"cron": "0 9 * * *", "every_s": 5}):
        with pytest.raises(ValueError, match="one of cron and every_s"):
            Timing(**both)
