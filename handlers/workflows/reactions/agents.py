"""Runs of agents that have ended: the steps that wait for them need not look."""

from dataclasses import replace

from bus.context import Context
from handlers.workflows import assigning, ending, service, store
from handlers.workflows.steps import GOOD_END, Came
from schemas.agents import RunFinished
from schemas.workflows.runs import RunStep, on_agent_finished

NUDGED_MAX = 8


@service.reacts_to(on_agent_finished)
async def follow_agent(event: RunFinished, ctx: Context) -> None:
    """End the step that waits for this run, and let those that wait for any agent ask again."""
    run = event.run
    async with ctx.transaction() as tx:
        row = await tx.row(store.ANYWHERE_AWAITING, f"run/{run.id}")
        if row is not None:
            step = RunStep.model_validate(dict(row))
            came = Came("done", run.result, work=assigning.after(step, run))
            if run.status not in GOOD_END:  # whether it is tried again, its driver says
                came = replace(came, status="waiting", output=None, work=None, due_at=ctx.now())
            await ending.tell(tx, step.run_id, step.id, came, ctx)
        await tx.execute(store.NUDGE, assigning.FREE_AGENT, ctx.now(), NUDGED_MAX)
