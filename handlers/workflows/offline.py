"""A run once more, by the code of now, from what was recorded of it.

The engine decides as always. A step that begins works out its question; if it is the one that was
asked then, the step ends as it did then, in the order in which steps ended. Nobody is asked.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from bus import travel
from bus.context import Context
from handlers.workflows import forking
from handlers.workflows.doing import do
from handlers.workflows.engine import ABANDONED, Begin, BeginUndo, Outcome, Record, State, decide
from handlers.workflows.records import next_of, record_of
from handlers.workflows.steps import (
    Came,
    Place,
    compute_now,
    failed,
    is_computed,
)
from schemas.contract import Problem
from schemas.problems import Internal, TimedOut
from schemas.travel import Asked, Diverged, Divergence
from schemas.workflows.document import Document
from schemas.workflows.runs import RunStatus, RunStep, WorkflowRun

CANCELLED = "cancelled"
LATEST = datetime.max.replace(tzinfo=UTC)


class Answered(Exception):
    """The question is the one that was asked then."""


class RecordEnds(Exception):
    """The run was ended from outside before this step had ended."""


@dataclass(frozen=True)
class Ending:
    """How a rerun has ended; without a status it diverged."""

    steps: dict[str, RunStep]
    status: RunStatus | None = None
    outcome: Outcome = Outcome()  # noqa: RUF009 - frozen
    diverged: Divergence | None = None


async def again(
    run: WorkflowRun, document: Document, recorded: Mapping[str, RunStep], ctx: Context
) -> Ending:
    """Do a run from its record until it ends or asks something else."""
    rehearsal = Rehearsal(run, document, recorded, ctx)
    try:
        return await rehearsal.go()
    except RecordEnds:
        steps = rehearsal.steps | rehearsal.doing
        return Ending(steps, run.status, Outcome(run.result, run.error))
    except Diverged as diverged:
        return rehearsal.diverged(diverged)


class Rehearsal:
    """One run, done again from its record."""

    def __init__(
        self, run: WorkflowRun, document: Document, recorded: Mapping[str, RunStep], ctx: Context
    ) -> None:
        self.run, self.document, self.recorded, self.ctx = run, document, recorded, ctx
        self.steps: dict[str, RunStep] = {}
        self.doing: dict[str, RunStep] = {}
        self.path, self.asked = "", list[Asked]()

    async def go(self) -> Ending:
        """Step after step."""
        status: RunStatus = "running"
        while True:
            decision = decide(self.document, self._state(status))
            if decision.outcome is not None:
                return Ending(self.steps, decision.status, decision.outcome)
            status = decision.status
            for begin in decision.begin:
                self.doing[begin.path] = await self._end_of(begin)
            if not self.doing:
                raise RecordEnds
            path = min(self.doing, key=lambda path: self.doing[path].finished_at or LATEST)
            if self._cut_off(self.doing[path]):
                raise RecordEnds
            self.steps[path] = self.doing.pop(path)
            await asyncio.sleep(0)  # others are served between two steps

    def _state(self, status: RunStatus) -> State:
        records = {path: record_of(step) for path, step in self.steps.items()}
        records |= {path: Record("started") for path in self.doing}
        about = {"id": self.run.id, "started_at": self.run.started_at.isoformat()}
        at = self.run.finished_at or self.run.started_at
        return State(status, self.run.inputs, records, at, about)

    async def _end_of(self, begin: Begin | BeginUndo) -> RunStep:
        """How a step ends that begins now.

        Raises:
            Diverged: It asks something else than it did, or did not begin then.
            RecordEnds: The run was ended before.
        """
        self.path, self.asked = begin.path, []
        then = self.recorded.get(begin.path)
        if isinstance(begin, Begin) and is_computed(begin):
            return self._computed(begin, compute_now(begin))
        place = Place(self.run.id, begin.path, self.ctx, never, None, self._compare)
        try:
            await do(begin, place, self.document, self.run)
        except Answered:
            pass
        except Diverged:
            raise
        except Problem as problem:
            return self._computed(begin, failed(problem))
        if then is None:
            self._nothing_then()
        return then

    @property
    def _ended_outside(self) -> bool:
        """Whether it was not a step that has ended the run, but somebody, or its time."""
        code = (self.run.error or {}).get("code")
        return code == CANCELLED or (code == TimedOut.code and self.run.deadline is not None)

    def _cut_off(self, step: RunStep) -> bool:
        """Whether a step did not come to its own end."""
        abandoned = (step.error or {}).get("code") == ABANDONED
        return step.status not in forking.OVER or (abandoned and self._ended_outside)

    def _computed(self, begin: Begin | BeginUndo, came: Came) -> RunStep:
        """A step that ends without anybody's answer; when, the record says."""
        then = self.recorded.get(begin.path)
        at = (then.finished_at if then else None) or self.run.started_at
        return next_of(None, self.run, begin, came, began=at, at=at)

    def _compare(self, now: Asked) -> None:
        """What a step asks against what it asked then.

        Raises:
            Answered: It is the same.
            Diverged: It is not.
        """
        self.asked.append(now)
        then = self.recorded.get(self.path)
        if then is None:
            self._nothing_then()
        if forking.is_given(then) or (then.asked and then.asked.hash == now.hash):
            raise Answered
        raise Diverged("Something else was asked then.", step=self.path)

    def _nothing_then(self) -> NoReturn:
        if self._ended_outside:
            raise RecordEnds
        raise Diverged("This step did not begin then.", step=self.path)

    def diverged(self, problem: Diverged) -> Ending:
        """Where it asks something else."""
        then = self.recorded.get(self.path)
        asked_then, asked_now = then.asked if then else None, next(iter(self.asked), None)
        return Ending(self.steps, diverged=Divergence(
            step=self.path, problem=problem.kept(), asked_then=asked_then, asked_now=asked_now,
            differences=travel.between(asked_then, asked_now),
        ))  # fmt: skip


async def never() -> Context:
    """Nobody is asked.

    Raises:
        Internal: Always.
    """
    raise Internal("A rerun asks nobody.")
