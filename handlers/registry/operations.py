"""What the registry answers."""

from typing import Any

from pydantic import ValidationError

from bus import json_schemas, named, pages
from bus.context import Context
from bus.database import Transaction
from bus.service import own_context
from handlers.registry import calls, index, rules, service, shelf, store, watching
from handlers.registry.health import Watch
from schemas import registry, tools
from schemas.contract import Operation, Page
from schemas.problems import IllegalMove, NotFound
from schemas.registry import (
    DeregisterService,
    Entry,
    Found,
    GetEntry,
    GetService,
    Hit,
    Invoked,
    InvokeService,
    Lease,
    ListEntries,
    ListServices,
    RegisterService,
    RenewService,
    SearchServices,
    Service,
    TooManyServices,
)
from schemas.tools import GetTool, InvokeTool, ToolUnknown

INPUT = "/input"


@service.handles(registry.services)
async def listing(command: ListServices, ctx: Context) -> Page[Service]:
    """A page of rows; those like some words by their trigrams."""
    filters: list[object] = [command.status, command.layer, list(command.tags)]
    statement = store.LIST
    if command.like is not None:
        statement, filters = store.LIST_LIKE, [*filters, command.like]
    page = await ctx.page(command, Service, statement, *filters, sort={"name": str})
    return ctx.reached(pages.fitting(command, page, ("name",)), lambda found: (None, found.name))


@service.handles(registry.search)
async def search(command: SearchServices, ctx: Context) -> Page[Hit]:
    """Ask the index."""
    after = pages.after(command, (float, str, str, str))
    behind = index.rank_of(*after) if command.cursor else None
    found = await shelf.current(own_context(service, ctx.platform))
    hits = found.search(command.q, command.limit + 1, index.chosen(command), behind)
    rows = [dict(hit) for hit in hits]
    page = pages.page(command, Hit, rows, ("score", "name", "kind", "service"))
    return reached(page, ctx)


@service.handles(registry.entries)
async def entries(command: ListEntries, ctx: Context) -> Page[Entry]:
    """A page of the index."""
    after = pages.after(command, (str, str, str)) if command.cursor else None
    found = await shelf.current(own_context(service, ctx.platform))
    rows = [dict(each) for each in found.listed(index.chosen(command), after, command.limit + 1)]
    sort = ("name", "kind", "service")
    page: Page[Entry] = pages.fitting(command, pages.page(command, Entry, rows, sort), sort)
    return reached(page, ctx)


def reached(page: Page[Any], ctx: Context) -> Page[Any]:
    """A page without what the caller may not know of: a tool has grants of its own."""
    hidden = ctx.platform.rights.reach(ctx.principal, tools.get.may).denied
    page = ctx.reached(page, lambda found: (None, found.service, found.name))
    items = tuple(found for found in page.items if not is_hidden(found, hidden))
    return page.model_copy(update={"items": items})


def is_hidden(found: Found, hidden: frozenset[str]) -> bool:
    """Whether it is a tool that the caller may not read."""
    return found.kind == "tool" and found.name in hidden


@service.handles(registry.entry)
async def entry(command: GetEntry, ctx: Context) -> Entry:
    """The first of this name: an operation before a service before a tool."""
    found = await shelf.current(own_context(service, ctx.platform))
    shown = reached(Page[Entry](items=tuple(found.named(command.name))), ctx)
    if not shown.items:
        raise NotFound(name=command.name)
    first: Entry = shown.items[0]
    return first


@service.handles(registry.service)
async def get(command: GetService, ctx: Context) -> Service:
    """One row."""
    return Service.model_validate(await ctx.row(store.GET, command.name))


@service.handles(registry.register)
async def register(command: RegisterService, ctx: Context) -> Service:
    """Check the schemas, decide, write, announce; what is there already is renewed."""
    for endpoint in command.endpoints:
        json_schemas.check(endpoint.input_schema)
        json_schemas.check(endpoint.output_schema)
    async with ctx.transaction() as tx:
        before, watch = await watching.lock(tx, command.name)
        rules.require_registrable(command, before, ctx.principal)
        anew = before is None or before.status == "lost"
        if anew:
            await require_room(tx, ctx)
        watch = rules.watched(command, watch, anew=anew, at=ctx.now())
        after = rules.registered(command, before, ctx.principal.id, ctx.now())
        after = rules.shown(after, before, watch.health, ctx.now())
        return await watching.keep(tx, before, after, watch)


async def require_room(tx: Transaction, ctx: Context) -> None:
    """Refuse one service more than somebody may have.

    Raises:
        TooManyServices: It would be.
    """
    row = await tx.row(store.OWNED, ctx.principal.id)
    if row is not None and row["number"] >= rules.OWNED_MAX:
        raise TooManyServices(most=rules.OWNED_MAX)


@service.handles(registry.renew)
async def renew(command: RenewService, ctx: Context) -> Lease:
    """A new lease, from now on."""
    async with ctx.transaction() as tx:
        before, watch = await leased(command.name, tx, ctx)
        watch = watch.renewed(ctx.now())
        after = rules.shown(before, before, watch.health, ctx.now())
        after = await watching.keep(tx, before, after, watch)
    assert watch.lease_until is not None
    return Lease(name=after.name, status=after.status, until=watch.lease_until)


@service.handles(registry.deregister)
async def deregister(command: DeregisterService, ctx: Context) -> Service:
    """It is lost at once."""
    async with ctx.transaction() as tx:
        before, watch = await leased(command.name, tx, ctx)
        after = rules.removed(before, "It was deregistered.", ctx.now())
        return await watching.keep(tx, before, after, watch.ended(ctx.now()))


async def leased(name: str, tx: Transaction, ctx: Context) -> tuple[Service, Watch]:
    """A registered service of the caller's, held until the transaction ends.

    Raises:
        NotFound: There is none, or it is somebody else's.
        IllegalMove: It answers by itself and has no lease.
    """
    found, watch = await watching.lock(tx, name)
    if found is None or found.status == "lost":
        raise NotFound(name=name)
    ctx.require_owner(found.owner_id or "", found.id, found.name)
    if found.owner_id is None:
        raise IllegalMove("It is there as long as it answers; it was not registered.", name=name)
    if watch is None or watch.lease_s is None:
        raise IllegalMove("Its lease is not known any more; register it again.", name=name)
    return found, watch


@service.handles(registry.invoke)
async def invoke(command: InvokeService, ctx: Context) -> Invoked:
    """Ask the operation or the tool on behalf of the caller; its own permission decides."""
    name = await invocable(command.name, ctx)
    asked = named.operation(name)
    if asked is not None:
        return await invoke_operation(asked, command, ctx)
    return await invoke_tool(name, command, ctx)


async def invocable(name: str, ctx: Context) -> str:
    """The operation or tool that a name means; a service that does one thing means that.

    Raises:
        NotFound: It means nothing, or several things.
    """
    if "." in name:
        return name
    row = await ctx.database.row(store.GET, name)
    if row is None:
        return name
    found = Service.model_validate(dict(row))
    if found.status == "lost" or not ctx.reaches(None, found.name):
        raise NotFound(name=name)
    names = rules.invocable_names(found)
    if len(names) != 1:
        raise NotFound("Name one of the things that this service does.", names=names)
    return names[0]


async def invoke_operation(
    asked: Operation[Any, Any], command: InvokeService, ctx: Context
) -> Invoked:
    """Check the input, then ask.

    Raises:
        Malformed: The input is not of its form; says where.
        Problem: The one that it answers.
    """
    if not asked.for_documents or asked is registry.invoke:
        raise NotFound(name=asked.name)
    if not ctx.reaches(None, asked.domain, asked.name):
        raise NotFound(name=asked.name)
    request = named.command_of(asked, command.input, at=INPUT)
    key = ctx.key if asked.idempotent else None
    with calls.counted(asked.domain):
        output = await named.ask(ctx, asked, request, key=key, timeout_s=command.timeout_s)
    return Invoked(name=asked.name, kind="operation", service=asked.domain, output=output)


async def invoke_tool(name: str, command: InvokeService, ctx: Context) -> Invoked:
    """Check the input, then have the tool called and the call recorded.

    Raises:
        NotFound: There is no such tool for the caller.
        OutsideSchema: The input does not fit; says where.
        Problem: The one that the call ended with.
    """
    try:
        tool = await ctx.call(tools.get, GetTool(name=name))
    except (ToolUnknown, ValidationError):
        raise NotFound(name=name) from None
    provider = index.provider_of(tool)
    if not ctx.reaches(None, provider, name):
        raise NotFound(name=name)
    json_schemas.require_fit(tool.input_schema, command.input, INPUT, tool=name)
    timeout_ms = None if command.timeout_s is None else int(command.timeout_s * 1000)
    request = InvokeTool(name=name, arguments=command.input, timeout_ms=timeout_ms)
    invocation = await ctx.call(tools.invoke, request, key=ctx.key)
    return Invoked(name=name, kind="tool", service=provider, output=invocation.result)
