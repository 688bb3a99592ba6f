"""What happens to identities becomes an entry; the request log is kept by the day."""

from bus import telemetry
from bus.context import Context
from handlers.audit import service, store
from handlers.audit.operations import append
from schemas import audit
from schemas.audit import POLICY, Noted
from schemas.contract import Event

SWEEP_EVERY_S = 3600
DAYS_AHEAD = (0, 1, 2)


@service.reacts_to(audit.on_identity)
@service.reacts_to(audit.on_credentials)
async def note_identity(event: Event, ctx: Context) -> None:
    """Who did it to whom. The entity itself stays in the event log."""
    noted = Noted(
        at=ctx.now(), door="event", actor=ctx.origin.actor, via=None, action=event.name,
        resource=event.entity.noun(), resource_id=event.entity.id, decision="allow", reason=None,
        permission=None, policy=POLICY, request_id=ctx.origin.request_id, address=None,
        credential=None,
        details={"event": ctx.origin.causation_id, "version": event.entity.version},
    )  # fmt: skip
    async with ctx.transaction() as tx:
        await append(tx, (noted,))


@service.every(SWEEP_EVERY_S)
async def turn_pages(ctx: Context) -> None:
    """Make the partitions of the days to come, and drop those that are old enough."""
    for days in DAYS_AHEAD:
        await ctx.database.row(store.ADD_DAY, days)
    row = await ctx.database.row(store.DROP_DAYS, ctx.settings.request_log_days)
    if row is not None and row["drop_days"]:
        telemetry.log().info("request log shortened", days_dropped=row["drop_days"])
