"""Places in queues that nobody was given: a version that knew no queues has ended their runs.

Otherwise the end of a run gives its place to the next one, in the same transaction.
"""

from bus.context import Context
from handlers.workflows import queueing, service, store

LOOK_EVERY_S = 5.0
QUEUES_AT_ONCE_MAX = 100


@service.every(seconds=LOOK_EVERY_S)
async def let_in(ctx: Context) -> None:
    """Let in whoever has a place."""
    for row in await ctx.database.rows(store.STUCK_QUEUES, QUEUES_AT_ONCE_MAX):
        async with ctx.transaction() as tx:
            await queueing.let_in(tx, row["owner_id"], row["queue"], ctx.now())
