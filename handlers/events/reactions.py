"""Housekeeping of the log: months before they begin and when they are old; what is forgotten."""

from bus import forgetting, telemetry
from bus.context import Context
from handlers.events import service, store

PARTITIONS_EVERY_S = 3600
FORGET_EVERY_S = 6 * 3600
ARCHIVE_EVERY_S = 24 * 3600
MONTHS_AHEAD = (0, 1)
INBOX_DAYS = 14
ANSWERS_HOURS = 48
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
    await forgetting.delete(store.FORGET_INBOX, ctx, INBOX_DAYS)
    await forgetting.delete(store.FORGET_ANSWERS, ctx, ANSWERS_HOURS)
    await forgetting.delete(store.FORGET_SCRATCH, ctx)


@service.every(ARCHIVE_EVERY_S)
async def archive(ctx: Context) -> None:
    """Set old months of the log apart; when one is being read, the next day is soon enough."""
    rows = await ctx.database.rows(store.ARCHIVE, ctx.settings.events_archive_days)
    for row in rows:
        telemetry.log().info("month archived", partition=row["moved"])
