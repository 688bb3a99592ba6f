"""Runs through time: what every kind of run does the same way. Knows no domain.

A question is compared by its hash, and shown by its text if that is not too long. Who asks and for
whom is no part of it: a fork asks the same in another's name.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError

from bus import pages
from schemas.contract import Json, Listing, Operation, Page, Schema
from schemas.events import HISTORY_IDS_MAX, HISTORY_MAX, History, ReadHistory, StoredEvent
from schemas.problems import NotFound, TooLarge
from schemas.travel import (
    Asked,
    BadChange,
    Difference,
    Divergence,
    GetRunAt,
    ListRunStates,
    PastRun,
    Rerun,
    RunComparison,
    RunState,
    StepComparison,
    Verdict,
)

STEPS_MAX = 1_000
"""Steps of a run that is forked, compared or done again."""
ASKED_BYTES_MAX = 128 * 1024
SHOWN_BYTES_MAX = 500
DIFFERENCES_MAX = 20
SHOWN_MAX = 200
ON_BEHALF = {"agent_id", "task_id", "goal_id"}


def question(operation: Operation[Any, Any], command: Schema) -> Asked:
    """What a request asks, without on whose behalf."""
    given = command.model_dump(exclude=ON_BEHALF, exclude_defaults=True)
    return asked(operation.name, given)


def asked(operation: str, given: Mapping[str, Any]) -> Asked:
    """A question, to be recorded with its step. Secrets are stars in it, bytes their hash."""
    text = orjson.dumps([operation, given], default=plain, option=orjson.OPT_SORT_KEYS)
    request = orjson.loads(text)[1] if len(text) <= ASKED_BYTES_MAX else None
    return Asked(operation=operation, hash=hashlib.sha256(text).hexdigest(), request=request)


def plain(value: Any) -> str:
    """What JSON has no form for."""
    return hashlib.sha256(value).hexdigest() if isinstance(value, bytes) else str(value)


def differences(first: Any, second: Any, path: str = "") -> Iterator[Difference]:
    """Where two JSON values differ, as pointers; what is not there is null."""
    if isinstance(first, dict) and isinstance(second, dict):
        for name in dict.fromkeys((*first, *second)):
            part = str(name).replace("~", "~0").replace("/", "~1")
            yield from differences(first.get(name), second.get(name), f"{path}/{part}")
    elif isinstance(first, list) and isinstance(second, list):
        for index in range(max(len(first), len(second))):
            one, other = (items[index] if index < len(items) else None for items in (first, second))
            yield from differences(one, other, f"{path}/{index}")
    elif first != second:
        yield Difference(path=path, first=shown(first), second=shown(second))


def between(then: Asked | None, now: Asked | None) -> tuple[Difference, ...]:
    """Where two questions differ, as far as they were kept."""
    first, second = (asked.model_dump(mode="json") if asked else None for asked in (then, now))
    found = [d for d in differences(first, second) if d.path != "/hash"]
    return tuple(found[:DIFFERENCES_MAX])


def rerun(
    was: tuple[str, Json, Mapping[str, Json]], now: tuple[str | None, Json, Mapping[str, Json]],
    diverged: Divergence | None,
) -> Rerun:  # fmt: skip
    """The report of a rerun.

    Args:
        was: The run's id, what counts of its end, and its steps by name.
        now: The rerun's status, what counts of its end, and its steps.
        diverged: Where it asked something else.
    """
    found = () if diverged else tuple(differences(was[1], now[1]))
    names = now[2] if diverged else dict.fromkeys((*was[2], *now[2]))
    lines = [compared(name, was[2].get(name), now[2].get(name)) for name in names]
    same = not found and all(line.verdict == "same" for line in lines)
    cut, left_out = bounded(lines)
    return Rerun(
        run_id=was[0], ok=same and diverged is None, status=now[0], diverged=diverged,
        run=found[:DIFFERENCES_MAX], steps=cut,
        left_out=left_out + max(0, len(found) - DIFFERENCES_MAX),
    )  # fmt: skip


def shown(value: Any) -> Any:
    """A value, or the beginning of its text if it is long."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return value if len(text) <= SHOWN_BYTES_MAX else text[:SHOWN_BYTES_MAX] + "…"


def compared(step: str, first: Json | None, second: Json | None) -> StepComparison:
    """What two runs made of a step; None where a run has none of this name."""
    if first is None or second is None:
        only: Verdict = "only_in_first" if second is None else "only_in_second"
        return StepComparison(step=step, verdict=only)
    found = tuple(differences(first, second))
    return StepComparison(step=step, verdict="changed" if found else "same", differences=found)


def comparison(
    ids: tuple[str, str], runs: tuple[Json, Json], steps: tuple[Mapping[str, Json], ...]
) -> RunComparison:
    """Two runs side by side.

    Args:
        ids: Of the two runs.
        runs: What counts of each.
        steps: Of each run the steps in order, by name, with what counts of them.
    """
    first, second = steps
    found = tuple(differences(*runs))
    lines = [
        compared(name, first.get(name), second.get(name))
        for name in dict.fromkeys((*first, *second))
    ]
    same = not found and all(line.verdict == "same" for line in lines)
    cut, left_out = bounded(lines)
    return RunComparison(
        first=ids[0], second=ids[1], same=same, run=found[:DIFFERENCES_MAX], steps=cut,
        left_out=left_out + max(0, len(found) - DIFFERENCES_MAX),
    )  # fmt: skip


def bounded(lines: Sequence[StepComparison]) -> tuple[tuple[StepComparison, ...], int]:
    """The lines with no more differences than a reply has room for, and how many are left out."""
    kept, left, left_out = list[StepComparison](), SHOWN_MAX, 0
    for line in lines:
        some = line.differences[: min(DIFFERENCES_MAX, left)]
        left, left_out = left - len(some), left_out + len(line.differences) - len(some)
        kept.append(line.model_copy(update={"differences": some}))
    return tuple(kept), left_out


def put(thing: Json, path: Sequence[str], value: Any) -> None:
    """Set the value at a path inside a thing.

    Raises:
        BadChange: What should hold it is not there.
    """
    holder: Any = thing
    try:
        for part in path[:-1]:
            holder = holder[int(part)] if isinstance(holder, list) else holder[part]
        holder[int(path[-1]) if isinstance(holder, list) else path[-1]] = value
    except (KeyError, IndexError, TypeError, ValueError):
        raise BadChange(path=".".join(path)) from None


def unfit(bad: ValidationError) -> BadChange:
    """What is wrong with the values of changes."""
    errors = bad.errors(include_url=False, include_input=False)
    return BadChange(fields=[".".join(map(str, e["loc"])) + ": " + e["msg"] for e in errors[:10]])


def every_state(
    request: ListRunStates, kinds: tuple[str, ...], step_ids: Iterable[str]
) -> ReadHistory:
    """What of the log makes a page of a run's states.

    Raises:
        TooLarge: The run has too many steps.
    """
    return ReadHistory(
        types=kinds, ids=things(request.id, step_ids), after_seq=position(request),
        limit=request.limit,
    )  # fmt: skip


def last_states(
    request: GetRunAt, kinds: tuple[str, ...], step_ids: Iterable[str]
) -> ReadHistory:  # fmt: skip
    """What of the log says how a run and its steps were at a position or time.

    Raises:
        TooLarge: The run has too many steps.
    """
    return ReadHistory(
        types=kinds, ids=things(request.id, step_ids), seq=request.seq, at=request.at,
        last_only=True, limit=HISTORY_MAX,
    )  # fmt: skip


def position(request: Listing) -> int:
    """Behind which position of the log a page begins."""
    (seq,) = pages.after(request, (int,))
    return int(seq or 0)


def things(run_id: str, step_ids: Iterable[str]) -> tuple[str, ...]:
    """A run and its steps, whose history is read.

    Raises:
        TooLarge: They are too many for one request.
    """
    ids = (run_id, *step_ids)
    require_few(len(ids) - 1, HISTORY_IDS_MAX - 1)
    return ids


def states(request: Listing, history: History, names: Mapping[str, str]) -> Page[RunState]:
    """A page of what a run went through. `names` has the steps' by their ids."""
    rows = [state_of(event, names.get(event.aggregate_id)) for event in history.items]
    shorter = request.model_copy(update={"limit": len(rows)})
    more = rows[-1:] if history.more else []
    return pages.page(shorter, RunState, [dict(row) for row in (*rows, *more)], ("seq",))


def state_of(event: StoredEvent, step: str | None) -> RunState:
    """One moment."""
    return RunState(
        seq=event.seq, type=event.type, step=step, status=str(entity_of(event)["status"]),
        version=event.aggregate_version, thing_id=event.aggregate_id,
        recorded_at=event.recorded_at,
    )  # fmt: skip


def entity_of(event: StoredEvent) -> Json:
    """The thing right after an event, which has nothing else in it."""
    entity: Json = next(iter(event.payload.values()))
    return entity


def as_it_was(run_id: str, history: History, order: Callable[[Json], Any]) -> PastRun:
    """The run and its steps out of the newest entry of each.

    Raises:
        NotFound: There was no such run yet.
        TooLarge: The steps have no room in a reply.
    """
    if history.more:
        raise TooLarge("The steps are too large for one reply; `events.entity-at` shows one.")
    found = {event.aggregate_id: entity_of(event) for event in history.items}
    run = found.pop(run_id, None)
    if run is None:
        raise NotFound(id=run_id)
    last, steps = history.items[-1], sorted(found.values(), key=order)
    return PastRun(seq=last.seq, recorded_at=last.recorded_at, run=run, steps=tuple(steps))


def require_few(steps: int, most: int = STEPS_MAX) -> None:
    """Refuse a run of too many steps.

    Raises:
        TooLarge: It has.
    """
    if steps > most:
        raise TooLarge(f"The run has more than {most} steps.", steps=steps)
