"""Housekeeping of the jobs: those that ended are kept for 30 days."""

from bus import forgetting
from bus.context import Context
from handlers.supervision import service, store

FORGET_EVERY_S = 3600
KEPT_DAYS = 30


@service.every(FORGET_EVERY_S)
async def forget(ctx: Context) -> None:
    """Delete old ended jobs."""
    await forgetting.delete(store.FORGET, ctx, KEPT_DAYS)
