"""Sending a file as the raw body of a request, with progress on standard error."""

import mimetypes
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from edge.cli import output
from edge.cli.door import OCTETS, Door, Refusal, new_key
from schemas.contract import Operation

PIECE_BYTES = 64 * 1024
STDIN_NAME = "stdin.txt"


async def send_file(
    door: Door, operation: Operation[Any, Any], file: str, fields: dict[str, Any],
    key: str | None = None,
) -> Any:  # fmt: skip
    """Send one file; its name is the `name` field unless another is given.

    Raises:
        Refusal: It cannot be read here, or the edge refuses it.
    """
    assert operation.route is not None
    name = STDIN_NAME if file == "-" else Path(file).name
    content = read(file)
    media_type = fields.get("media_type") or mimetypes.guess_type(name)[0]
    headers = {
        "content-type": OCTETS,  # the media type of a JSON file would announce a JSON request
        "content-length": str(len(content)),
        "idempotency-key": key or new_key(),
    }
    query = {"name": name} | ({"media_type": media_type} if media_type else {}) | fields
    bar = Progress(
        TextColumn("[bold]{task.description}"), BarColumn(), DownloadColumn(),
        TransferSpeedColumn(), console=output.console(error=True), transient=True,
        disable=not sys.stderr.isatty(),
    )  # fmt: skip
    with bar:
        sent = bar.add_task(name, total=len(content))
        chunks = pieces(content, lambda count: bar.advance(sent, count))
        return await door.upload(operation.route.path, query, chunks, headers)


def read(file: str) -> bytes:
    """The bytes of a file.

    Raises:
        Refusal: It cannot be read.
    """
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as failed:
        message = f"{file} cannot be read: {failed.strerror}"
        raise Refusal(400, {"code": "FILE", "message": message}) from None


async def pieces(content: bytes, sent: Any) -> AsyncIterator[bytes]:
    """The content in pieces; `sent` hears of each."""
    for start in range(0, len(content), PIECE_BYTES):
        piece = content[start : start + PIECE_BYTES]
        yield piece
        sent(len(piece))
