"""Whose turn it is when more runs wait than there is room for. Pure.

Two questions, asked one after the other:

    which owner     whose most urgent run comes first; of equal ones the owner who has less in
                    hand, then the one whose last turn is longer ago
    which run       of his the most urgent; of equal ones the oldest

Waiting raises a priority by one for each `STEP`, up to the first. Between owners only the time
counts since the last turn of an owner who has nothing in hand: a thousand runs that one owner has
left lying do not become more urgent than the first run of another.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

STEP = timedelta(minutes=1)
FIRST = 1
NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that waits, since when, and how urgent it was then; 1 comes first."""

    run_id: str
    owner_id: str
    priority: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """What an owner has had: so many in hand, and his last turn."""

    in_hand: int = 0
    turn_at: datetime | None = None


def raised(priority: int, since: datetime, at: datetime) -> int:
    """What waiting makes of a priority."""
    return max(FIRST, priority - max(0, (at - since) // STEP))


def first_of(waiting: Iterable[Waiting], at: datetime) -> Waiting:
    """Which run of one owner comes first."""
    return min(waiting, key=lambda w: (raised(w.priority, w.since, at), w.since, w.run_id))


def urgency(own: Iterable[Waiting], standing: Standing, at: datetime) -> int:
    """How urgent the most urgent run of an owner is, beside those of other owners."""
    if standing.in_hand:
        return min(w.priority for w in own)
    turn_at = standing.turn_at or NEVER
    return min(raised(w.priority, max(w.since, turn_at), at) for w in own)


def chosen(
    waiting: Iterable[Waiting], standings: Mapping[str, Standing], room: int, at: datetime
) -> list[Waiting]:
    """Those that have their turn, in its order.

    Args:
        waiting: Who waits; of each owner and priority the oldest are enough.
        standings: Of the owners who have or had something.
        room: How many may have a turn.
        at: Now.
    """
    owners, had, turns = defaultdict[str, list[Waiting]](list), dict(standings), list[Waiting]()
    for one in waiting:
        owners[one.owner_id].append(one)

    def claim(owner: str) -> tuple[int, int, datetime, datetime, str]:
        own, standing = owners[owner], had.get(owner, Standing())
        oldest = min(w.since for w in own)
        last = standing.turn_at or NEVER
        return urgency(own, standing, at), standing.in_hand, last, oldest, owner

    while owners and len(turns) < room:
        owner = min(owners, key=claim)
        turn = first_of(owners[owner], at)
        turns.append(turn)
        had[owner] = Standing(had.get(owner, Standing()).in_hand + 1, at)
        owners[owner].remove(turn)
        if not owners[owner]:
            del owners[owner]
    return turns
