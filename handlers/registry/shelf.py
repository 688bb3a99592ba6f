"""The index of this process: made once somebody searches, and again when something has changed.

It is made in a thread while the one before goes on to answer.
"""

import asyncio
import time
from dataclasses import dataclass, field

from bus import telemetry
from bus.context import Context
from handlers.registry import index, store
from schemas import tools
from schemas.contract import Problem
from schemas.registry import Service
from schemas.tools import ListTools, Tool

INDEX_LIFE_S = 60.0
SERVICES_SHOWN_MAX = 10_000
TOOLS_MAX = 20_000
TOOLS_WITHIN_S = 1.5


@dataclass
class Shelf:
    """The index, and whether it is out of date."""

    made: index.Index | None = None
    built_s: float = 0.0
    stale: bool = True
    making: asyncio.Lock = field(default_factory=asyncio.Lock)


_shelves = [Shelf()]


def empty() -> None:
    """Begin without an index: a process starts."""
    _shelves[:] = [Shelf()]


def outdated() -> None:
    """Something has changed."""
    _shelves[0].stale = True


async def current(ctx: Context) -> index.Index:
    """The index as it is; only the first one is waited for."""
    shelf = _shelves[0]
    if shelf.made is None:
        async with shelf.making:
            return shelf.made or await build(shelf, ctx)
    return shelf.made


async def refresh(ctx: Context) -> None:
    """Make it anew if it is out of date, or old."""
    shelf = _shelves[0]
    old = time.monotonic() - shelf.built_s > INDEX_LIFE_S
    if shelf.made is not None and (shelf.stale or old):
        async with shelf.making:
            await build(shelf, ctx)


async def build(shelf: Shelf, ctx: Context) -> index.Index:
    """Read everything that can be found; what changes meanwhile makes it stale again."""
    shelf.stale = False
    rows = await ctx.database.rows(store.ALL, SERVICES_SHOWN_MAX)
    services = [Service.model_validate(dict(row)) for row in rows]
    try:
        known_tools = await all_tools(ctx)
    except Problem as unreachable:
        telemetry.log().warning("search without tools", problem=unreachable.code)
        known_tools, shelf.stale = [], True
    made = await asyncio.to_thread(lambda: index.Index(index.entries(services, known_tools)))
    shelf.made, shelf.built_s = made, time.monotonic()
    return made


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
