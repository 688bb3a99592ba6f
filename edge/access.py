"""The outermost layer: request ids, CORS, security headers, the access log and metrics.

Everything that the edge sends passes here, also what a broken inner layer answers. Log lines are
collected and written twice a second, off the path of the requests.
"""

import asyncio
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

import orjson
from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bus import telemetry
from bus.clock import Clock
from edge import answers, exchange
from edge.exchange import Exchange, RawHeaders
from edge.noting import Notes, shown
from edge.proxies import Proxies
from schemas.contract import Problem
from schemas.problems import Internal, Malformed

WRITE_EVERY_S = 0.5
LINES_MAX = 2000
PREFLIGHT_LIFE_S = b"600"
SAFE_ID = re.compile(rb"[A-Za-z0-9._:-]{8,64}")
HOST = re.compile(rb"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
SINGLE = frozenset({
    "authorization", "content-length", "content-type", "host", "idempotency-key", "if-match",
    "last-event-id", "origin", "traceparent", "transfer-encoding", "x-api-key", "x-request-id",
    "x-timeout-ms",
})  # fmt: skip
METHODS = b"GET, POST, PUT, DELETE, HEAD, OPTIONS"
REQUEST_HEADERS = (
    b"authorization, x-api-key, x-csrf-token, content-type, idempotency-key, if-match, "
    b"if-none-match, last-event-id, traceparent, x-request-id, x-timeout-ms"
)
EXPOSED = (
    b"etag, location, ratelimit, ratelimit-policy, retry-after, x-ratelimit-limit, "
    b"x-ratelimit-remaining, x-ratelimit-reset, x-request-id"
)
HSTS: RawHeaders = [(b"strict-transport-security", b"max-age=31536000")]
SECURITY: RawHeaders = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
]

http_total = Counter("portal_http_requests_total", "HTTP answers.", ["operation", "status"])
http_seconds = Histogram(
    "portal_http_seconds", "Time in the edge.", ["operation"], buckets=telemetry.SECONDS
)


class Journal:
    """The access log and the request metrics."""

    def __init__(self, notes: Notes, *, enabled: bool) -> None:
        self._notes, self._enabled = notes, enabled
        self._lines: list[dict[str, Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._counters: dict[tuple[str, int], Counter] = {}
        self._seconds: dict[str, Histogram] = {}

    def note(self, seen: Exchange) -> None:
        """Count one finished request and remember its line."""
        took_s = time.perf_counter() - seen.started
        self._count(seen, took_s)
        self._notes.finished(seen, took_s)
        if not self._enabled:
            return
        self._lines.append({
            "event": "request", "level": "info", "process": "edge", "at": time.time(),
            "method": seen.method, "path": seen.shown, "operation": seen.operation,
            "status": seen.status, "ms": round(took_s * 1000, 2), "actor": seen.actor,
            "address": seen.address, "request_id": seen.request_id,
        })  # fmt: skip
        if len(self._lines) >= LINES_MAX:
            self.write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(WRITE_EVERY_S, self.write)

    def _count(self, seen: Exchange, took_s: float) -> None:
        key = (seen.operation, seen.status)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = http_total.labels(seen.operation, str(seen.status))
            self._seconds[seen.operation] = http_seconds.labels(seen.operation)
        counter.inc()
        self._seconds[seen.operation].observe(took_s)

    def write(self) -> None:
        """Write what is remembered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        for line in lines:
            line["at"] = datetime.fromtimestamp(line["at"], UTC).isoformat()
        if lines:
            sys.stderr.write("".join(orjson.dumps(line).decode() + "\n" for line in lines))
            sys.stderr.flush()


class Access:
    """Pure ASGI; wraps the whole application."""

    def __init__(
        self, app: ASGIApp, clock: Clock, journal: Journal, notes: Notes, proxies: Proxies,
        origins: tuple[str, ...],
    ) -> None:  # fmt: skip
        self._app = app
        self._clock = clock
        self._journal = journal
        self._notes = notes
        self._proxies = proxies
        self._origins = frozenset(origin.encode() for origin in origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection scope."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        seen = scope[exchange.KEY] = self._begin(scope)
        if scope["type"] == "websocket":
            await self._upgrade(seen, scope, receive, send)
            return
        outward = self._outward(seen, send)
        try:
            require_plain_head(seen, scope)
            if is_preflight(scope["method"], seen):
                await answers.bodiless(outward, 204, [])
            else:
                await self._app(scope, receive, outward)
        except Exception as broken:
            await self._broke(broken, seen, outward)
        finally:
            self._journal.note(seen)

    def _begin(self, scope: Scope) -> Exchange:
        """What is known of a request from its head."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        request_id = given.decode() if SAFE_ID.fullmatch(given) else self._clock.new_id()
        peer = scope["client"][0] if scope.get("client") else "-"
        return Exchange(
            request_id, scope["path"], shown(scope["raw_path"]), scope.get("method", "WS"),
            self._proxies.address_of(peer, scope["headers"]),
            self._proxies.secure(peer, scope["scheme"], scope["headers"]),
            headers, time.perf_counter(), self._notes.noticed,
        )  # fmt: skip

    async def _upgrade(self, seen: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            require_plain_head(seen, scope)
        except Malformed as problem:
            seen.noticed(seen, "socket.open", "deny", problem.code)
            await receive()
            await send({"type": "websocket.close"})
        else:
            await self._app(scope, receive, send)

    def _outward(self, seen: Exchange, send: Send) -> Send:
        head = scope_is_head(seen)
        cors = self._cors(seen)
        security = SECURITY + (HSTS if seen.secure else [])

        async def outward(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
                message["headers"] = [
                    *message["headers"], *seen.policy, *security, *cors, *seen.added,
                    (b"x-request-id", seen.request_id.encode()),
                ]  # fmt: skip
            elif head:
                message["body"] = b""
            await send(message)

        return outward

    def _cors(self, seen: Exchange) -> RawHeaders:
        origin = seen.headers.get(b"origin")
        if origin is None:
            return []
        headers = [(b"vary", b"Origin")]
        if origin in self._origins:
            headers += [
                (b"access-control-allow-origin", origin),
                (b"access-control-expose-headers", EXPOSED),
            ]
            if is_preflight(seen.method, seen):
                headers += [
                    (b"access-control-allow-methods", METHODS),
                    (b"access-control-allow-headers", REQUEST_HEADERS),
                    (b"access-control-max-age", PREFLIGHT_LIFE_S),
                ]
        return headers

    async def _broke(self, broken: Exception, seen: Exchange, send: Send) -> None:
        if not isinstance(broken, Problem):
            telemetry.log().error(
                "request failed", path=seen.shown, request_id=seen.request_id, exc_info=broken
            )
        if not seen.status:
            problem = broken if isinstance(broken, Problem) else Internal()
            await answers.refuse(send, problem, seen, self._clock.now())


def require_plain_head(seen: Exchange, scope: Scope) -> None:
    """Refuse a head that two readers could understand in two ways.

    Raises:
        Malformed: No host, an impossible one, or a header twice that may stand once.
    """
    headers = scope["headers"]
    if len(seen.headers) != len(headers):
        names = [name for name, _ in headers]
        twice = sorted({name.decode("latin-1") for name in names if names.count(name) > 1})
        if not SINGLE.isdisjoint(twice):
            raise Malformed("A header stands twice that may stand once.", headers=twice)
    host = seen.headers.get(b"host")
    if host is None and scope["http_version"] == "1.0":
        return
    if host is None or not HOST.fullmatch(host):
        raise Malformed("The Host header does not name a host.")


def is_preflight(method: str, seen: Exchange) -> bool:
    """Whether a browser asks for permission before the request itself."""
    return (
        method == "OPTIONS"
        and b"origin" in seen.headers
        and b"access-control-request-method" in seen.headers
    )


def scope_is_head(seen: Exchange) -> bool:
    """Whether the answer must have no body."""
    return seen.method == "HEAD"
