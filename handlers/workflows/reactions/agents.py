"""Runs of agents that have ended: the steps that wait for them need not look."""

from bus.context import Context
from handlers.workflows import ending, service, store
from handlers.workflows.steps import GOOD_END, Came, failed
from schemas.agents import RunFinished
from schemas.workflows.runs import EndedBadly, on_agent_finished


@service.reacts_to(on_agent_finished)
async def follow_agent(event: RunFinished, ctx: Context) -> None:
    """End the step that waits for this run of an agent."""
    run = event.run
    async with ctx.transaction() as tx:
        row = await tx.row(store.ANYWHERE_AWAITING, f"run/{run.id}")
        if row is None:
            return
        came = Came("done", run.result)
        if run.status not in GOOD_END:
            came = failed(EndedBadly(f"The agent's run has {run.status}.", cause=run.error))
        await ending.tell(tx, str(row["run_id"]), str(row["id"]), came, ctx)
