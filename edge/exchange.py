"""One HTTP request or WebSocket on its way through the edge: who, what, since when.

The outermost layer (`access.py`) makes it; the layers inside note what they learn, and the access
log and the response headers are written from it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Scope, Send

from schemas.principal import Principal
from schemas.problems import Unauthenticated

KEY = "portal.exchange"

RawHeaders = list[tuple[bytes, bytes]]

API_HEADERS: RawHeaders = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


@dataclass(slots=True)
class Exchange:
    """What is known of one request.

    Args:
        request_id: The client's own, when it sent a safe one.
        address: The peer's IP address.
        headers: Request headers by lower-case name; of doubles the last.
        added: Headers that go onto the response besides its own.
        policy: Cache and content policy of the response; pages put theirs here.
    """

    request_id: str
    path: str
    method: str
    address: str
    headers: dict[bytes, bytes]
    started: float
    operation: str = "-"
    actor: str = "-"
    status: int = 0
    added: RawHeaders = field(default_factory=list)
    policy: RawHeaders = field(default_factory=lambda: API_HEADERS)

    def header(self, name: bytes) -> str | None:
        """A request header as text."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass(slots=True)
class Call:
    """An authenticated request for one door, with what its path says."""

    scope: Scope
    receive: Receive
    send: Send
    exchange: Exchange
    known: Principal | None = None
    lost: Callable[[], Awaitable[None]] | None = None
    parameters: dict[str, str] = field(default_factory=dict)

    @property
    def principal(self) -> Principal:
        """Who asks.

        Raises:
            Unauthenticated: Nobody has said so yet.
        """
        if self.known is None:
            raise Unauthenticated
        return self.known


def of(scope: Any) -> Exchange:
    """The exchange of an ASGI scope."""
    exchange: Exchange = scope[KEY]
    return exchange
