"""Housekeeping of the log: partitions before their month begins, and what may be forgotten."""

from bus import telemetry
from bus.context import Context
from bus.statement import Statement
from handlers.events import service, store

PARTITIONS_EVERY_S = 3600
FORGET_EVERY_S = 6 * 3600
MONTHS_AHEAD = (0, 1)
INBOX_DAYS = 14
ANSWERS_HOURS = 48
BATCH_ROWS = 1_000
BATCHES_MAX = 200
PARTITIONED = (
    ("mcp_documents.events", "recorded_at"),
    ("mcp_documents.tool_invocations", "requested_at"),
    ("models.llm_usage", "at"),
)


@service.every(PARTITIONS_EVERY_S)
async def add_months(ctx: Context) -> None:
    """Make the partitions of this month and the next, where no row stands in their way."""
    for table, moment in PARTITIONED:
        for months in MONTHS_AHEAD:
            row = await ctx.database.row(store.ADD_MONTH, table, moment, months)
            if row is not None and row["add_month"]:
                telemetry.log().info("partition added", table=table, months_ahead=months)


@service.every(FORGET_EVERY_S)
async def forget(ctx: Context) -> None:
    """Delete what no redelivery and no retry can ask for any more."""
    await delete(store.FORGET_INBOX, INBOX_DAYS, ctx)
    await delete(store.FORGET_ANSWERS, ANSWERS_HOURS, ctx)


async def delete(statement: Statement, age: int, ctx: Context) -> None:
    """Delete in small batches, each its own transaction, until one is not full."""
    for _ in range(BATCHES_MAX):
        tag = await ctx.database.execute(statement, age, BATCH_ROWS)
        if int(tag.split()[-1]) < BATCH_ROWS:
            return
