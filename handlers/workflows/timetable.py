"""When a schedule is due. Pure: what it says and a moment in; the moments behind it out.

A cron expression is read on the wall clock of its zone. On the days on which the clock is set, the
rule is that of Debian's cron:

    minute and hour are named     once: a time that the clock leaps over comes as soon as it has
                                  leapt, one that it shows twice comes the first time
    one of them begins with `*`   whenever the clock shows it: not in an hour that is left out,
                                  twice in an hour that comes twice

The wall clock's times are found by cronsim without any zone; what the zone makes of them is here.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice, takewhile
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from schemas.workflows.schedules import BadTiming, FiringStatus, Overlap, Timing, WorkflowSchedule

CRON_FIELDS = 5
LATE = timedelta(minutes=1)
LOOK_BACK = timedelta(hours=1)
LOOK_FURTHER = 4
YEARS = range(1970, 2200)
A_MINUTE, A_SECOND = timedelta(minutes=1), timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Due:
    """What is due of a schedule.

    Args:
        times: The times that something becomes of, oldest first; the others are passed over.
        missed: Whether they are too long ago to count.
        passed_from: The oldest time that is passed over, if any is.
        next_at: The first time that is still to come.
    """

    times: tuple[datetime, ...]
    missed: bool
    passed_from: datetime | None
    next_at: datetime | None


@cache
def zones() -> frozenset[str]:
    """Every zone that this machine knows; looking them up reads hundreds of files."""
    return frozenset(available_timezones())


def zone_of(timing: Timing) -> ZoneInfo:
    """The zone of a timing.

    Raises:
        BadTiming: There is none of this name.
    """
    if timing.zone not in zones():
        raise BadTiming(f"There is no time zone {timing.zone!r}.", field="zone")
    return ZoneInfo(timing.zone)


def walls_of(cron: str, after: datetime) -> CronSim:
    """The times of a wall clock that is never set, behind one of them.

    Raises:
        BadTiming: This is no cron expression.
    """
    if len(cron.split()) != CRON_FIELDS:
        raise BadTiming("A cron expression has five fields.", field="cron")
    try:
        return CronSim(cron, after)
    except CronSimError as bad:
        raise BadTiming(f"The cron expression is wrong: {bad}.", field="cron") from None


def first_time(timing: Timing, after: datetime, counted_from: datetime) -> datetime:
    """The first time behind a moment.

    Raises:
        BadTiming: The expression or the zone is none, or no such time ever comes.
    """
    found = next(next_times(timing, after, counted_from), None)
    if found is None:
        raise BadTiming("No such time ever comes.", field="cron")
    return found


def next_times(timing: Timing, after: datetime, counted_from: datetime) -> Iterator[datetime]:
    """The times behind a moment, in UTC, each later than the one before.

    Args:
        timing: When.
        after: The moment; a time that is exactly then does not come.
        counted_from: From when an interval counts.

    Raises:
        BadTiming: The expression or the zone is none.
    """
    if after.year not in YEARS:
        raise BadTiming(f"Times are known from {YEARS.start} to {YEARS.stop}.", field="after")
    last = after.astimezone(UTC)
    for found in (
        by_interval(timing, last, counted_from) if timing.every_s else by_clock(timing, last)
    ):
        if found > last:
            last = found
            yield found


def by_interval(timing: Timing, after: datetime, counted_from: datetime) -> Iterator[datetime]:
    """Every so many seconds."""
    step = timedelta(seconds=timing.every_s or 1)
    count = max(0, (after - counted_from) // step)
    while True:
        count += 1
        yield (counted_from + count * step).astimezone(UTC)


def by_clock(timing: Timing, after: datetime) -> Iterator[datetime]:
    """By the wall clock of a zone; those that come twice not yet sorted out."""
    zone, cron = zone_of(timing), timing.cron or ""
    local = after.astimezone(zone)
    walls = walls_of(cron, local.replace(tzinfo=None) - repeated(local))
    minute, hour, *_ = cron.split()
    if minute.startswith("*") or hour.startswith("*"):
        yield from whenever_shown(walls, zone)
    else:
        yield from (once(wall, zone) for wall in walls)


def repeated(local: datetime) -> timedelta:
    """How much of the clock comes twice around a moment; usually nothing."""
    first, second = (local.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1))
    return max(first - second, timedelta())


def whenever_shown(walls: Iterator[datetime], zone: ZoneInfo) -> Iterator[datetime]:
    """Each moment at which the clock shows one of these times, in order."""
    second_pass = deque[datetime]()
    for wall in walls:
        moments = shown(wall, zone)
        while second_pass and moments and second_pass[0] < moments[0]:
            yield second_pass.popleft()
        yield from moments[:1]
        second_pass += moments[1:]
    yield from second_pass


def once(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first moment at which the clock shows this time, or has leapt over it."""
    while not (moments := shown(wall, zone)):
        wall += A_MINUTE
    return moments[0]


def shown(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """The moments at which the clock of a zone shows a time: one, two, or none."""
    moments = {wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)}
    return sorted(m for m in moments if m.astimezone(zone).replace(tzinfo=None) == wall)


def shown_times(
    timing: Timing, after: datetime, counted_from: datetime, count: int
) -> tuple[datetime, ...]:
    """The next times as people read them: on the clock of their zone.

    Raises:
        BadTiming: The expression or the zone is none.
    """
    zone = zone_of(timing)
    times = next_times(timing, after, counted_from)
    return tuple(time.astimezone(zone) for time in islice(times, count))


def due(schedule: WorkflowSchedule, next_at: datetime, at: datetime) -> Due:
    """What is due of a schedule now, of all times since `next_at`.

    Raises:
        BadTiming: Its zone is not known any more.
    """
    wanted = schedule.catch_up_max if schedule.catch_up == "all" else 1
    times = newest(schedule, next_at, at, wanted)
    late = schedule.catch_up == "none" and bool(times) and times[-1] < at - LATE
    first = next(next_times(schedule.timing, next_at - A_SECOND, schedule.counted_from), None)
    return Due(
        times=times,
        missed=late,
        passed_from=first if times and first is not None and first < times[0] else None,
        next_at=next(next_times(schedule.timing, at, schedule.counted_from), None),
    )


def newest(
    schedule: WorkflowSchedule, since: datetime, until: datetime, wanted: int
) -> tuple[datetime, ...]:
    """The newest of the times from one moment to another, both included.

    It looks back further and further: after months, not every minute of them is counted.
    """
    back = LOOK_BACK
    while True:
        begin = max(since, until - back)
        behind = next_times(schedule.timing, begin - A_SECOND, schedule.counted_from)
        found = deque(takewhile(lambda time: time <= until, behind), maxlen=wanted)
        if begin == since or len(found) == wanted:
            return tuple(time for time in found if time >= since)
        back *= LOOK_FURTHER


def becomes(overlap: Overlap, *, busy: bool, queued: bool) -> FiringStatus:
    """What becomes of a time that has come, by what its schedule is doing already."""
    if overlap == "allow" or not busy:
        return "due"
    return "queued" if overlap == "queue" and not queued else "skipped"


def firing_id(schedule_id: str, due_at: datetime) -> str:
    """The id of a time: the same for whoever records it, so that it is recorded once."""
    return str(uuid5(UUID(schedule_id), due_at.isoformat()))
