"""Runs that carry out plans of goals: what their goals say of them, and nobody else."""

from bus.context import Context
from bus.database import Transaction
from handlers.workflows import ending, service, store
from handlers.workflows.engine import Outcome
from handlers.workflows.operations.definitions import require_good, written
from handlers.workflows.operations.runs import moved, try_again
from handlers.workflows.reactions.beginning import begin
from schemas.problems import NotFound
from schemas.workflows import runs
from schemas.workflows.runs import OPEN, Drive, LeadRun, RunMoved, WorkflowRun


@service.handles(runs.lead)
async def lead(command: LeadRun, ctx: Context) -> WorkflowRun:
    """Start the run, or bring the one that there is to what is said; asked again it is the same."""
    ctx.part_of(command.goal_id)
    known = await ctx.database.row(store.RUN, command.id)
    if known is None and command.to != "running":
        raise NotFound(id=command.id)
    if known is None:
        require_good(command.document)
    async with ctx.transaction() as tx:
        if known is None and await is_first(tx, command):
            return await begin(ending.of_goal(command, ctx.now()), command.document, tx, ctx)
        row = await tx.row(store.LOCK_RUN, command.id)
        return await bring(tx, WorkflowRun.model_validate(dict(row or {})), command, ctx)


async def is_first(tx: Transaction, command: LeadRun) -> bool:
    """Keep the plan's document under its goal; False when somebody has just begun the run."""
    kept = (command.goal_id, command.version, written(command.document))
    return await tx.row(store.KEEP_PLAN, *kept) is not None


async def bring(
    tx: Transaction, before: WorkflowRun, command: LeadRun, ctx: Context
) -> WorkflowRun:  # fmt: skip
    """The run as it is said to be, if it can be that."""
    if command.to == "cancelled" and before.status in OPEN:
        reason = {"code": "cancelled", "message": "The goal was cancelled."}
        run = ending.ended(before, "cancelled", Outcome(error=reason), ctx.now())
        await ending.record(tx, run, ctx)
    elif command.to == "paused" and before.status == "running":
        run = moved(before, status="paused")
        await tx.record(RunMoved(run=run))
    elif command.to == "running" and before.status == "paused":
        run = moved(before, status="running", mandate=command.mandate)
        await tx.record(RunMoved(run=run))
    elif command.to == "running" and before.status == "failed" and command.again:
        return await try_again(tx, before, ctx, mandate=command.mandate)
    else:
        return before
    await tx.enqueue(Drive(run_id=run.id))
    return run
