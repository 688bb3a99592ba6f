"""The HTTP parser's own limits: how long a head may be and take, and what is refused unread.

uvicorn reads heads without end and waits for them without end. What the parser refuses (both
lengths, folded lines, control characters) is answered here too, in our form, and always ends the
connection: whoever is not understood once is not believed about where the next request begins.
"""

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
HEAD_S = 20.0
UNREADABLE = "ERR_100"
TOO_LONG = (HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head is too long.")

unreadable_total = Counter(
    "portal_http_unreadable_total", "Requests refused before they were read.", ["status"]
)


class Unfit(Exception):
    """The head is refused."""


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head, self._begun = True, False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._refusal = (HTTPStatus.BAD_REQUEST, "The request is not HTTP.")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that says nothing is not kept."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more will come."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head that is not complete."""
        if self.transport.is_closing():
            return
        counted = len(data) if self._in_head else 0  # else it may begin with the end of a body
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += counted
            if self._head_bytes > HEAD_BYTES_MAX:
                self._refuse(*TOO_LONG)
            elif self._head_timer is None:
                self._await_head()

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._in_head, self._begun, self._head_bytes = True, True, 0

    def on_headers_complete(self) -> None:
        """Look at the head as a whole before anybody acts on it."""
        self._in_head = self._begun = False
        self._stop_timer()
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > HEAD_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._refusal = TOO_LONG
            raise Unfit
        if self.url == b"*" and self.parser.get_method() != b"OPTIONS":
            raise Unfit
        if not self.url.startswith(b"/") and self.url != b"*":
            self._require_same_authority()
        super().on_headers_complete()

    def _require_same_authority(self) -> None:
        """A target in absolute form must name the same host as the header."""
        url = httptools.parse_url(self.url)
        authority = url.host + (b":%d" % url.port if url.port else b"") if url.host else None
        hosts = [value for name, value in self.headers if name == b"host"]
        if url.schema not in (b"http", b"https") or url.userinfo or hosts != [authority]:
            self._refusal = (HTTPStatus.BAD_REQUEST, "The target and the Host header differ.")
            raise Unfit

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's words
        """What the parser, or a look at the head, has refused."""
        self._refuse(*self._refusal)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        unreadable_total.labels(str(int(status))).inc()
        self._stop_timer()
        if self._may_answer():
            self.transport.write(refusal(status, message))
        self.transport.close()

    def _may_answer(self) -> bool:
        """Whether an answer now would be taken for that of the request that is refused."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return cycle.more_body and not cycle.response_started and not self.pipeline

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._too_slow)

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._begun:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "The head did not arrive in time.")
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def refusal(status: HTTPStatus, message: str) -> bytes:
    """A whole answer; nothing that the client sent is in it."""
    error = {"code": UNREADABLE, "message": message, "details": {}, "retryable": False}
    body = orjson.dumps({"error": error})
    return (
        b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
        b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
        b"content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n"
        b"connection: close\r\n\r\n%s" % (status, status.phrase.encode(), len(body), body)
    )
