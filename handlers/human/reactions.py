"""Tasks whose time is over leave the inbox, whether anybody looks or not."""

from bus.context import Context
from handlers.human import rules, service, store
from schemas.human import HumanTask, TaskExpired

LOOK_EVERY_S = 1.0
BATCH = 200


@service.every(seconds=LOOK_EVERY_S)
async def expire(ctx: Context) -> None:
    """Record that nobody has answered in time."""
    at = ctx.now()
    async with ctx.transaction() as tx:
        for row in await tx.rows(store.OVERDUE, at, BATCH):
            task = rules.moved(HumanTask.model_validate(dict(row)), "expired", at)
            await tx.record(TaskExpired(task=task))
