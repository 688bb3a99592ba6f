"""How far a job has got, kept in its row: whoever goes on with it begins there.

A position replaces exactly the one it was read from. Two workers that hold one job for a moment,
because the first was frozen, cannot both write: the second writer is told that its lease is lost.
"""

from bus.beating import LeaseLost
from bus.context import Context
from bus.database import Transaction
from bus.statement import Statement
from schemas.contract import Json

READ = Statement("SELECT position FROM ops.jobs WHERE id = $1")
KEEP = Statement(
    """
    UPDATE ops.jobs SET position = $3, progress = $4
    WHERE id = $1 AND status = 'running' AND position IS NOT DISTINCT FROM $2 RETURNING id
    """
)


async def read(ctx: Context) -> Json | None:
    """The position of the context's job, or None at its very beginning."""
    row = await ctx.database.row(READ, ctx.job_id)
    position: Json | None = row["position"] if row else None
    return position


async def keep(
    tx: Transaction, ctx: Context, before: Json | None, now: Json, progress: float
) -> None:
    """Write the position, in the transaction of what it stands for; `progress` is 0 to 1.

    Raises:
        LeaseLost: The job was cancelled, or somebody else goes on with it.
    """
    if await tx.row(KEEP, ctx.job_id, before, now, progress) is None:
        raise LeaseLost
