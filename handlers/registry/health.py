"""How a service is, told from checks, calls, its lease and its answers, without every twitch. Pure.

    ready -> degraded -> unhealthy -> lost      the condition: what is so now
    flapping                                    shown instead, while there were too many turns

A turn for the worse costs a penalty, which halves every five minutes: at `SUPPRESS_AT` the service
is flapping, whatever its condition, and stays so until the penalty is below `RELEASE_AT`. So what
comes and goes is announced a few times and then not again until it holds still (as routes are
damped in RFC 2439). Each threshold has another value for the way back.
"""

import math
from datetime import datetime, timedelta
from typing import Any, Literal

from schemas.contract import Schema
from schemas.registry import Status

FALL, RISE = 3, 2
"""So many checks in a row fail until it is unwell, and succeed until it is well again."""
HALF_LIFE_S = 300.0
SUPPRESS_AT, RELEASE_AT, PENALTY_MAX = 2.5, 1.0, 4.0
CALLS_HALF_LIFE_S = 60.0
CALLS_MIN, CALLS_FORGOTTEN = 10.0, 1.0
"""Fewer calls say nothing; when fewer than one is remembered, what they said is forgotten."""
DEGRADED_FROM, DEGRADED_BELOW = 0.2, 0.1
UNHEALTHY_FROM, UNHEALTHY_BELOW = 0.5, 0.25

Condition = Literal["ready", "degraded", "unhealthy", "lost"]
RANK: dict[Condition, int] = {"ready": 0, "degraded": 1, "unhealthy": 2, "lost": 3}
PENALTIES: dict[Condition, float] = {"ready": 0.0, "degraded": 0.5, "unhealthy": 1.0, "lost": 1.0}


class Health(Schema):
    """What is remembered of one service.

    Args:
        at: When this was so.
        present: It answers the roll call; what was registered counts as present.
        leased: Its lease has not ended; what answers by itself needs none.
        checks: What checks said, once enough of them in a row had said it.
        against: How many checks in a row say otherwise.
        calls: How many calls there were; each counts half after a minute.
        errors: How many of them failed by the service's own fault.
        said_by_calls: What they say.
        penalty: For its turns for the worse.
        flapping: Whether there were too many.
        unhealthy_since: Since when it is unhealthy or worse without a break.
    """

    at: datetime
    present: bool = True
    leased: bool = True
    checks: bool = True
    against: int = 0
    calls: float = 0.0
    errors: float = 0.0
    said_by_calls: Condition = "ready"
    penalty: float = 0.0
    flapping: bool = False
    unhealthy_since: datetime | None = None

    @property
    def condition(self) -> Condition:
        """What is so now, damped by nothing but the thresholds."""
        if not self.present:
            return "lost"
        return "unhealthy" if not (self.leased and self.checks) else self.said_by_calls

    @property
    def status(self) -> Status:
        """What is shown."""
        return "flapping" if self.flapping else self.condition

    @property
    def reason(self) -> str | None:
        """Why it is not ready."""
        if self.status == "ready":
            return None
        if self.flapping:
            return "It was well and unwell in turns; it must hold still for some minutes."
        if not self.present:
            return "Nobody answers for it."
        if not self.leased:
            return "Its lease has ended."
        if not self.checks:
            return f"{FALL} checks in a row have failed."
        return f"{100 * self.errors / self.calls:.0f} % of its calls fail."


def checked(health: Health, at: datetime, *, well: bool) -> Health:
    """After one check."""
    if well == health.checks:
        return turned(health, at, against=0)
    against = health.against + 1
    if against < (RISE if well else FALL):
        return turned(health, at, against=against)
    return turned(health, at, checks=well, against=0)


def unchecked(health: Health, at: datetime) -> Health:
    """When it is no longer checked: what checks said is forgotten."""
    return turned(health, at, checks=True, against=0)


def called(health: Health, at: datetime, *, good: int, bad: int) -> Health:
    """After some calls."""
    faded = fade(health, max(at, health.at))
    calls, errors = faded.calls + good + bad, faded.errors + bad
    said = faded.said_by_calls if calls < CALLS_MIN else said_by(errors / calls, faded)
    return turned(health, at, calls=calls, errors=errors, said_by_calls=said)


def said_by(share: float, before: Health) -> Condition:
    """What a share of errors says; a state is left at a lower share than it is entered."""
    rank = RANK[before.said_by_calls]
    if share >= (UNHEALTHY_BELOW if rank >= RANK["unhealthy"] else UNHEALTHY_FROM):
        return "unhealthy"
    if share >= (DEGRADED_BELOW if rank >= RANK["degraded"] else DEGRADED_FROM):
        return "degraded"
    return "ready"


def seen(health: Health, at: datetime, *, present: bool) -> Health:
    """After a roll call."""
    return turned(health, at, present=present)


def leased(health: Health, at: datetime, until: datetime) -> Health:
    """While, or after, its lease is good."""
    return turned(health, at, leased=at < until)


def passed(health: Health, at: datetime) -> Health:
    """After some time in which nothing else happened."""
    return turned(health, at)


def turned(health: Health, at: datetime, **changes: Any) -> Health:
    """What is remembered from a moment on: the old faded, the new weighed."""
    at = max(at, health.at)
    faded = fade(health, at)
    after = faded.model_copy(update=changes)
    worse = RANK[after.condition] > RANK[health.condition]
    penalty = faded.penalty + (PENALTIES[after.condition] if worse else 0.0)
    unwell = RANK[after.condition] >= RANK["unhealthy"]
    return after.model_copy(
        update={
            "penalty": min(penalty, PENALTY_MAX),
            "flapping": penalty >= (RELEASE_AT if health.flapping else SUPPRESS_AT),
            "unhealthy_since": (health.unhealthy_since or at) if unwell else None,
        }
    )


def fade(health: Health, at: datetime) -> Health:
    """The same with what time has done to it."""
    elapsed_s = (at - health.at).total_seconds()
    calls = health.calls * 0.5 ** (elapsed_s / CALLS_HALF_LIFE_S)
    forgotten = calls < CALLS_FORGOTTEN
    return health.model_copy(
        update={
            "at": at,
            "penalty": health.penalty * 0.5 ** (elapsed_s / HALF_LIFE_S),
            "calls": 0.0 if forgotten else calls,
            "errors": 0.0 if forgotten else health.errors * (calls / health.calls),
            "said_by_calls": "ready" if forgotten else health.said_by_calls,
        }
    )


def forgiven(health: Health, at: datetime) -> Health:
    """As if it had just come, but with its penalty: what is registered anew."""
    faded = fade(health, max(at, health.at))
    return Health(at=faded.at, penalty=faded.penalty, flapping=faded.flapping)


class Watch(Schema):
    """What is kept of a service beside its row: how it is, and until when it is believed.

    Args:
        health: How it is.
        lease_s: How long a renewal lasts; nothing for what answers by itself.
        lease_until: When the lease ends.
        remove_after_s: After how long unhealthy in one piece it is removed.
        health_subject: What is asked to check it.
        check_every_s: How often.
        check_at: When next.
    """

    health: Health
    lease_s: int | None = None
    lease_until: datetime | None = None
    remove_after_s: int | None = None
    health_subject: str | None = None
    check_every_s: int | None = None
    check_at: datetime | None = None

    @property
    def removal(self) -> datetime | None:
        """When it is removed, should it stay as it is."""
        if self.remove_after_s is None or self.health.unhealthy_since is None:
            return None
        return self.health.unhealthy_since + timedelta(seconds=self.remove_after_s)

    @property
    def look_at(self) -> datetime | None:
        """When time alone will change something."""
        moments = [next_look(self.health), self.removal]
        if self.health.leased:
            moments.append(self.lease_until)
        return min((moment for moment in moments if moment is not None), default=None)

    def now(self, at: datetime, learnt: Health) -> "Watch":
        """The same with what was learnt of its health, and with its lease as it is now."""
        if self.lease_until is not None:
            learnt = leased(learnt, at, self.lease_until)
        return self.model_copy(update={"health": passed(learnt, at)})

    def renewed(self, at: datetime) -> "Watch":
        """With a lease from now on."""
        assert self.lease_s is not None
        until = at + timedelta(seconds=self.lease_s)
        return self.model_copy(update={"lease_until": until}).now(at, self.health)

    def ended(self, at: datetime) -> "Watch":
        """With nothing to look after; turns for the worse are remembered."""
        return Watch(health=forgiven(self.health, at))


def next_look(health: Health) -> datetime | None:
    """When time alone will change something: calls are forgotten, or flapping is over."""
    moments = list[datetime]()
    if health.calls >= CALLS_FORGOTTEN:
        moments.append(halved(health, CALLS_HALF_LIFE_S, health.calls / CALLS_FORGOTTEN))
    if health.flapping:
        moments.append(halved(health, HALF_LIFE_S, health.penalty / RELEASE_AT))
    return min(moments, default=None)


def halved(health: Health, half_life_s: float, times: float) -> datetime:
    """When something is so many times smaller, and a little more."""
    return health.at + timedelta(seconds=half_life_s * math.log2(max(times, 1.0)) + 1e-3)
