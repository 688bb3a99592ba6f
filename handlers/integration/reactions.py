"""Housekeeping of the dead letters: those that are settled are kept for 30 days."""

from bus.context import Context
from handlers.integration import service, store

FORGET_EVERY_S = 3600
KEPT_DAYS = 30
BATCH_ROWS = 1_000
BATCHES_MAX = 100


@service.every(FORGET_EVERY_S)
async def forget(ctx: Context) -> None:
    """Delete old settled letters in small batches, each its own transaction."""
    for _ in range(BATCHES_MAX):
        tag = await ctx.database.execute(store.FORGET, KEPT_DAYS, BATCH_ROWS)
        if int(tag.split()[-1]) < BATCH_ROWS:
            return
