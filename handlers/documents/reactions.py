"""Documents: the job that reads one, and what is recorded when it never will be."""

from bus.context import Context
from handlers.documents import indexing, rules, service
from schemas.contract import Problem
from schemas.documents import Ingest


async def gave_up(job: Ingest, ctx: Context, problem: Problem) -> None:
    """Say that the document will not be read."""
    document = await indexing.find(job.document_id, ctx)
    if document.status in rules.UNFINISHED:
        await indexing.give_up(document, f"It could not be read: {problem.message}", ctx)


@service.works(Ingest, gave_up=gave_up)
async def ingest(job: Ingest, ctx: Context) -> None:
    """Read the document, from where it stands."""
    document = await indexing.find(job.document_id, ctx)
    await indexing.advance(document, ctx, last_try=ctx.attempt >= Ingest.attempts)
