"""What supervision answers about jobs."""

from bus.context import Context
from handlers.supervision import rules, service, store
from schemas import supervision
from schemas.contract import Page
from schemas.problems import IllegalMove
from schemas.supervision import CancelJob, GetJob, ListJobs, Work


async def load(job_id: str, ctx: Context) -> Work:
    """The job, if the caller may know of it."""
    job = Work.model_validate(await ctx.row(store.GET, job_id))
    ctx.require_owner(job.actor, job.id)
    return job


@service.handles(supervision.job)
async def get(command: GetJob, ctx: Context) -> Work:
    """One row."""
    return await load(command.id, ctx)


@service.handles(supervision.jobs)
async def listing(command: ListJobs, ctx: Context) -> Page[Work]:
    """A page of rows."""
    return await ctx.page(command, Work, store.LIST, *ctx.visible, command.status, command.kind)


@service.handles(supervision.cancel_job)
async def cancel(command: CancelJob, ctx: Context) -> Work:
    """A worker drops the message of what waits; what runs loses its lease, and so is cut."""
    before = await load(command.id, ctx)
    async with ctx.transaction() as tx:
        row = await tx.row(store.CANCEL, command.id, rules.interruptible())
    if row is None:
        raise IllegalMove("This job can no longer be cancelled.", status=before.status)
    return Work.model_validate(dict(row))
