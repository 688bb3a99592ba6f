"""What is said to runs: start, pause, go on, try again, cancel; signals and answers."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from bus import json_schemas
from bus.context import Context
from bus.database import Transaction
from handlers.workflows import ending, people, queueing, service, store
from handlers.workflows.engine import Outcome
from handlers.workflows.operations.definitions import load
from handlers.workflows.reactions.beginning import begin
from handlers.workflows.records import document_of, event_of, step_id
from handlers.workflows.steps import Came
from schemas import human
from schemas.contract import Page
from schemas.human import AnswerTask
from schemas.principal import Mandate
from schemas.problems import IllegalMove, NotFound
from schemas.workflows import runs
from schemas.workflows.runs import (
    OPEN,
    AnswerQuestion,
    CancelWorkflowRun,
    Drive,
    GetWorkflowRun,
    ListRunSteps,
    ListWorkflowRuns,
    NothingAsked,
    PauseRun,
    ResumeRun,
    RetryRun,
    RunMoved,
    RunStatus,
    RunStep,
    SendSignal,
    StartWorkflow,
    WorkflowRun,
)

BY_START = {"started_at": datetime, "id": str}


async def load_run(run_id: str, ctx: Context) -> WorkflowRun:
    """The run, if the caller may know of it."""
    run = WorkflowRun.model_validate(await ctx.row(store.RUN, run_id))
    ctx.require_owner(run.owner_id, run.id, run.workflow_id)
    return run


async def lock_run(tx: Transaction, run_id: str, ctx: Context, *allowed: RunStatus) -> WorkflowRun:
    """The run, held until the transaction ends.

    Raises:
        NotFound: It is not there, or not the caller's.
        IllegalMove: It is in no state for this, or led by its goal.
    """
    row = await tx.row(store.LOCK_RUN, run_id)
    if row is None:
        raise NotFound(id=run_id)
    run = WorkflowRun.model_validate(dict(row))
    ctx.require_owner(run.owner_id, run.id, run.workflow_id)
    ctx.part_of(run.goal_id or run.id)
    if run.goal_id is not None:
        raise IllegalMove("It carries out a goal; say it to that.", goal=run.goal_id)
    if run.status not in (allowed or OPEN):
        raise IllegalMove(status=run.status)
    return run


def moved(run: WorkflowRun, **changes: Any) -> WorkflowRun:
    """The next version of the run."""
    return run.model_copy(update={"version": run.version + 1} | changes)


@service.handles(runs.start)
async def start(command: StartWorkflow, ctx: Context) -> WorkflowRun:
    """Begin a run with the newest document, which it keeps."""
    workflow = await load(command.id, ctx)
    if workflow.status == "deleted":
        raise NotFound(id=command.id)
    json_schemas.require_fit(workflow.document.get("inputs", {}), command.inputs, "/inputs")
    run = ending.new_run(
        workflow, command.inputs, ctx.now(), id=ctx.new_id(),
        within_s=workflow.document.get("within_s"), priority=command.priority,
        owner_id=ctx.principal.id, mandate=Mandate.of(ctx.principal),
    )  # fmt: skip
    ctx.part_of(run.id)
    document = await document_of(run, ctx)  # before a connection is held
    async with ctx.transaction() as tx:
        return await begin(run, document, tx, ctx)


@service.handles(runs.run)
async def get(command: GetWorkflowRun, ctx: Context) -> WorkflowRun:
    """One row."""
    return await load_run(command.id, ctx)


@service.handles(runs.runs)
async def listing(command: ListWorkflowRuns, ctx: Context) -> Page[WorkflowRun]:
    """A page of rows."""
    chosen = (command.workflow_id, command.status)
    return await ctx.page(command, WorkflowRun, store.RUNS, *ctx.visible, *chosen, sort=BY_START)


@service.handles(runs.steps)
async def steps(command: ListRunSteps, ctx: Context) -> Page[RunStep]:
    """A page of a run's steps."""
    await load_run(command.id, ctx)
    return await ctx.page(command, RunStep, store.STEPS_PAGE, command.id, sort=BY_START)


@service.handles(runs.cancel)
async def cancel(command: CancelWorkflowRun, ctx: Context) -> WorkflowRun:
    """To cancelled, or to taking back; the driver hears of it and stops what it does."""
    reason = {"code": "cancelled", "message": command.reason or "cancelled"}
    async with ctx.transaction() as tx:
        before = await lock_run(tx, command.id, ctx)
        queued = before.status == "queued"
        if command.undo and queued and await tx.row(store.ANY_STEP, before.id):
            raise IllegalMove("Taking back needs a place in its queue.", status=before.status)
        if command.undo and not queued:
            run = moved(before, status="undoing", error=reason)
            await tx.record(RunMoved(run=run))
        else:
            run = ending.ended(before, "cancelled", Outcome(error=reason), ctx.now())
            await ending.record(tx, run, ctx, had_place=not queued)
        await tx.enqueue(Drive(run_id=run.id))
    return run


@service.handles(runs.pause)
async def pause(command: PauseRun, ctx: Context) -> WorkflowRun:
    """Begin no more steps."""
    async with ctx.transaction() as tx:
        run = moved(await lock_run(tx, command.id, ctx, "running"), status="paused")
        await tx.record(RunMoved(run=run))
    return run


@service.handles(runs.resume)
async def resume(command: ResumeRun, ctx: Context) -> WorkflowRun:
    """Go on."""
    async with ctx.transaction() as tx:
        run = moved(await lock_run(tx, command.id, ctx, "paused"), status="running")
        await tx.record(RunMoved(run=run))
        await tx.enqueue(Drive(run_id=run.id))
    return run


@service.handles(runs.retry)
async def retry(command: RetryRun, ctx: Context) -> WorkflowRun:
    """What failed is tried again at once; what is done is kept."""
    async with ctx.transaction() as tx:
        return await try_again(tx, await lock_run(tx, command.id, ctx, "failed"), ctx)


async def try_again(
    tx: Transaction, before: WorkflowRun, ctx: Context, **changes: Any
) -> WorkflowRun:
    """A failed run goes on, or is queued again until there is a place."""
    fresh = {"status": "running", "error": None, "result": None, "finished_at": None}
    run = await queueing.placed(tx, moved(before, **fresh, deadline=None, **changes))
    await tx.record(RunMoved(run=run))
    for row in await tx.rows(store.STEPS, run.id):
        step = RunStep.model_validate(dict(row))
        if step.status in ("failed", "started"):
            await tx.record(event_of(again(step, ctx.now())))
    if run.status != "queued":
        await tx.enqueue(Drive(run_id=run.id))
    return run


def again(step: RunStep, at: datetime) -> RunStep:
    """A failed step that is due now."""
    changes = {
        "version": step.version + 1, "status": "retrying", "due_at": at, "finished_at": None,
        "awaits": None, "attempt": 0,
    }  # fmt: skip
    return step.model_copy(update=changes)


@service.handles(runs.signal)
async def signal(command: SendSignal, ctx: Context) -> WorkflowRun:
    """End the step that waits for it; kept for the step that will, when none does."""
    async with ctx.transaction() as tx:
        before = await lock_run(tx, command.id, ctx)
        row = await tx.row(store.AWAITING, before.id, f"signal/{command.name}")
        if row is None:
            await tx.execute(store.KEEP_SIGNAL, before.id, command.name, command.data, ctx.now())
        else:
            step = RunStep.model_validate(dict(row))
            done = ending.over(step, Came("done", command.data), ctx.now())
            await tx.record(event_of(done))
        return await ending.wake(tx, before)


@service.handles(runs.answer)
async def answer(command: AnswerQuestion, ctx: Context) -> RunStep:
    """Answer in the inbox, where the first that fits counts, and end the step at once."""
    run = await load_run(command.id, ctx)
    row = await ctx.database.row(store.STEP, step_id(run.id, command.path))
    if row is None or row["status"] != "waiting" or row["awaits"] != f"task/{row['id']}":
        raise NothingAsked(path=command.path)
    given = AnswerTask(id=str(row["id"]), answer=command.answer, sha256=command.sha256)
    ctx.part_of(run.id)
    key = str(uuid5(UUID(given.id), ctx.key)) if ctx.key else None
    task = await ctx.call(human.answer, given, key=key)
    async with ctx.transaction() as tx:
        await ending.tell(tx, run.id, task.id, people.answered(task), ctx)
        return RunStep.model_validate(dict(await tx.row(store.STEP, task.id) or {}))
