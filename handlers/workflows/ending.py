"""How runs and waiting steps end, and what that means for the runs that wait for them."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from bus import travel
from bus.context import Context
from bus.database import Transaction
from handlers.workflows import queueing, store
from handlers.workflows.engine import ABANDONED, Begin, Outcome
from handlers.workflows.mapping import computed
from handlers.workflows.records import end_of, event_of
from handlers.workflows.steps import OUTPUT_BYTES_MAX, WORKFLOWS, Came, Place, failed, too_large
from schemas import agents, human, supervision
from schemas.agents import CancelRun
from schemas.contract import Json, Problem
from schemas.human import WithdrawTask
from schemas.problems import NotFound, TooLarge
from schemas.supervision import CancelJob
from schemas.workflows.definitions import Workflow
from schemas.workflows.document import WorkflowStep
from schemas.workflows.runs import (
    OPEN,
    PRIORITY,
    Drive,
    EndedBadly,
    LeadRun,
    RunStarted,
    RunStatus,
    RunStep,
    RunTold,
    WorkflowRun,
)

LOOK_AT_INNER_S = 30.0


def new_run(
    workflow: Workflow, inputs: Json, at: datetime, *, id: str, within_s: float | None,
    priority: int | None, parent: WorkflowRun | None = None, path: str | None = None,
    **asked: object,
) -> WorkflowRun:  # fmt: skip
    """A run that begins now."""
    return WorkflowRun(
        id=id, version=1, workflow_id=workflow.id, workflow_name=workflow.name,
        workflow_version=workflow.version, status="running", inputs=inputs, result=None,
        error=None, parent_id=parent.id if parent else None, parent_path=path, started_at=at,
        finished_at=None, deadline=at + timedelta(seconds=within_s) if within_s else None,
        priority=priority, **asked,
    )  # fmt: skip


def forked(run: WorkflowRun, at: datetime, within_s: float | None, **other: object) -> WorkflowRun:
    """A run of the same workflow version that begins now, of no other run a part."""
    begins: Json = {
        "version": 1, "status": "running", "result": None, "error": None, "parent_id": None,
        "parent_path": None, "started_at": at, "finished_at": None, "goal_id": None,
        "priority": run.priority or PRIORITY, "queue": None, "runs_at_once": None,
        "deadline": at + timedelta(seconds=within_s) if within_s else None,
    }  # fmt: skip
    return run.model_copy(update=begins | other)


def of_goal(command: LeadRun, at: datetime) -> WorkflowRun:
    """A run that carries out a goal's plan, which stands in for the workflow."""
    return WorkflowRun(
        id=command.id, version=1, workflow_id=command.goal_id, workflow_name=command.name,
        workflow_version=command.version, owner_id=command.owner_id, status="running",
        inputs=command.inputs, result=None, error=None, parent_id=None, parent_path=None,
        started_at=at, finished_at=None, deadline=None, mandate=command.mandate,
        goal_id=command.goal_id, priority=command.priority,
    )  # fmt: skip


def ended(run: WorkflowRun, status: RunStatus, outcome: Outcome, at: datetime) -> WorkflowRun:
    """The run at its end; a result that no event can carry is its failure."""
    if too_large(outcome.output):
        status = "failed"
        problem = TooLarge(f"The result is larger than {OUTPUT_BYTES_MAX} bytes.")
        outcome = Outcome(error=problem.kept())
    return run.model_copy(
        update={
            "status": status, "version": run.version + 1, "result": outcome.output,
            "error": outcome.error, "finished_at": at,
        }
    )  # fmt: skip


async def record(
    tx: Transaction, run: WorkflowRun, ctx: Context, *, had_place: bool = True
) -> None:
    """Record the end of a run: who waits for its place begins, the step that waited for it ends."""
    await tx.record(end_of(run))
    if run.queue is not None and had_place:
        await queueing.let_in(tx, run.owner_id, run.queue, ctx.now())
    if run.parent_id is not None:
        step_id = str(uuid5(UUID(run.parent_id), run.parent_path or ""))
        await tell(tx, run.parent_id, step_id, came_of(run), ctx)


async def tell(tx: Transaction, run_id: str, step_id: str, came: Came, ctx: Context) -> None:
    """End a step that waits, and let its run go on; nothing if it does not wait any more."""
    outer = await tx.row(store.LOCK_RUN, run_id)  # before its steps, as everybody
    row = await tx.row(store.STEP, step_id)
    if outer is None or row is None or row["status"] != "waiting":
        return
    step = RunStep.model_validate(dict(row))
    await tx.record(event_of(over(step, came, ctx.now())))
    await wake(tx, WorkflowRun.model_validate(dict(outer)))


async def wake(tx: Transaction, run: WorkflowRun) -> WorkflowRun:
    """Tell the run's driver, or find it one."""
    told = run.model_copy(update={"version": run.version + 1})
    await tx.record(RunTold(run=told))
    await tx.enqueue(Drive(run_id=run.id))
    return told


def came_of(run: WorkflowRun) -> Came:
    """What the end of an inner run means for the step that waits for it."""
    if run.status == "succeeded":
        return Came("done", run.result)
    return failed(EndedBadly(f"The run has {run.status}.", run=run.id, cause=run.error))


def over(step: RunStep, came: Came, at: datetime) -> RunStep:
    """The next version of a step that has waited."""
    waits = came.status == "waiting"
    return step.model_copy(
        update={
            "version": step.version + 1, "status": came.status, "output": came.output,
            "error": came.error, "due_at": came.due_at, "finished_at": None if waits else at,
            "work": came.work or step.work,
        }
    )  # fmt: skip


async def start_inner(begin: Begin, place: Place, outer: WorkflowRun) -> Came:
    """Start a run of another workflow of the owner, or see what came of it."""
    assert isinstance(begin.step, WorkflowStep)
    ctx, run_id = place.ctx, str(uuid5(UUID(outer.id), f"{place.path}!run"))
    inputs = computed(begin.step.input, begin.known)
    place.asks(travel.asked("workflows.start", {"name": begin.step.workflow, "inputs": inputs}))
    row = await ctx.database.row(store.RUN, run_id)
    if row is not None:
        inner = WorkflowRun.model_validate(dict(row))
        if inner.status not in OPEN:
            return came_of(inner)
    else:
        found = await ctx.database.row(store.NAMED, outer.owner_id, begin.step.workflow)
        if found is None:
            raise NotFound(f"You have no workflow {begin.step.workflow}.")
        workflow = Workflow.model_validate(dict(found))
        inner = new_run(
            workflow, inputs, ctx.now(), id=run_id,
            within_s=workflow.document.get("within_s"), priority=outer.priority, parent=outer,
            path=place.path,
            owner_id=outer.owner_id, mandate=outer.mandate,
        )  # fmt: skip
        async with ctx.transaction() as tx:
            await tx.record(RunStarted(run=inner))
            await tx.enqueue(Drive(run_id=run_id))
    return Came("waiting", awaits=f"inner/{run_id}", due_at=place.look_by(LOOK_AT_INNER_S, None))


async def abandon(
    steps: Sequence[RunStep], acting: Callable[[], Awaitable[Context]], ctx: Context
) -> None:
    """End steps that wait, after what they wait for; what has ended meanwhile needs nothing."""
    for step in steps:
        with suppress(Problem):
            await stop(step, acting, ctx)
    error = {"code": ABANDONED, "message": "The run has ended before."}
    async with ctx.transaction() as tx:
        for step in steps:
            await tx.record(event_of(over(step, Came("failed", error=error), ctx.now())))


async def stop(step: RunStep, acting: Callable[[], Awaitable[Context]], ctx: Context) -> None:
    """Stop what a step waits for."""
    kind, _, name = (step.awaits or "").partition("/")
    key, platform = f"stop/{step.id}/{step.version}", ctx.as_principal(WORKFLOWS)
    if kind == "run":  # whether or not its owner still may
        await platform.call(agents.stop_run, CancelRun(id=name, reason="run ended"))
    elif kind == "job":
        owner = await acting()
        await owner.call(supervision.cancel_job, CancelJob(id=name), key=key)
    elif kind == "task":
        await platform.call(human.withdraw, WithdrawTask(id=name))
    elif kind == "inner":
        await stop_inner(name, ctx)


async def stop_inner(run_id: str, ctx: Context) -> None:
    """Cancel an inner run."""
    async with ctx.transaction() as tx:
        row = await tx.row(store.LOCK_RUN, run_id)
        run = WorkflowRun.model_validate(dict(row)) if row else None
        if run is not None and run.status in OPEN:
            reason = Outcome(error={"code": "cancelled", "message": "The outer run has ended."})
            await tx.record(end_of(ended(run, "cancelled", reason, ctx.now())))
            await tx.enqueue(Drive(run_id=run_id))
