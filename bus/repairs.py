"""`python -m bus rebuild-stream` and `salvage`: repairs that must not happen by a slip."""

import argparse
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import nats
import nats.errors
from nats.js import JetStreamContext

from bus import refill, salvage, tls, topology
from bus.clock import Clock
from bus.connection import connect_once_options
from bus.database import Database
from bus.settings import Settings
from schemas import catalogue
from schemas.contract import Problem

USAGE = 2
REBUILD = "This deletes the stream EVENTS and fills it again from the log."
SALVAGE = "This writes events of the stream into the log that the database does not have."


async def rebuild_stream(settings: Settings, arguments: argparse.Namespace) -> int:
    """Empty the stream and fill it."""
    days = refill.DAYS if arguments.days is None else arguments.days
    if not 1 <= days <= refill.DAYS_MAX:
        raise SystemExit(f"--days is 1 to {refill.DAYS_MAX}: an inbox remembers no longer")

    async def repair(database: Database, jetstream: JetStreamContext) -> int:
        wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
        try:
            done = await refill.rebuild_stream(
                database, jetstream, wanted, settings.streams_replicas, days, tell
            )
        except refill.LanesHeld as held:
            raise SystemExit(f"nothing was changed: {held}") from None
        table([asdict(done)], as_json=arguments.json)
        if done.waiting:
            print("what waits is published when a handlers process runs", file=sys.stderr)
        return 0

    return await confirmed(REBUILD, settings, arguments, repair)


async def salvage_events(settings: Settings, arguments: argparse.Namespace) -> int:
    """Read the stream back into the log; status 1 if it does not fit."""

    async def repair(database: Database, jetstream: JetStreamContext) -> int:
        found = await salvage.salvage(
            database, jetstream, catalogue.events(), catalogue.reactions(), tell
        )
        counts = asdict(found) | {"ok": not found.conflicts}
        if arguments.json:
            table([counts], as_json=True)
            return 1 if found.conflicts else 0
        table([counts | {"conflicts": len(found.conflicts)}], as_json=False)
        if found.conflicts:
            print("nothing was written: log and stream do not fit together", file=sys.stderr)
            table([asdict(each) for each in found.conflicts], as_json=False)
        return 1 if found.conflicts else 0

    return await confirmed(SALVAGE, settings, arguments, repair)


async def confirmed(
    what: str,
    settings: Settings,
    arguments: argparse.Namespace,
    repair: Callable[[Database, JetStreamContext], Awaitable[int]],
) -> int:
    """Ask, connect, do it, close."""
    if not arguments.yes and not agreed(what):
        return USAGE
    database = Database(settings, Clock())
    urls = settings.nats_url.get_secret_value().split(",")
    try:
        connection = await nats.connect(
            urls, **connect_once_options("bus", settings), **tls.nats_options(settings, "admin")
        )
        await database.open()
    except (nats.errors.Error, OSError, Problem) as away:
        raise SystemExit(f"a server does not answer: {away}") from None
    try:
        return await repair(database, connection.jetstream())
    finally:
        await connection.close()
        await database.close()


def agreed(what: str) -> bool:
    """Whether a person says yes; without a terminal nobody does."""
    print(what, file=sys.stderr)
    if not sys.stdin.isatty():
        print("give --yes to do it", file=sys.stderr)
        return False
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def tell(what: str, count: int) -> None:
    """Progress, for people."""
    print(f"{what} {count}", file=sys.stderr)


def table(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Rows below their names, or one JSON object a line."""
    if as_json:
        for row in rows:
            print(json.dumps(row))
        return
    names = list(rows[0])
    cells = [names, *([str(row[name]) for name in names] for row in rows)]
    widths = [max(len(line[n]) for line in cells) for n in range(len(names))]
    for line in cells:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)))
