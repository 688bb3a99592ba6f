"""One HTTP request or WebSocket on its way through the edge: who, what, since when.

The outermost layer (`access.py`) makes it; the layers inside note what they learn, and the access
log and the response headers are written from it.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol

from starlette.types import Receive, Scope, Send

from schemas.audit import Decision
from schemas.contract import Problem
from schemas.principal import Principal
from schemas.problems import Unauthenticated

KEY = "portal.exchange"

RawHeaders = list[tuple[bytes, bytes]]

API_HEADERS: RawHeaders = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
]


class Noticed(Protocol):
    """Tells the audit log of a decision about a socket or stream."""

    def __call__(
        self, seen: "Exchange", action: str, decision: Decision, reason: str | None = None,
        **details: Any,
    ) -> None:  # fmt: skip
        """`seen` says who and from where."""


@dataclass(slots=True)
class Exchange:
    """What is known of one request.

    Args:
        request_id: The client's own, when it sent a safe one.
        shown: The path as it is logged, without query and credentials.
        address: The client's IP address.
        secure: Whether the client's connection is encrypted.
        headers: Request headers by lower-case name; of doubles the last.
        added: Headers that go onto the response besides its own.
        policy: Cache and content policy of the response; pages put theirs here.
        credential: Kind and public part of the credential, where more is known than its form.
        decision: What was decided about the caller's rights; `-` while nothing was.
        reason: The code of the problem that was answered.
        via: Who acts on the actor's behalf.
    """

    request_id: str
    path: str
    shown: str
    method: str
    address: str
    secure: bool
    headers: dict[bytes, bytes]
    started: float
    noticed: Noticed
    operation: str = "-"
    route: str = "-"
    resource_id: str = ""
    actor: str = "-"
    via: str | None = None
    credential: str = "-"
    decision: str = "-"
    reason: str | None = None
    permission: str | None = None
    status: int = 0
    added: RawHeaders = field(default_factory=list)
    policy: RawHeaders = field(default_factory=lambda: API_HEADERS)

    def refused(self, problem: Problem) -> None:
        """Keep why; whether it is about the caller's rights decides what is noted of it."""
        self.reason = problem.code
        guessing = str(problem.details.get("limit", "")).startswith("login")
        if problem.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) or guessing:
            self.decision = "deny"

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
