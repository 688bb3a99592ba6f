"""What answers without a key: health, documents, the live page; and metrics, which need one.

Files are read once at start. Nothing is loaded from another host, and no script or style stands in
the HTML itself, so the content policy can forbid both.
"""

import mimetypes
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from edge import answers
from edge.exchange import Call, RawHeaders
from schemas.contract import Json
from schemas.problems import NotFound

STATIC = Path(__file__).parent / "static"
PAGE_POLICY: RawHeaders = [
    (b"cache-control", b"no-cache"),
    (
        b"content-security-policy",
        (
            b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        ),
    ),
]


class FileDoor:
    """One file, or a folder of them."""

    may: str | None = None
    open = True
    public = False

    def __init__(self, name: str, place: str) -> None:
        self.name = name
        self._place = STATIC / place

    async def answer(self, call: Call) -> None:
        """Send the file."""
        place = self._place
        if "file" in call.parameters:
            place = place / call.parameters["file"]
        call.exchange.policy = PAGE_POLICY
        body, media_type = read(place)
        await answers.reply(call.send, 200, body, [(b"content-type", media_type)])


@cache
def listing(folder: Path) -> frozenset[str]:
    """Names of the files in a folder; only these are ever opened."""
    return frozenset(entry.name for entry in folder.iterdir() if entry.is_file())


@cache
def content(place: Path) -> tuple[bytes, bytes]:
    """A file's bytes and media type."""
    guessed = mimetypes.guess_type(place.name)[0] or "text/plain"
    charset = "; charset=utf-8" if guessed.startswith("text/") else ""
    return place.read_bytes(), f"{guessed}{charset}".encode()


def read(place: Path) -> tuple[bytes, bytes]:
    """A static file.

    Raises:
        NotFound: There is no such file.
    """
    if place.name not in listing(place.parent):
        raise NotFound
    return content(place)


class DocumentDoor:
    """A document that is rendered from the catalogue, once."""

    may: str | None = None
    open = True
    public = False

    def __init__(self, name: str, render: Callable[[], Json]) -> None:
        self.name = name
        self._render = render
        self._body: bytes | None = None

    async def answer(self, call: Call) -> None:
        """Send the document."""
        if self._body is None:
            self._body = orjson.dumps(self._render())
        await answers.reply(call.send, 200, self._body)


class HealthDoor:
    """One of the health answers of the private port, lent to the public one."""

    may: str | None = None
    open = True
    public = False

    def __init__(self, name: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
        self.name = name
        self._endpoint = endpoint

    async def answer(self, call: Call) -> None:
        """Send the state."""
        response = await self._endpoint(Request(call.scope, call.receive))
        await answers.reply(call.send, response.status_code, bytes(response.body))


class MetricsDoor:
    """Prometheus metrics of this process, for those who may read events."""

    name = "metrics"
    may: str | None = "events:read"
    open = False
    public = False

    async def answer(self, call: Call) -> None:
        """Send all of them."""
        kind = [(b"content-type", CONTENT_TYPE_LATEST.encode())]
        await answers.reply(call.send, 200, generate_latest(), kind)
