"""What the audit log answers."""

from operator import attrgetter

from bus import pages
from bus.context import Context
from bus.database import Row, Transaction
from handlers.audit import rules, service, store
from handlers.audit.rules import Chain
from schemas import audit
from schemas.audit import (
    AuditEntry,
    ChainVerdict,
    HttpRequest,
    ListEntries,
    ListRequests,
    Noted,
    RecordAudit,
    Recorded,
    SeenRequest,
    VerifyAudit,
)
from schemas.contract import Page

WALK_ROWS = 2_000
VALUES = attrgetter(*HttpRequest.model_fields)


@service.handles(audit.record)
async def record(command: RecordAudit, ctx: Context) -> Recorded:
    """Write a batch in one transaction; its key makes a second delivery harmless."""
    async with ctx.transaction() as tx:
        if command.requests:
            await tx.execute(store.ADD_REQUESTS, *columns(command.requests))
        if command.entries:
            await append(tx, command.entries)
    return Recorded(requests=len(command.requests), entries=len(command.entries))


def columns(requests: tuple[HttpRequest, ...]) -> list[tuple[object, ...]]:
    """The same requests, column by column: one statement writes them all."""
    return list(zip(*map(VALUES, requests), strict=True))


async def append(tx: Transaction, noted: tuple[Noted, ...]) -> None:
    """Lengthen the chain; whoever else writes waits, so that no number is left out."""
    chain = head_in(await tx.row(store.LOCK_HEAD))
    entries = [chain.append(one) for one in noted]
    names = [name.strip() for name in store.ENTRY_COLUMNS.split(",")]
    await tx.execute_many(store.ADD_ENTRY, [[getattr(e, name) for name in names] for e in entries])
    await tx.execute(store.MOVE_HEAD, chain.seq, chain.hash)


def head_in(row: Row | None) -> Chain:
    """The end of the chain as it is stored."""
    assert row is not None
    return Chain(row["seq"], row["hash"])


@service.handles(audit.entries)
async def entries(command: ListEntries, ctx: Context) -> Page[AuditEntry]:
    """A page of decisions."""
    (seq,) = pages.after(command, (int,))
    rows = await ctx.database.rows(
        store.LIST_ENTRIES, command.actor, command.action, command.decision, command.request_id,
        command.since, command.until, seq, command.limit + 1,
    )  # fmt: skip
    return pages.page(command, AuditEntry, rows, ("seq",))


@service.handles(audit.requests)
async def requests(command: ListRequests, ctx: Context) -> Page[SeenRequest]:
    """A page of requests."""
    (id_,) = pages.after(command, (int,))
    rows = await ctx.database.rows(
        store.LIST_REQUESTS, command.actor, command.operation, command.status, command.decision,
        command.request_id, command.since, command.until, id_, command.limit + 1,
    )  # fmt: skip
    return pages.page(command, SeenRequest, rows, ("id",))


@service.handles(audit.verify)
async def verify(command: VerifyAudit, ctx: Context) -> ChainVerdict:
    """Walk up to where the chain ended when the walk began; entries are only ever added."""
    head = head_in(await ctx.database.row(store.HEAD))
    walk, at = rules.Walk(command.known_seq, command.known_hash), 0
    while walk.broken_at is None and at < head.seq:
        rows = await ctx.database.rows(store.WALK, at, min(WALK_ROWS, head.seq - at))
        walk.over(AuditEntry.model_validate(dict(row)) for row in rows)
        if not rows:
            break
        at = rows[-1]["seq"]
    return walk.verdict(head)
