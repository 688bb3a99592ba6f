"""How a run gets its driver.

A new run has the process that was asked: what needs nobody is done in the transaction that starts
the run, the rest once that is committed. Later whoever has something for a run enqueues a `Drive`;
so does the one who finds that a run's process died, by its lease (`holding.py`).
"""

import asyncio

from bus import telemetry
from bus.background import end
from bus.context import Context
from bus.database import Transaction
from handlers.workflows import service, store
from handlers.workflows.reactions import holding
from handlers.workflows.reactions.driving import Driver, carry_on
from schemas.workflows.document import Document
from schemas.workflows.runs import Drive, RunStarted, WorkflowRun

AT_ONCE_MAX = 64

_driving: dict[str, asyncio.Task[None]] = {}


async def begin(run: WorkflowRun, document: Document, tx: Transaction, ctx: Context) -> WorkflowRun:
    """Record a new run; returns it as it is then, which may be its end."""
    own = Context(ctx.platform, ctx.principal, ctx.origin, job_id=ctx.new_id())
    driver = Driver(run.id, own, wakes=1)
    driver.run, driver.document = run, document
    await tx.record(RunStarted(run=run))
    if await driver.first(tx):
        return driver.run
    if len(_driving) >= AT_ONCE_MAX:
        await tx.enqueue(Drive(run_id=run.id))
        return run
    await tx.execute(store.CLAIM, run.id, own.job_id, holding.LEASE_S)
    tx.then(lambda: take(driver))
    return run


@service.works(Drive)
async def drive(job: Drive, ctx: Context) -> None:
    """Carry a run on until it ends or waits, unless another job does."""
    assert ctx.job_id is not None
    claim = await ctx.database.row(store.CLAIM, job.run_id, ctx.job_id, holding.LEASE_S)
    if claim is None or str(claim["holder"]) != ctx.job_id:
        return
    driver = Driver(job.run_id, ctx, claim["wakes"])
    await driver.load()
    ctx.part_of(driver.run.goal_id or driver.run.id)
    await carry_on(driver)


def take(driver: Driver) -> None:
    """Carry the run on in this process."""
    holder = str(driver.ctx.job_id)
    task = asyncio.create_task(driven(driver))
    _driving[holder] = task
    task.add_done_callback(lambda _: _driving.pop(holder))


async def driven(driver: Driver) -> None:
    """A driver that fails leaves the run to the next one, once its lease is over."""
    try:
        await carry_on(driver)
    except Exception as failure:
        telemetry.log().warning("driver failed", run=driver.run_id, exc_info=failure)


@service.stops
async def leave(ctx: Context) -> None:
    """Stop driving; other processes go on at once."""
    holders = list(_driving)
    await end(_driving.values())
    if holders:
        await ctx.database.execute(store.HAND_OVER, holders, ctx.now())
