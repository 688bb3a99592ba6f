"""Deleting what is too old, in small batches: no statement holds many rows for long."""

from bus.context import Context
from bus.statement import Statement

BATCH_ROWS = 1_000
BATCHES_MAX = 200


async def delete(statement: Statement, ctx: Context, *values: int) -> None:
    """Delete batch after batch, each its own transaction, until one is not full.

    Args:
        statement: Takes the values and, last, how many rows at most.
        ctx: The sweep's.
        values: What makes a row old.
    """
    for _ in range(BATCHES_MAX):
        tag = await ctx.database.execute(statement, *values, BATCH_ROWS)
        if int(tag.split()[-1]) < BATCH_ROWS:
            return
