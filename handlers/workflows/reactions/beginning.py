"""How a run gets its driver.

A new run has the process that was asked: what needs nobody is done in the transaction that starts
the run, the rest once that is committed. Later whoever has something for a run enqueues a `Drive`.
Where there is no room, the run waits its turn (`room.py`).
"""

from bus.context import Context
from bus.database import Transaction
from handlers.workflows import queueing, service, store
from handlers.workflows.reactions import holding
from handlers.workflows.reactions.driving import Driver
from handlers.workflows.reactions.room import held_by, room
from schemas.workflows.document import Document
from schemas.workflows.runs import Drive, RunStarted, WorkflowRun


async def begin(run: WorkflowRun, document: Document, tx: Transaction, ctx: Context) -> WorkflowRun:
    """Record a new run; returns it as it is then, which may be queued, or at its end."""
    run = await queueing.placed(tx, queueing.named(run, document))
    await tx.record(RunStarted(run=run))
    if run.status == "queued":
        return run
    driver = Driver(run.id, held_by(ctx, ctx.new_id()), wakes=1)
    driver.run, driver.document = run, document
    if await driver.first(tx):
        return driver.run
    if room.full:
        await tx.execute(store.WANT, run.id, ctx.now())
        tx.then(room.seek)
        return run
    await tx.execute(store.CLAIM, run.id, driver.ctx.job_id, holding.LEASE_S)
    tx.then(lambda: room.take(driver, known=True))
    return run


@service.works(Drive)
async def drive(job: Drive, ctx: Context) -> None:
    """Find the run a driver, or tell the one that it has to look again."""
    if room.full:
        await ctx.database.execute(store.WANT, job.run_id, ctx.now())
        room.seek()
        return
    own = held_by(ctx, ctx.new_id())
    claim = await ctx.database.row(store.CLAIM, job.run_id, own.job_id, holding.LEASE_S)
    if claim is not None and str(claim["holder"]) == own.job_id:
        room.take(Driver(job.run_id, own, claim["wakes"]), known=False)
