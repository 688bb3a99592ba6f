"""Asking the edge: requests out of operations, problems out of answers, patience in between.

Reads and writes with an Idempotency-Key are asked again after a broken connection or a problem
that says it may pass; nothing else ever is.
"""

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx2

from edge.cli.place import BrokenOff, NotRunning, Place
from schemas.contract import Operation

API = "/api/v1"
CONNECT_S_MAX = 5.0
SLACK_S = 10.0
PATIENCE_S = 2.5
BACKOFF_S = 0.4
PASSING = (502, 503, 504)
EVENT_STREAM = "text/event-stream"
OCTETS = "application/octet-stream"


class Refusal(Exception):
    """The edge answered with a problem; `body` is its envelope's content."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        self.status = status
        self.body = dict(body)
        super().__init__(f"{self.body.get('code')}: {self.body.get('message')}")

    @property
    def retryable(self) -> bool:
        """The same request may succeed later."""
        return bool(self.body.get("retryable"))


@dataclass(frozen=True)
class Asked:
    """A request, before it is sent."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    body: dict[str, Any] | None


def request_of(operation: Operation[Any, Any], fields: Mapping[str, Any]) -> Asked:
    """Where each field of a request goes: path, query or body."""
    assert operation.route is not None
    rest = dict(fields)
    path = operation.route.path
    for name in operation.route.parameters:
        path = path.replace(f"{{{name}}}", quote(str(rest.pop(name)), safe=""))
    if operation.route.method in ("GET", "DELETE"):
        return Asked(operation.route.method, API + path, query_of(rest), None)
    return Asked(operation.route.method, API + path, (), rest)


def query_of(fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Fields as query parameters; a list is the parameter several times."""
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items():
        values = value if isinstance(value, (list, tuple)) else [value]
        pairs += [(name, one if isinstance(one, str) else json.dumps(one)) for one in values]
    return tuple(pairs)


def new_key() -> str:
    """A fresh Idempotency-Key."""
    return str(uuid.uuid4())


class Door:
    """The edge of one installation, open while in the `async with` block.

    `patience_s` is how long a request that may be repeated is asked again after failures that
    may pass.
    """

    def __init__(self, place: Place) -> None:
        self.patience_s = PATIENCE_S
        self.place = place
        headers = {"user-agent": "portal-cli"}
        if place.key:
            headers["authorization"] = f"Bearer {place.key}"
        timeout = httpx2.Timeout(SLACK_S, connect=CONNECT_S_MAX)
        self._client = httpx2.AsyncClient(
            base_url=place.url, headers=headers, timeout=timeout, verify=verifying(place)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.aclose()

    async def ask(
        self, operation: Operation[Any, Any], fields: Mapping[str, Any], key: str | None = None,
        *, raw: bool = False,
    ) -> Any:  # fmt: skip
        """The reply of an operation as JSON; `raw` asks for the bytes of a file instead.

        Raises:
            Refusal: The edge answered with a problem.
            NotRunning: Nobody listens, or the connection broke.
        """
        asked = request_of(operation, fields)
        headers = {"accept": OCTETS if raw else "application/json"}
        if operation.idempotent:
            headers["idempotency-key"] = key or new_key()
        repeatable = operation.reads or operation.idempotent
        until = time.monotonic() + (self.patience_s if repeatable else 0.0)
        while True:
            try:
                return await self._once(asked, headers, operation.timeout_s + SLACK_S)
            except BrokenOff:
                if time.monotonic() >= until:
                    raise
            except Refusal as refusal:
                if time.monotonic() >= until or refusal.status not in PASSING:
                    raise
            await asyncio.sleep(BACKOFF_S)

    async def _once(self, asked: Asked, headers: dict[str, str], timeout_s: float) -> Any:
        with_timeout = httpx2.Timeout(timeout_s, connect=CONNECT_S_MAX)
        try:
            response = await self._client.request(
                asked.method, asked.path, params=list(asked.query) or None, json=asked.body,
                headers=headers, timeout=with_timeout,
            )  # fmt: skip
        except httpx2.TransportError as broken:
            raise self.unreachable(broken) from None
        return reply_of(response)

    async def upload(
        self, path: str, query: Mapping[str, Any], chunks: AsyncIterator[bytes],
        headers: Mapping[str, str],
    ) -> Any:  # fmt: skip
        """Send a raw body; asked once, because the chunks can be read once.

        Raises:
            Refusal: The edge answered with a problem.
            NotRunning: Nobody listens, or the connection broke.
        """
        try:
            response = await self._client.post(
                API + path, params=list(query_of(query)), content=chunks, headers=dict(headers),
                timeout=httpx2.Timeout(60.0, connect=CONNECT_S_MAX),
            )  # fmt: skip
        except httpx2.TransportError as broken:
            raise self.unreachable(broken) from None
        return reply_of(response)

    async def sse(
        self, method: str, path: str, *, query: Mapping[str, Any] | None = None, body: Any = None,
        headers: Mapping[str, str] | None = None, silence_s: float | None = None,
    ) -> AsyncIterator[httpx2.ServerSentEvent]:  # fmt: skip
        """Server-sent events until the server ends them.

        Raises:
            Refusal: The edge answered with a problem.
            NotRunning: Nobody listens, the connection broke or was silent for `silence_s`.
        """
        timeout = httpx2.Timeout(silence_s, connect=CONNECT_S_MAX)
        try:
            async with self._client.stream(
                method, API + path, params=list(query_of(query or {})), json=body,
                headers={"accept": EVENT_STREAM, **(headers or {})}, timeout=timeout,
            ) as response:  # fmt: skip
                if not response.is_success:
                    await response.aread()
                    reply_of(response)
                async for event in httpx2.EventSource(response):
                    yield event
        except httpx2.TransportError as broken:
            raise self.unreachable(broken) from None

    def unreachable(self, broken: Exception) -> NotRunning:
        """Why no answer came."""
        kind = NotRunning if isinstance(broken, httpx2.ConnectError) else BrokenOff
        reason = str(broken) or type(broken).__name__
        return kind(f"{self.place.url} does not answer: {reason}")


def verifying(place: Place) -> ssl.SSLContext | bool:
    """Who may be the edge: made only for https, because reading the authorities takes a while."""
    if place.trust is None or not place.url.startswith("https"):
        return True
    from bus.tls import asking_with

    return asking_with(place.trust, public=True)


def reply_of(response: httpx2.Response) -> Any:
    """The body of a successful answer.

    Raises:
        Refusal: It is not one.
    """
    is_json = response.headers.get("content-type", "").startswith("application/json")
    try:
        body = response.json() if is_json and response.content else response.content
    except ValueError:
        body = response.content
    if response.is_success:
        return body
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        error = {"code": f"HTTP_{response.status_code}", "message": response.reason_phrase}
    return refuse(response.status_code, error)


def refuse(status: int, error: Mapping[str, Any]) -> Any:
    """Raise the problem."""
    raise Refusal(status, error)
