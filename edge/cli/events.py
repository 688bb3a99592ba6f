"""`portal events tail|show`: what happens, as it happens, and one event whole."""

import argparse

from rich.markup import escape

from edge.cli import exits, output
from edge.cli.door import Door
from edge.cli.feed import Feed, Happened
from edge.cli.place import find
from schemas import events

NAMING = ("title", "name", "key", "tool_name", "status")


async def tail(arguments: argparse.Namespace) -> int:
    """One line an event, for ever or `--at-most` times."""
    filters = {"type": arguments.type, "goal_id": arguments.goal, "entity_id": arguments.id}
    shown = 0
    async with Door(find()) as door:
        wanted = {name: value for name, value in filters.items() if value}
        feed = Feed(door, wanted, since=arguments.since)
        async for event in feed.events():
            if arguments.json:
                output.emit(event)
            else:
                output.console().print(line(event))
            shown += 1
            if arguments.at_most is not None and shown >= arguments.at_most:
                break
    return exits.OK


def line(event: Happened) -> str:
    """Time, type, what it is about, and who did it."""
    thing = next((v for v in event["data"].values() if isinstance(v, dict)), {})
    named = [str(thing[name])[:60] for name in NAMING if thing.get(name)]
    time = str(event.get("ts") or "")[11:23]
    kind = f"[bold cyan]{escape(event['type']):<28}[/]"
    about = escape("  ".join(named) or str(event.get("entity_id")))
    return f"[dim]{time}[/] {kind} {about}  [dim]{escape(str(event.get('actor') or ''))}[/]"


async def show(arguments: argparse.Namespace) -> int:
    """Everything about one event."""
    async with Door(find()) as door:
        output.show(await door.ask(events.get, {"id": arguments.id}), as_json=arguments.json)
    return exits.OK
