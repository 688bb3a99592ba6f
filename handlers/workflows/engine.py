"""What a run does next. Pure: its document, inputs and recorded steps in; what to begin out.

    decide(document, state) -> Decision(begin, undo, outcome)

The driver records what came of each step and asks again; asked twice with the same records the
answer is the same, so a run goes on after a crash wherever it was. A step that is recorded as done
is never begun again. Steps inside a branch, map or parallel step have paths:

    review        each[3].review        both:left.first        review!undo
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from handlers.workflows.mapping import Unmappable, computed, holds
from handlers.workflows.ordering import in_order
from schemas.contract import Json
from schemas.workflows.definitions import BadDocument
from schemas.workflows.document import (
    ITEMS_MAX,
    BranchStep,
    Document,
    MapStep,
    ParallelStep,
    Step,
    StepFields,
    Undo,
)
from schemas.workflows.runs import RunStatus, StepStatus

UNDO = "!undo"
ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Record:
    """What is recorded of one step."""

    status: StepStatus
    attempt: int = 1
    output: Any = None
    error: Json | None = None
    due_at: datetime | None = None
    finished_at: datetime | None = None
    taken: bool = False  # over from another run, whose effect is not this one's to take back


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a run."""

    status: RunStatus
    inputs: Json
    steps: Mapping[str, Record]
    at: datetime
    run: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begin:
    """A step to begin now, with what is known where it stands."""

    path: str
    step: StepFields
    attempt: int
    known: Json


@dataclass(frozen=True, slots=True)
class BeginUndo:
    """A finished step to take back now."""

    path: str
    undo: Undo
    attempt: int
    known: Json


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run, a list of steps or one step has ended."""

    output: Any = None
    error: Json | None = None


@dataclass(slots=True)
class Decision:
    """What to do; nothing while something is still under way.

    Args:
        begin: Steps to begin.
        look: Steps that wait and whose time has come.
        abandon: Paths of steps that wait for what is no longer wanted; to be ended before all else.
        outcome: How the run has ended, if it has.
        status: What the run is now.
        due_at: When to ask again at the latest.
    """

    begin: list[Begin | BeginUndo] = field(default_factory=list)
    look: list[Begin] = field(default_factory=list)
    abandon: list[str] = field(default_factory=list)
    outcome: Outcome | None = None
    status: RunStatus = "running"
    due_at: datetime | None = None

    def wake_at(self, at: datetime | None) -> None:
        """Ask again at this time at the latest."""
        if at is not None and (self.due_at is None or at < self.due_at):
            self.due_at = at


@dataclass(frozen=True, slots=True)
class Done:
    """A step that is over, with what was known where it stands."""

    path: str
    step: StepFields
    known: Json
    outcome: Outcome


Over = dict[str, tuple[int, Outcome, list[Done]]]
"""Items of maps that have succeeded, which they do for good, and what was done in them. The number
says how many steps outside were over: what paths in them lead to stays while it does.
"""


def decide(document: Document, state: State, over: Over | None = None) -> Decision:
    """What the run does next; `over` is kept from one decision of a run to the next."""
    walk = Walk(state, over)
    first, seen = known_at_first(state), dict[str, Any]()
    outcome = walk.steps(document.steps, "", first, seen)
    failed = outcome is not None and outcome.error is not None and not walk.decision.abandon
    if state.status == "undoing" or (failed and walk.undoable()):
        return walk.take_back(outcome)
    decision = walk.decision
    if decision.abandon:
        return Decision(abandon=decision.abandon)
    if outcome is None:
        return decision
    if outcome.error is None and document.output is not None:
        outcome = mapped(document.output, first | {"steps": seen})
    decision.outcome = outcome
    decision.status = "failed" if outcome.error else "succeeded"
    return decision


def reached(document: Document, state: State) -> list[Done]:
    """Steps that are over and that the document comes to; not those behind one that is missing."""
    walk = Walk(state)
    walk.steps(document.steps, "", known_at_first(state), {})
    return walk.done


def known_at_first(state: State) -> Json:
    """What paths of the outermost steps begin at."""
    return {"inputs": state.inputs, "run": state.run}


def mapped(value: Any, known: Json) -> Outcome:
    """A computed output, or why it cannot be computed."""
    try:
        return Outcome(computed(value, known))
    except Unmappable as unfit:
        return Outcome(error=problem(unfit))


def problem(unfit: Unmappable) -> Json:
    """How a value that cannot be computed is kept."""
    return BadDocument(str(unfit)).kept()


class Walk:
    """One pass over a document; collects what can begin."""

    def __init__(self, state: State, over: Over | None = None) -> None:
        self.state, self.decision = state, Decision()
        self._over: Over = {} if over is None else over
        self.done = list[Done]()
        self._started, self._waiting = 0, list[str]()

    def steps(self, steps: Sequence[Step], prefix: str, known: Json, seen: Json) -> Outcome | None:
        """A list of steps: its outcome, or None while it goes on.

        Args:
            steps: In any order; each begins when those before it are over.
            prefix: What the paths of its steps begin with.
            known: What its paths begin at, without `steps`.
            seen: The steps that are known from outside; those that are over are added.
        """
        mark, ended, left_out = self._mark(), dict[str, Outcome](), set[str]()
        failed: Outcome | None = None
        later: Outcome | None = None
        for step, before in in_order(steps):
            if not left_out.isdisjoint(before):
                left_out.add(step.key)
            if step.key in left_out or any(key not in ended for key in before):
                continue
            outcome = self._step(step, prefix, known | {"steps": dict(seen)})
            if outcome is None:
                continue
            if outcome.error is None or step.on_error == "continue":
                ended[step.key] = outcome
                seen[step.key] = {"output": outcome.output, "error": outcome.error}
            elif step.on_error == "fail":
                failed = weightier(failed, outcome)
            else:
                later = weightier(later, outcome)
                left_out.add(step.key)
        if failed:
            return self._failed(failed, mark)
        if len(ended) + len(left_out) < len(steps):
            return None
        return later or Outcome(ended[steps[-1].key].output)  # what was let through is no error

    def _mark(self) -> tuple[int, int, int]:
        """Where a part of the document begins; see `_failed`."""
        return len(self.decision.begin), self._started, len(self._waiting)

    def _failed(self, failed: Outcome, mark: tuple[int, int, int]) -> Outcome | None:
        """A part has failed: nothing in it begins, nothing is waited for but what has begun."""
        begun, started, waiting = mark
        del self.decision.begin[begun:]
        self.decision.abandon += self._waiting[waiting:]
        del self._waiting[waiting:]
        return failed if self._started == started else None

    def _step(self, step: Step, prefix: str, known: Json) -> Outcome | None:
        """One step whose turn it is."""
        path = f"{prefix}{step.key}"
        try:
            if path not in self.state.steps and not holds(step.when, known):
                return Outcome()
            if isinstance(step, BranchStep):
                return self._branch(step, path, known)
            if isinstance(step, MapStep):
                return self._map(step, path, known)
            if isinstance(step, ParallelStep):
                return self._parallel(step, path, known)
        except Unmappable as unfit:
            return Outcome(error=problem(unfit))
        return self._leaf(step, path, known)

    def _leaf(self, step: Step, path: str, known: Json) -> Outcome | None:
        """A step that does something itself."""
        record = self.state.steps.get(path)
        if record is not None and record.status in ("done", "failed"):
            outcome = Outcome(record.output, record.error)
            self.done.append(Done(path, step, known, outcome))
            return outcome
        if record is None:
            self._begin(Begin(path, step, 1, known))
        elif record.status == "retrying" and not self._later(record):
            self._begin(Begin(path, step, record.attempt + 1, known))
        else:
            self.decision.wake_at(record.due_at)
            self._started += record.status == "started"
            if record.status in ("waiting", "retrying"):
                self._waiting.append(path)
            if record.status == "waiting" and record.due_at and not self._later(record):
                self.decision.look.append(Begin(path, step, record.attempt, known))
        return None

    def _later(self, record: Record) -> bool:
        return record.due_at is not None and record.due_at > self.state.at

    def _begin(self, begin: Begin) -> None:
        if self.state.status == "running":
            self.decision.begin.append(begin)

    def _branch(self, step: BranchStep, path: str, known: Json) -> Outcome | None:
        """The first case that holds; the choice is the same whenever it is made again."""
        chosen: Sequence[Step] = step.otherwise
        for case in step.cases:
            if holds(case.when, known):
                chosen = case.steps
                break
        if not chosen:
            return Outcome()
        return self._block(chosen, f"{path}.", known, step.output)

    def _map(self, step: MapStep, path: str, known: Json) -> Outcome | None:
        """Every item, at most `at_once` of them under way."""
        items = computed(step.items, known)
        if not isinstance(items, list) or len(items) > ITEMS_MAX:
            raise Unmappable(f"The items of {step.key} are no list of at most {ITEMS_MAX}.")
        mark, outputs, going, failed = self._mark(), [], 0, None
        for index, item in enumerate(items):
            if going >= step.at_once:
                break
            outcome = self._item(step, f"{path}[{index}].", known | {"item": item, "index": index})
            if outcome is None:
                going += 1
            elif outcome.error is not None:
                failed = weightier(failed, outcome)
            else:
                outputs.append(outcome.output)
        if failed:
            return self._failed(failed, mark)
        return Outcome(outputs) if len(outputs) == len(items) else None

    def _item(self, step: MapStep, path: str, known: Json) -> Outcome | None:
        """One item; of 10,000 those that are over are not walked through again."""
        seen, over = len(known["steps"]), self._over.get(path)
        if over is not None and over[0] == seen:
            self.done += over[2]
            return over[1]
        mark = len(self.done)
        outcome = self._block(step.steps, path, known, step.output)
        if outcome is not None and outcome.error is None:
            self._over[path] = (seen, outcome, self.done[mark:])
        return outcome

    def _parallel(self, step: ParallelStep, path: str, known: Json) -> Outcome | None:
        """Every branch; the output has one field for each."""
        mark = self._mark()
        ended = {
            name: self._block(steps, f"{path}:{name}.", known, None)
            for name, steps in step.branches.items()
        }
        failed: Outcome | None = None
        for outcome in ended.values():
            if outcome is not None and outcome.error is not None:
                failed = weightier(failed, outcome)
        if failed:
            return self._failed(failed, mark)
        if any(outcome is None for outcome in ended.values()):
            return None
        return Outcome({name: o.output for name, o in ended.items() if o is not None})

    def _block(
        self, steps: Sequence[Step], prefix: str, known: Json, output: Any
    ) -> Outcome | None:
        """Steps inside a step; their output is that of the last, or what `output` says."""
        seen = dict(known["steps"])
        outcome = self.steps(steps, prefix, known, seen)
        if outcome is None or outcome.error is not None or output is None:
            return outcome
        return mapped(output, known | {"steps": seen})

    def undoable(self) -> bool:
        """Whether anything that was done can be taken back."""
        return any(getattr(done.step, "undo", None) for done in self._succeeded())

    def _succeeded(self) -> list[Done]:
        return [
            done
            for done in self.done
            if done.outcome.error is None and not self.state.steps[done.path].taken
        ]

    def take_back(self, outcome: Outcome | None) -> Decision:
        """Undo what is done, the last first, one at a time; what is under way ends before."""
        abandon = self.decision.abandon + self._waiting
        if abandon:
            return Decision(abandon=abandon)
        decision = Decision(status="undoing", due_at=self.decision.due_at)
        if self._started:
            return decision
        for done in self._last_first():
            undo: Undo = done.step.undo  # type: ignore[attr-defined]
            record = self.state.steps.get(done.path + UNDO)
            if record is None or (record.status == "retrying" and not self._later(record)):
                attempt = 1 if record is None else record.attempt + 1
                known = done.known | {"output": done.outcome.output}
                decision.begin.append(BeginUndo(done.path + UNDO, undo, attempt, known))
                return decision
            if record.status == "failed":
                decision.outcome = Outcome(error={"code": "undo", "step": done.path,
                                                  "cause": record.error})  # fmt: skip
                decision.status = "failed"
                return decision
            if record.status != "done":
                decision.wake_at(record.due_at)
                return decision
        cause = outcome.error if outcome else None
        decision.outcome, decision.status = Outcome(error=cause or {"code": "cancelled"}), "undone"
        return decision

    def _last_first(self) -> list[Done]:
        """What can be taken back, in the opposite order of its end."""
        undoable = [done for done in self._succeeded() if getattr(done.step, "undo", None)]
        ended = [self.state.steps[done.path].finished_at or self.state.at for done in undoable]
        order = sorted(range(len(undoable)), key=lambda n: (ended[n], n), reverse=True)
        return [undoable[n] for n in order]


def weightier(first: Outcome | None, second: Outcome) -> Outcome:
    """Of two failures the one to tell: what was abandoned was so because of the other."""
    if first is None or (first.error or {}).get("code") == ABANDONED:
        return second
    return first
