"""What every derived command does: ask its operation and show the reply.

Lists are followed over their pages when `--all` or `--at-most` says so; a stream operation is
shown while it comes.
"""

import argparse
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from edge.cli import exits, fields, output
from edge.cli.door import API, Door, Refusal, new_key, request_of
from edge.cli.place import find
from edge.cli.upload import send_file
from schemas.contract import Operation

PAGE_MAX = 200


async def run(arguments: argparse.Namespace) -> int:
    """Ask, show, and say whether it is well."""
    operation: Operation[Any, Any] = arguments.OPERATION
    given = vars(arguments)
    fields.ask_for_secrets(operation, given)
    body = fields.body_of(operation, given)
    async with Door(find()) as door:
        if operation.upload:
            reply = await send_file(door, operation, given["FILE"], body, given.get("KEY"))
        elif operation.kind == "stream":
            return await show_stream(door, operation, body, arguments)
        elif given.get("ALL") or given.get("AT_MOST") is not None:
            return await show_pages(door, operation, body, arguments)
        else:
            reply = await door.ask(operation, body, given.get("KEY"))
    output.show(reply, as_json=arguments.json)
    if output.is_list(reply) and reply.get("next") and not arguments.json:
        output.console(error=True).print("[dim]there is more: --all, or --at-most N[/]")
    return verdict(reply)


def verdict(reply: Any) -> int:
    """A reply with `ok: false` is a check that failed."""
    failed = isinstance(reply, dict) and reply.get("ok") is False
    return exits.PROBLEM if failed else exits.OK


async def show_pages(
    door: Door, operation: Operation[Any, Any], body: dict[str, Any], arguments: argparse.Namespace
) -> int:
    """Every item of every page, or the first N; JSON lines come out page by page."""
    shown: list[Any] = []
    async for item in items(door, operation, body, arguments.AT_MOST):
        if arguments.json:
            output.emit(item)
        else:
            shown.append(item)
    if not arguments.json:
        output.show_items(shown)
    return exits.OK


async def items(
    door: Door, operation: Operation[Any, Any], body: Mapping[str, Any], at_most: int | None = None
) -> AsyncIterator[Any]:
    """The items of a list, over all of its pages."""
    left = at_most if at_most is not None else sys.maxsize
    size = body.get("limit", PAGE_MAX)
    while left > 0:
        page = await door.ask(operation, {**body, "limit": min(size, left)})
        for item in page["items"][:left]:
            yield item
        left -= len(page["items"])
        if not page.get("next"):
            return
        body = {**body, "cursor": page["next"]}


async def show_stream(
    door: Door, operation: Operation[Any, Any], body: dict[str, Any], arguments: argparse.Namespace
) -> int:
    """Chunks as they come: text for people, objects for programs; the reply is the last line."""
    assert operation.route is not None
    asked = request_of(operation, body)
    headers = {"idempotency-key": arguments.KEY or new_key()} if operation.idempotent else {}
    path = asked.path.removeprefix(API)
    async for event in door.sse(
        asked.method, path, body=asked.body, headers=headers, silence_s=operation.timeout_s
    ):
        if not event.data:
            continue
        piece = json.loads(event.data)
        if event.event == "error":
            print(file=sys.stderr)
            raise Refusal(502, piece.get("error", piece))
        if arguments.json:
            output.emit(piece)
        elif event.event == "chunk":
            print(piece.get("text", ""), end="", flush=True)
    if not arguments.json:
        print()
    return exits.OK


def written(target: str | None, content: bytes) -> None:
    """Write bytes to a file, all or nothing, or to standard output."""
    if target is None:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    part = Path(f"{target}.part")
    part.write_bytes(content)
    part.replace(target)
