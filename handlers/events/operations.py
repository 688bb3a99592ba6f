"""What the event log answers."""

from bus import pages, rebuild
from bus.context import Context
from handlers.events import rules, service, store
from schemas import catalogue, events
from schemas.contract import Page
from schemas.events import (
    EntityVerdict,
    EventStatistics,
    GetEvent,
    QueryEvents,
    Statistics,
    StoredEvent,
    TypeCount,
    Verification,
    VerifyEvents,
)
from schemas.policy import NOTHING
from schemas.problems import NotFound


@service.handles(events.query)
async def query(command: QueryEvents, ctx: Context) -> Page[StoredEvent]:
    """A page of the log; a name without a dot stands for all types of that domain."""
    (seq,) = pages.after(command, (int,))
    named = command.type is not None and "." in command.type
    rows = await ctx.database.rows(
        store.BACKWARD if command.newest_first else store.FORWARD,
        command.type if named else None,
        f"{command.type}." if command.type and not named else None,
        command.aggregate_type, command.aggregate_id, command.correlation_id,
        command.after_seq, seq, command.limit + 1,
    )  # fmt: skip
    page = pages.page(command, StoredEvent, rows, ("seq",))
    return page.model_copy(update={"items": tuple(e for e in page.items if shown(e, ctx))})


def shown(event: StoredEvent, ctx: Context) -> bool:
    """Whether the caller may read the thing that an entry is about, as it is in the live feed."""
    ctx.weighed = True
    permission, _ = rules.permissions().get(event.type, (None, True))
    reach = ctx.platform.rights.reach(ctx.principal, permission) if permission else NOTHING
    return rules.readable(event, reach, ctx.principal.id)


@service.handles(events.get)
async def get(command: GetEvent, ctx: Context) -> StoredEvent:
    """One entry."""
    event = StoredEvent.model_validate(await ctx.row(store.GET, command.id))
    if not shown(event, ctx):
        raise NotFound
    return event


@service.handles(events.statistics)
async def statistics(command: EventStatistics, ctx: Context) -> Statistics:
    """Counts; the total is the sum of all entities' versions, which `verify` proves equal."""
    totals = await ctx.row(store.TOTALS)
    types = await ctx.database.rows(store.TYPES, command.hours)
    counts = tuple(TypeCount.model_validate(dict(row)) for row in types)
    return Statistics.model_validate(totals | {"types": counts})


@service.handles(events.verify)
async def verify(_: VerifyEvents, ctx: Context) -> Verification:
    """Replay in one snapshot of the database."""
    async with ctx.transaction() as tx:
        verdicts = await rebuild.verify(tx, catalogue.events())
        row = await tx.row(store.COUNT)
    return Verification(
        ok=not any(v.different or v.broken_chains or v.gaps for v in verdicts),
        events=row["events"] if row else 0,
        entities=tuple(EntityVerdict.model_validate(vars(verdict)) for verdict in verdicts),
    )
