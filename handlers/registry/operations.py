"""What the registry answers."""

import time
from dataclasses import dataclass

from nats.aio.msg import Msg

from bus import telemetry
from bus.context import Context
from bus.service import own_context
from handlers.registry import index, rules, service, store
from schemas import registry, tools
from schemas.contract import Event, Page, Problem
from schemas.registry import (
    GetService,
    Hits,
    ListServices,
    SearchServices,
    Service,
    ServiceAppeared,
    ServiceChanged,
    ServiceLost,
)
from schemas.tools import ListTools, Tool, ToolChanged, ToolRegistered

INDEX_LIFE_S = 60.0
TOOLS_MAX = 20_000
TOOLS_WITHIN_S = 1.5
NEWS: tuple[type[Event], ...] = (
    ServiceAppeared, ServiceChanged, ServiceLost, ToolRegistered, ToolChanged,
)  # fmt: skip


@dataclass
class Shelf:
    """The index of this process, and whether it is out of date."""

    made: index.Index | None = None
    built_s: float = 0.0
    stale: bool = True


shelf = Shelf()


@service.handles(registry.service)
async def get(command: GetService, ctx: Context) -> Service:
    """One row."""
    return Service.model_validate(await ctx.row(store.GET, command.name))


@service.handles(registry.services)
async def listing(command: ListServices, ctx: Context) -> Page[Service]:
    """A page of rows."""
    page = await ctx.page(command, Service, store.LIST, command.status, sort={"name": str})
    return ctx.reached(page, lambda found: (None, found.name))


@service.handles(registry.search)
async def search(command: SearchServices, ctx: Context) -> Hits:
    """Ask the index; it is made anew when something has changed."""
    found = shelf.made
    if found is None or shelf.stale or time.monotonic() - shelf.built_s > INDEX_LIFE_S:
        found = await build(own_context(service, ctx.platform))
    hits = found.search(command.q, command.limit)
    tools_reach = ctx.platform.rights.reach(ctx.principal, "tools:read")
    return Hits(items=tuple(
        hit for hit in hits
        if ctx.reaches(None, hit.service, hit.name) and hit.name not in tools_reach.denied
    ))  # fmt: skip


async def build(ctx: Context) -> index.Index:
    """Read everything that can be found; what changes meanwhile makes it stale again."""
    shelf.stale = False
    rows = await ctx.database.rows(store.ALL, rules.SERVICES_MAX)
    services = [Service.model_validate(dict(row)) for row in rows]
    try:
        known_tools = await all_tools(ctx)
    except Problem as unreachable:
        telemetry.log().warning("search without tools", problem=unreachable.code)
        known_tools, shelf.stale = [], True
    shelf.made = index.Index(index.entries(services, known_tools))
    shelf.built_s = time.monotonic()
    return shelf.made


async def all_tools(ctx: Context) -> list[Tool]:
    """Every tool, page by page."""
    found: list[Tool] = []
    cursor: str | None = None
    while len(found) < TOOLS_MAX:
        page = await ctx.call(
            tools.listing, ListTools(limit=200, cursor=cursor), timeout_s=TOOLS_WITHIN_S
        )
        found.extend(page.items)
        cursor = page.next
        if cursor is None:
            break
    return found


@service.starts
async def listen_for_news(ctx: Context) -> None:
    """In every process, without a queue group: each has its own index."""
    shelf.made = None

    async def heard(_: Msg) -> None:
        shelf.stale = True

    for event in NEWS:
        await ctx.platform.connection.subscribe(f"{event.subject_root()}.*", cb=heard)
