"""The rules that hold whatever fails: what clients were told against what the stores hold.

Pure, so that it can be tested with violations that are planted. Each rule gives the things that
break it; an empty list from all of them is the proof.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from deploy.faults import cycles
from deploy.faults.history import Operation
from deploy.faults.linear import TooLong, linearizable

CONVERGED_S_MAX = 60.0
ENDED = ("succeeded", "timed out")
"""How a run may end: well, or because a program outside was not heard in its time."""


@dataclass(frozen=True)
class Logged:
    """One event of the log: what it made of its aggregate, and the hash that chains it."""

    id: str
    thing: str
    version: int
    value: str
    hash: str


@dataclass(frozen=True)
class Ran:
    """A workflow's run at the end: its state, how often each step was done, its error if any."""

    id: str
    status: str
    steps: Mapping[str, int]
    error: str = ""


@dataclass(frozen=True)
class Final:
    """What the stores hold when the last fault is over and everything has come to rest.

    Args:
        log: Events of aggregates that clients write, in order of the log.
        log_ids: Ids of all events, of whatever kind.
        published: Ids and aggregates of the messages in the stream, in its order.
        missing: Events that a reaction wanted and has not dealt with, as `consumer event`.
        effects: How often each effect outside was had, by `run/step`.
        wanted: Effects that the runs that ended well must have had.
        runs: The runs that clients started.
        before: Hashes of the log as it was before the fault, by event.
        hashes: Hashes of the log now.
        replayed: What replaying the log found to differ.
        letters: Dead letters that nobody planted.
        converged_s: How long it took to come to rest.
        unpublished: Rows left in the outbox.
    """

    log: Sequence[Logged] = ()
    log_ids: Collection[str] = ()
    published: Sequence[tuple[str, str, int]] = ()
    missing: Collection[str] = ()
    effects: Mapping[str, int] = field(default_factory=dict)
    wanted: Collection[str] = ()
    runs: Sequence[Ran] = ()
    before: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)
    replayed: Collection[str] = ()
    letters: Collection[str] = ()
    converged_s: float = 0.0
    unpublished: int = 0


@dataclass(frozen=True)
class Violation:
    """A rule that does not hold, and by what."""

    rule: str
    text: str


Rule = Callable[[Sequence[Operation], Final], Iterable[str]]


def lost(history: Sequence[Operation], final: Final) -> Iterator[str]:
    """What was acknowledged is in the log, as the version that was answered."""
    there = {(one.thing, one.version): one.value for one in final.log}
    runs = {run.id for run in final.runs}
    for operation in history:
        if operation.outcome != "ok" or operation.verb == "read":
            continue
        if operation.verb == "start":
            if operation.thing not in runs:
                yield operation.name
        elif there.get((operation.thing, operation.seen)) != operation.value:
            yield operation.name
    done = {key for key, times in final.effects.items() if times}
    yield from (f"effect {key}" for key in sorted(set(final.wanted) - done))
    yield from (f"not dealt with: {one}" for one in sorted(final.missing))
    sent = {event_id for event_id, _, _ in final.published}
    yield from (f"not published: {one}" for one in sorted(set(final.log_ids) - sent))


def doubled(history: Sequence[Operation], final: Final) -> Iterator[str]:
    """Nothing has its effect twice, be it known or unknown to who asked."""
    values = Counter(one.value for one in final.log)
    yield from (f"{value} made {n} events" for value, n in values.items() if n > 1)
    yield from (f"effect {key}: {n} times" for key, n in final.effects.items() if n > 1)
    for run in final.runs:
        twice = [path for path, times in run.steps.items() if times > 1]
        yield from (f"run {run.id}: {path} done twice" for path in twice)
    sent = Counter(event_id for event_id, _, _ in final.published)
    yield from (f"{event} is {n} times in the stream" for event, n in sent.items() if n > 1)
    starts = Counter(o.thing for o in history if o.verb == "start" and o.outcome == "ok")
    yield from (f"run {run} answers {n} starts" for run, n in starts.items() if n > 1)


def ghosts(history: Sequence[Operation], final: Final) -> Iterator[str]:
    """Nothing happened that nobody asked for, or that was refused."""
    asked = {o.value for o in history if o.verb != "read" and o.outcome != "fail"}
    yield from (f"{o.value} (event {o.id})" for o in final.log if o.value not in asked)
    known = set(final.log_ids)
    extra = {event_id for event_id, _, _ in final.published} - known
    yield from (f"published, but not in the log: {one}" for one in sorted(extra))
    yield from (f"effect {key}" for key in final.effects if key.partition("/")[0] not in asked)


def gaps(_: Sequence[Operation], final: Final) -> Iterator[str]:
    """The versions of each aggregate run from 1, in the log and in the stream."""
    by_thing: dict[str, list[int]] = defaultdict(list)
    for one in final.log:
        by_thing[one.thing].append(one.version)
    for thing, versions in by_thing.items():
        if versions != list(range(1, len(versions) + 1)):
            yield f"{thing} has versions {versions}"
    sent: dict[str, list[int]] = defaultdict(list)
    for _event, thing, version in final.published:
        sent[thing].append(version)
    for thing, versions in sent.items():
        if versions != sorted(versions):
            yield f"{thing} was published as {versions}"


def unordered(history: Sequence[Operation], _: Final) -> Iterator[str]:
    """What was seen of each aggregate can have happened in one order."""
    by_thing: dict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        if operation.thing and operation.verb != "start":
            by_thing[operation.thing].append(operation)
    for thing, operations in by_thing.items():
        try:
            if not linearizable(operations):
                yield f"no order explains what was seen of {thing}"
        except TooLong as long:
            yield f"{thing}: {long}"


def circular(history: Sequence[Operation], _: Final) -> Iterator[str]:
    """What came before what is no circle."""
    for circle in cycles.circles(len(history), cycles.edges(history)):
        yield " before ".join(history[n].name for n in circle)


def forgetful(history: Sequence[Operation], _: Final) -> Iterator[str]:
    """Each client reads its own writes, and never reads backwards."""
    seen: dict[tuple[str, str], int] = {}
    for operation in sorted(history, key=lambda o: o.ended):
        if operation.outcome != "ok" or operation.verb == "start":
            continue
        key = (operation.client, operation.thing)
        if operation.seen < seen.get(key, 0):
            yield f"{operation.name}: version {operation.seen} after {seen[key]}"
        seen[key] = max(seen.get(key, 0), operation.seen)


def changed(_: Sequence[Operation], final: Final) -> Iterator[str]:
    """What was in the log before the fault is there unchanged, and replaying it gives the rows."""
    for event_id, hash_ in final.before.items():
        if final.hashes.get(event_id) != hash_:
            yield f"event {event_id} is not what it was"
    yield from (f"replay: {one}" for one in final.replayed)


def open_runs(_: Sequence[Operation], final: Final) -> Iterator[str]:
    """Every run that was started has ended, and none was given up."""
    for run in final.runs:
        if run.status not in ENDED:
            yield f"run {run.id} is {run.status} {run.error}".rstrip()


def restless(_: Sequence[Operation], final: Final) -> Iterator[str]:
    """A minute after the last fault everything has come to rest."""
    if final.converged_s > CONVERGED_S_MAX:
        yield f"{final.converged_s:.1f} s"
    if final.unpublished:
        yield f"{final.unpublished} rows are not published"
    yield from (f"dead letter: {one}" for one in final.letters)


RULES: dict[str, Rule] = {
    "lost": lost,
    "doubled": doubled,
    "ghosts": ghosts,
    "gaps": gaps,
    "unordered": unordered,
    "circular": circular,
    "forgetful": forgetful,
    "changed": changed,
    "open runs": open_runs,
    "not converged": restless,
}


def violations(history: Sequence[Operation], final: Final) -> list[Violation]:
    """Everything that breaks a rule."""
    return [Violation(name, text) for name, rule in RULES.items() for text in rule(history, final)]
