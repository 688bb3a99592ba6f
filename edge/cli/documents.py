"""`portal documents content`: the bytes of a document, as they are."""

import argparse

from edge.cli import exits, output
from edge.cli.derived import written
from edge.cli.door import Door
from edge.cli.place import find
from schemas import documents


async def content(arguments: argparse.Namespace) -> int:
    """Write the bytes to a file or to standard output; with `--json` the first piece, in base64."""
    async with Door(find()) as door:
        if arguments.json:
            output.emit(await door.ask(documents.content, {"id": arguments.id}))
        else:
            written(arguments.output, await fetch(door, arguments.id))
    return exits.OK


async def fetch(door: Door, document_id: str) -> bytes:
    """All bytes of a document."""
    content: bytes = await door.ask(documents.content, {"id": document_id}, raw=True)
    return content
