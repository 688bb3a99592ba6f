"""How a run is carried on: begin what can begin, record what came of it, ask the engine again.

One driver has a run: the one that holds its row in `flow.drivers` (`holding.py`). Whoever has
something for a run records it and enqueues a `Drive`: if the run has a driver, that job only
counts up `wakes`, and the driver looks again before it lets go. A driver that slept too long
cannot write: the version of each step and of the run is the fence.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from bus import stopping, telemetry
from bus.context import Context
from bus.database import Transaction
from handlers.workflows import ending, limits, store
from handlers.workflows.assigning import FREE_AGENT, ask_again_at, asks
from handlers.workflows.doing import do
from handlers.workflows.engine import (
    Begin,
    BeginUndo,
    Decision,
    Outcome,
    Over,
    Record,
    State,
    decide,
)
from handlers.workflows.owner import Owner
from handlers.workflows.reactions import holding, waking
from handlers.workflows.records import (
    document_of,
    event_of,
    failure_of,
    next_of,
    record_of,
    says_more,
)
from handlers.workflows.steps import Came, Place, compute_now, is_computed, safe_to_repeat
from schemas.contract import Problem
from schemas.problems import TimedOut, VersionConflict
from schemas.travel import Asked
from schemas.workflows.runs import (
    OPEN,
    RunMoved,
    RunStep,
    StepStarted,
    WorkflowRun,
)

STAY_S = 1.0
COMPUTED_MAX = 64
TRIES = 5


@dataclass(slots=True)
class Doing:
    """A step that is being done by this driver."""

    begin: Begin | BeginUndo
    task: "asyncio.Task[Came]"
    started_at: datetime


async def carry_on(driver: "Driver") -> None:
    """Drive the run that the driver holds and knows."""
    with holding.held(driver), waking.listening(driver.run_id, driver.tell):
        await driver.go()


class Driver:
    """One run in the hands of one process; `ctx.job_id` is who holds it."""

    def __init__(self, run_id: str, ctx: Context, wakes: int) -> None:
        self.ctx, self.run_id, self.wakes = ctx, run_id, wakes
        self._wake, self._told, self._lost = asyncio.Event(), False, False
        self.run: WorkflowRun
        self.steps: dict[str, RunStep] = {}
        self.doing: dict[str, Doing] = {}
        self.computed: dict[str, RunStep] = {}
        self.ask_again_at: dict[str, datetime] = {}
        self._records: dict[str, tuple[RunStep, Record]] = {}
        self._items: Over = {}
        self._owner = Owner(ctx)

    def tell(self) -> None:
        """Somebody has recorded something about the run."""
        self._told = True
        self._wake.set()

    def lose(self) -> None:
        """Somebody else drives the run now."""
        self._lost = True
        self._wake.set()

    async def first(self, tx: Transaction) -> bool:
        """Record what a new run can do without anybody; whether that was all."""
        decision = self._compute()
        steps, run = list(self.computed.values()), None
        if decision.outcome is not None:
            run = ending.ended(self.run, decision.status, decision.outcome, self.ctx.now())
        await tx.record_all(event_of(step) for step in steps)
        if run is not None:
            await ending.record(tx, run, self.ctx)
        self._know(steps, run)
        return run is not None

    async def go(self) -> None:
        """Until the run ends or there is nothing to do but to wait."""
        try:
            while not (self._lost or await self._on()):
                pass
        finally:
            await self._stop()

    async def load(self) -> None:
        """Read everything anew."""
        ctx = self.ctx
        self.run = WorkflowRun.model_validate(await ctx.row(store.RUN, self.run_id))
        self.document = await document_of(self.run, ctx)
        self.computed, self._items = {}, {}
        rows = await ctx.database.rows(store.STEPS, self.run_id)
        self.steps = {row["path"]: RunStep.model_validate(dict(row)) for row in rows}

    async def _on(self) -> bool:
        """One round; tells whether the driver has let go of the run."""
        if self.run.status not in OPEN:
            return await self._leave()
        if self.run.status == "queued":
            return await self._let_go(None)  # whoever lets it in says so
        decision = self._compute()
        if decision.abandon:
            await self._abandon([self.steps[path] for path in decision.abandon])
            return False
        if self.run.status == "paused":
            return not await self._finish_doing(decision) and await self._let_go(None)
        if decision.outcome is not None:
            return await self._end(decision)
        busy = await self._begin(decision) or await self._finish_doing(decision)
        return not busy and await self._rest(decision)

    async def _leave(self) -> bool:
        """Somebody has ended the run: stop what it does and waits for."""
        await self._stop(stopping.FOR_GOOD)
        await self._abandon(self._waiting())
        await self.ctx.database.execute(store.FORGET, self.run_id, self.ctx.job_id)
        return True

    async def _finish_doing(self, decision: Decision) -> bool:
        """Wait for something that is being done, if there is anything."""
        if self.doing:
            await self._wait(decision)
            return True
        return False

    async def _end(self, decision: Decision) -> bool:
        """Record the end of the run; of one that takes too long, after what it does."""
        await self._stop(stopping.FOR_GOOD)
        if self._waiting():
            await self._abandon(self._waiting())
            return False
        return await self._record([], decision)

    def _compute(self) -> Decision:
        """Do what needs nobody and can be done again, until something else is to be done.

        Values are recorded with the step behind them, in one commit: none is lost with it.
        """
        while True:
            decision = self._decide()
            pure = [b for b in decision.begin if isinstance(b, Begin) and is_computed(b)]
            if not pure or decision.abandon or len(self.computed) >= COMPUTED_MAX:
                return decision
            for begin in pure:
                step = self._recorded(begin, compute_now(begin), self.ctx.now())
                self.computed[begin.path] = step

    def _decide(self) -> Decision:
        """What the engine says, with what is being done counted as begun."""
        room = limits.room(self.document, self.steps, self.doing)
        known = (*self.steps.values(), *self.computed.values())
        records = {step.path: self._record_of(step, room) for step in known}
        records |= {path: Record("started") for path in self.doing}
        about = {"id": self.run.id, "started_at": self.run.started_at.isoformat()}
        state = State(self.run.status, self.run.inputs, records, self.ctx.now(), about)
        if self.run.deadline is not None and state.at >= self.run.deadline:
            late = Outcome(error=TimedOut("The run took too long.").kept())
            return Decision(outcome=late, status="failed")
        decision = decide(self.document, state, self._items)
        decision.wake_at(self.run.deadline)
        return decision

    def _record_of(self, step: RunStep, room: int) -> Record:
        """A step's record; one that waits for any agent is due when it is to ask again."""
        known = self._records.get(step.path)
        if known is None or known[0] is not step:
            known = self._records[step.path] = step, record_of(step)
        if room and asks(step):
            return replace(known[1], due_at=self.ask_again_at.get(step.path, self.ctx.now()))
        return known[1]

    async def _begin(self, decision: Decision) -> bool:
        """Begin what can begin and look at what is due; whether anything was recorded."""
        if self.computed:
            await self._record([], None)
            return True
        if decision.status == "undoing" and self.run.status == "running":
            await self._move("undoing")
        asking = [b for b in decision.look if asks(self.steps[b.path])]
        due = [b for b in decision.look if b not in asking and b.path not in self.doing]
        ready = [b for b in (*asking, *decision.begin) if b.path not in self.doing]
        wanted = ready[: limits.room(self.document, self.steps, self.doing)]
        unsafe = [b for b in wanted if not safe_to_repeat(b)]
        if unsafe and not await self._announce(unsafe):
            return True
        for begin in [*wanted, *due]:
            task = asyncio.create_task(self._do(begin))
            task.add_done_callback(lambda _: self._wake.set())
            self.doing[begin.path] = Doing(begin, task, self.ctx.now())
        return False

    async def _announce(self, begins: Sequence[Begin | BeginUndo]) -> bool:
        """Record that steps begin which must not begin twice."""
        started = [self._recorded(b, Came("started"), self.ctx.now()) for b in begins]
        return await self._write([StepStarted(step=step) for step in started], started)

    async def _do(self, begin: Begin | BeginUndo) -> Came:
        """Do one step; its failure is what came of it."""
        asked, record = list[Asked](), self.steps.get(begin.path)
        place = Place(
            self.run_id, begin.path, self.ctx, self._acting, record, asked.append,
            goal_id=self.run.goal_id, tokens_left=limits.tokens_left(self.document, self.steps),
        )  # fmt: skip
        came = await self._outcome(begin, place)
        if came.awaits == FREE_AGENT:
            self.ask_again_at[begin.path] = ask_again_at(place)
        return replace(came, asked=asked[0] if asked else None)

    async def _outcome(self, begin: Begin | BeginUndo, place: Place) -> Came:
        """What comes of a step, good or bad."""
        try:
            return await do(begin, place, self.document, self.run)
        except Problem as problem:
            return failure_of(begin, problem, self.ctx.now())
        except Exception as broken:
            telemetry.log().error("step broke", run=self.run_id, path=begin.path, exc_info=broken)
            odd = TimedOut(f"{type(broken).__name__}: {broken}")
            return failure_of(begin, odd, self.ctx.now())

    async def _wait(self, decision: Decision) -> None:
        """Until something that is done ends, somebody wakes the driver, or something is due."""
        if not any(doing.task.done() for doing in self.doing.values()):
            due_at = decision.due_at
            timeout_s = max(0.0, (due_at - self.ctx.now()).total_seconds()) if due_at else None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
        self._wake.clear()
        over = [doing for doing in self.doing.values() if doing.task.done()]
        if over:
            await self._record(over, None)
        if self._told or not over:
            self._told = False
            await self.load()

    async def _record(self, over: Sequence[Doing], decision: Decision | None) -> bool:
        """Write down what came of steps, and the run's end with it if that was all."""
        for doing in over:
            del self.doing[doing.begin.path]
        for _ in range(TRIES):
            steps = [
                self._recorded(doing.begin, doing.task.result(), doing.started_at)
                for doing in over
                if not self._over(doing.begin.path)
            ]
            steps = [step for step in steps if says_more(self.steps.get(step.path), step)]
            end = decision or self._look_ahead({step.path: step for step in steps})
            steps += self.computed.values()
            run = None
            if end is not None and end.outcome is not None and self.run.status in OPEN:
                run = ending.ended(self.run, end.status, end.outcome, self.ctx.now())
            if await self._write([event_of(step) for step in steps], steps, run):
                return run is not None
        raise VersionConflict

    def _over(self, path: str) -> bool:
        """Whether somebody else has ended a step meanwhile."""
        step = self.steps.get(path)
        return step is not None and step.status in ("done", "failed")

    def _look_ahead(self, after: dict[str, RunStep]) -> Decision | None:
        """What the engine will say once these are recorded, if it is the end."""
        if self.doing or self.run.status == "paused":
            return None
        before, items = self.steps, self._items
        self.steps, self._items = before | after, dict(items)
        try:
            decision = self._compute()
        finally:
            self.steps, self._items = before, items
        wanted = decision.outcome is not None and not decision.abandon
        return decision if wanted else None

    async def _write(
        self, moved: Sequence[Any], steps: Sequence[RunStep], run: WorkflowRun | None = None
    ) -> bool:
        """One transaction; False when somebody else has changed the run, which is read anew."""
        ctx, signalled = self.ctx, list[RunStep]()
        try:
            async with ctx.transaction() as tx:
                if any(step.awaits for step in (*self.steps.values(), *steps)):
                    await tx.row(store.LOCK_RUN, self.run_id)  # before its steps, as everybody
                await tx.record_all(moved)
                for step in steps:
                    signalled += await self._signalled(tx, step)
                if run is not None:
                    await ending.record(tx, run, ctx)
                    await tx.execute(store.FORGET, self.run_id, ctx.job_id)
        except VersionConflict:
            await self.load()
            return False
        self._know([*steps, *signalled], run)
        return True

    def _know(self, steps: Sequence[RunStep], run: WorkflowRun | None) -> None:
        """What is recorded now."""
        self.steps |= {step.path: step for step in steps}
        self.computed.clear()
        if run is not None:
            self.run = run

    async def _signalled(self, tx: Transaction, step: RunStep) -> list[RunStep]:
        """A signal that was sent before its step waited for it ends the step at once."""
        kind, _, name = (step.awaits or "").partition("/")
        if step.status != "waiting" or kind != "signal":
            return []
        row = await tx.row(store.TAKE_SIGNAL, self.run_id, name)
        if row is None:
            return []
        done = ending.over(step, Came("done", row["data"]), self.ctx.now())
        await tx.record(event_of(done))
        return [done]

    def _recorded(self, begin: Begin | BeginUndo, came: Came, began: datetime) -> RunStep:
        """The next version of a step's record."""
        before = self.steps.get(begin.path)
        return next_of(before, self.run, begin, came, began=began, at=self.ctx.now())

    async def _rest(self, decision: Decision) -> bool:
        """Nothing can be done now: stay for what is due soon, else let go."""
        if decision.due_at is not None:
            left_s = (decision.due_at - self.ctx.now()).total_seconds()
            if left_s <= STAY_S:
                await self._wait(decision)
                return False
        return await self._let_go(decision.due_at)

    async def _let_go(self, due_at: datetime | None) -> bool:
        """Give the run back, unless somebody has come with something in between."""
        ctx = self.ctx
        released = await ctx.database.row(
            store.RELEASE, self.run_id, ctx.job_id, self.wakes, due_at
        )
        if released is not None:
            return True
        row = await ctx.database.row(store.WAKES, self.run_id, ctx.job_id)
        if row is None:
            return True
        self.wakes = row["wakes"]
        await self.load()
        return False

    async def _move(self, status: Any) -> None:
        """Say that the run is something else now."""
        moved = self.run.model_copy(update={"status": status, "version": self.run.version + 1})
        if await self._write([RunMoved(run=moved)], []):
            self.run = moved

    def _waiting(self) -> list[RunStep]:
        return [step for step in self.steps.values() if step.status in ("waiting", "retrying")]

    async def _abandon(self, steps: Sequence[RunStep]) -> None:
        """End steps that wait for what is no longer wanted, with what they wait for."""
        if steps:
            with contextlib.suppress(VersionConflict):  # one has ended just now: look again
                await ending.abandon(steps, self._acting, self.ctx)
            await self.load()

    async def _stop(self, why: str | None = None) -> None:
        tasks = [doing.task for doing in self.doing.values()]
        for task in tasks:
            task.cancel(why)
        await asyncio.gather(*tasks, return_exceptions=True)
        self.doing.clear()

    async def _acting(self) -> Context:
        return await self._owner.acting(self.run)
