"""What the event log answers."""

from bus import pages, rebuild
from bus.context import Context
from handlers.events import replaying, rules, service, store
from schemas import catalogue, events
from schemas.contract import Page
from schemas.events import (
    Archived,
    ArchiveEvents,
    EntityAt,
    EntityVerdict,
    EventStatistics,
    GetEvent,
    History,
    PastEntity,
    QueryEvents,
    ReadHistory,
    Replayed,
    ReplayEvents,
    Statistics,
    StoredEvent,
    TypeCount,
    Verification,
    VerifyEvents,
)
from schemas.policy import NOTHING
from schemas.problems import NotFound

HISTORY_BYTES_MAX = 512 * 1024


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
    return rules.readable(event, reach, ctx.principal)


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
        archived=row["archived"] if row else 0,
        entities=tuple(EntityVerdict.model_validate(vars(verdict)) for verdict in verdicts),
    )


@service.handles(events.entity_at)
async def entity_at(command: EntityAt, ctx: Context) -> PastEntity:
    """What the newest entry in question says; shown to whom that entry is shown."""
    row = await ctx.row(
        store.ENTITY_AT, command.type, command.id, command.at, command.seq
    )  # fmt: skip
    event = StoredEvent.model_validate(row)
    if not ctx.reaches(None, event.aggregate_id) or not shown(event, ctx):
        raise NotFound
    return rules.as_it_was(event)


@service.handles(events.history)
async def history(command: ReadHistory, ctx: Context) -> History:
    """As many entries as a reply has room for; whoever asks has weighed who may see them."""
    rows = await ctx.database.rows(
        store.HISTORY, list(command.types), list(command.ids), command.seq, command.at,
        command.after_seq, command.last_only, HISTORY_BYTES_MAX, command.limit,
    )  # fmt: skip
    items = tuple(StoredEvent.model_validate(dict(row), extra="ignore") for row in rows)
    return History(items=items, more=bool(rows) and rows[0]["wanted"] > len(rows))


@service.handles(events.replay)
async def replay(command: ReplayEvents, ctx: Context) -> Replayed:
    """The job."""
    return await replaying.run(command, ctx)


@service.handles(events.archive)
async def archive(_: ArchiveEvents, ctx: Context) -> Archived:
    """One function of the database, which owns what is moved."""
    days = ctx.settings.events_archive_days
    moved = [row["moved"] for row in await ctx.database.rows(store.ARCHIVE, days)]
    there = [row["partition"] for row in await ctx.database.rows(store.ARCHIVED)]
    return Archived(moved=tuple(moved), partitions=tuple(there))
