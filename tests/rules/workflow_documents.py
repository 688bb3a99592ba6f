"""Random documents and a world that carries them out badly: the engine's simulator.

One seed decides everything: the document, the order in which steps end, which fail, when the
driver crashes and forgets what it was doing, and how time passes.
"""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from handlers.workflows.engine import (
    UNDO,
    Begin,
    BeginUndo,
    Decision,
    Record,
    State,
    decide,
)
from handlers.workflows.retrying import after_failure
from schemas.workflows.document import Attempted, Document, Retry, WaitStep

ROUNDS_MAX = 4_000
DEPTH_MAX = 2
BEGAN = datetime(2026, 11, 23, tzinfo=UTC)
UNDO_STEP = {"operation": "agents.delete", "retry": {"attempts": 3, "first_s": 1}}


class Drawn:
    """A document drawn from a seed; keys are never given twice."""

    def __init__(self, draw: random.Random) -> None:
        self._draw, self._count = draw, 0

    def document(self) -> Document:
        return Document.model_validate({"steps": self.steps(0)})

    def steps(self, depth: int) -> list[dict[str, Any]]:
        drawn: list[dict[str, Any]] = []
        for _ in range(self._draw.randint(1, 4)):
            step = self.step(depth)
            if drawn and self._draw.random() < 0.5:
                before = [s["key"] for s in drawn]
                step["after"] = self._draw.sample(before, self._draw.randint(0, len(before)))
            if self._draw.random() < 0.1:
                step["when"] = {"$eq": ["$.inputs.even", self._draw.random() < 0.5]}
            if self._draw.random() < 0.2:
                step["on_error"] = self._draw.choice(["continue", "skip"])
            drawn.append(step)
        return drawn

    def step(self, depth: int) -> dict[str, Any]:
        self._count += 1
        step: dict[str, Any] = {"key": f"s{self._count}"}
        inner = [] if depth >= DEPTH_MAX else ["map", "parallel", "branch"]
        kind = self._draw.choice(["call", "call", "call", "wait", "signal", *inner])
        if kind == "call":
            retry = {"attempts": self._draw.randint(1, 3), "first_s": 1}
            step |= {"type": "call", "operation": "agents.create", "retry": retry}
            if self._draw.random() < 0.4:
                step["undo"] = UNDO_STEP
        elif kind == "wait":
            step |= {"type": "wait", "for_s": self._draw.randint(0, 30)}
        elif kind == "signal":
            step |= {"type": "wait", "signal": "go"}
        elif kind == "map":
            step |= {
                "type": "map", "items": list(range(self._draw.randint(0, 5))),
                "at_once": self._draw.randint(1, 3), "steps": self.steps(depth + 1),
            }  # fmt: skip
        elif kind == "parallel":
            branches = {name: self.steps(depth + 1) for name in ("left", "right")}
            step |= {"type": "parallel", "branches": branches}
        else:
            case = {"when": {"$eq": ["$.inputs.even", True]}, "steps": self.steps(depth + 1)}
            step |= {"type": "branch", "cases": [case], "otherwise": self.steps(depth + 1)}
        return step


@dataclass
class Simulation:
    """One run in a bad world."""

    seed: int
    fails: float = 0.1
    crashes: float = 0.05
    decide: Any = decide
    retried: Any = after_failure
    records: dict[str, Record] = field(default_factory=dict)
    doing: dict[str, Begin | BeginUndo] = field(default_factory=dict)
    begun: list[tuple[str, int]] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    history: list[tuple[str, str]] = field(default_factory=list)
    at: datetime = BEGAN
    status: Any = "running"
    final: Decision | None = None

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        self.document = Drawn(self.draw).document()
        self.inputs = {"even": self.draw.random() < 0.5}

    def run(self) -> Decision:
        """Until the run has ended.

        Raises:
            AssertionError: It never does.
        """
        for _ in range(ROUNDS_MAX):
            decision = self._ask()
            for path in decision.abandon:
                abandoned = Record("failed", error={"code": "abandoned"}, finished_at=self.at)
                self._record(path, abandoned)
            if decision.abandon:
                continue
            if decision.outcome is not None:
                self.final = decision
                return decision
            self._obey(decision)
            self._something_happens(decision)
        raise AssertionError(f"seed {self.seed}: no end after {ROUNDS_MAX} rounds")

    def state(self) -> State:
        """What is recorded, and what is being done."""
        steps = self.records | {path: Record("started") for path in self.doing}
        return State(self.status, self.inputs, steps, self.at)

    def _ask(self) -> Decision:
        decision: Decision = self.decide(self.document, self.state())
        return decision

    def _obey(self, decision: Decision) -> None:
        if decision.status == "undoing":
            self.status = "undoing"
        for begin in decision.begin:
            if begin.path not in self.doing:
                self.doing[begin.path] = begin
                self.begun.append((begin.path, begin.attempt))

    def _something_happens(self, decision: Decision) -> None:
        """A step ends, the driver crashes, or time passes."""
        self.at += timedelta(milliseconds=1)
        for look in decision.look:
            if self.records.get(look.path, Record("done")).status == "waiting":
                self._record(look.path, Record("done", finished_at=self.at))
        if self.doing and self.draw.random() < self.crashes:
            self._crash()
        elif self.doing:
            self._ends(self.draw.choice(sorted(self.doing)))
        elif decision.due_at is not None:
            self.at = max(self.at, decision.due_at)
        else:
            self._signal()

    def _crash(self) -> None:
        """What was being done may have had its effect; nobody has written it down."""
        for path in sorted(self.doing):
            if self.draw.random() < 0.5:
                self.effects.append(path)
        self.doing.clear()

    def _ends(self, path: str) -> None:
        begin = self.doing.pop(path)
        if isinstance(begin, Begin) and isinstance(begin.step, WaitStep):
            wait_s = begin.step.for_s
            due_at = None if wait_s is None else self.at + timedelta(seconds=wait_s)
            self._record(path, Record("waiting", begin.attempt, due_at=due_at))
        elif self.draw.random() < self.fails:
            self._fails(begin)
        else:
            self.effects.append(path)
            self._record(path, Record("done", begin.attempt, path, finished_at=self.at))

    def _fails(self, begin: Begin | BeginUndo) -> None:
        retry: Retry | None
        if isinstance(begin, BeginUndo):
            retry = begin.undo.retry
        else:
            retry = begin.step.retry if isinstance(begin.step, Attempted) else None
        due_at = self.retried(
            retry,
            begin.attempt,
            "ERR_600",
            retryable=self.draw.random() < 0.8,
            at=self.at,
            spread=0.5,
        )
        error = {"code": "ERR_600", "step": begin.path}
        came = Record("failed", begin.attempt, error=error, finished_at=self.at)
        if due_at is not None:
            came = replace(came, status="retrying", due_at=due_at, finished_at=None)
        self._record(begin.path, came)

    def _signal(self) -> None:
        """Nothing else can happen: whoever can gives the signal."""
        waiting = sorted(p for p, r in self.records.items() if r.status == "waiting")
        assert waiting, f"seed {self.seed}: nothing is done, nothing is due, nothing is awaited"
        self._record(self.draw.choice(waiting), Record("done", finished_at=self.at))

    def _record(self, path: str, record: Record) -> None:
        before = self.records.get(path)
        assert before is None or before.status not in ("done", "failed"), (
            f"seed {self.seed}: {path} was {before} and is recorded again as {record.status}"
        )
        self.records[path] = record
        self.history.append((path, record.status))


def undone(simulation: Simulation) -> list[str]:
    """Paths that were taken back, in order."""
    ended = [path for path, status in simulation.history if status == "done"]
    return [path.removesuffix(UNDO) for path in ended if path.endswith(UNDO)]
