"""How the edge answers: bytes, the error envelope, its problem+json form, server-sent events.

The envelope is the one of the bus with the path and the request id added. Whoever asks for
`application/problem+json` gets the same facts in the form of RFC 9457.
"""

import math
from collections.abc import Iterable
from datetime import datetime
from http import HTTPStatus
from typing import Any

import orjson
from starlette.types import Send

from edge.exchange import Exchange, RawHeaders
from schemas.contract import Problem
from schemas.problems import (
    BodyTooSlow,
    MethodNotAllowed,
    PreconditionFailed,
    TooLarge,
    TooManyRequests,
    UnsupportedMediaType,
)

JSON: RawHeaders = [(b"content-type", b"application/json")]
PROBLEM_JSON: RawHeaders = [(b"content-type", b"application/problem+json")]
RETRY_AFTER_S = 1
SSE_HEADERS: RawHeaders = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"no")]


async def reply(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = JSON
) -> None:
    """A complete response."""
    length = (b"content-length", b"%d" % len(body))
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    await send(start)
    await send({"type": "http.response.body", "body": body})


async def bodiless(send: Send, status: int, headers: RawHeaders) -> None:
    """A response of a status that has no body."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def refuse(send: Send, problem: Problem, exchange: Exchange, at: datetime) -> None:
    """Answer with a problem."""
    exchange.refused(problem)
    envelope = problem.body(at)
    envelope["error"] |= {"path": exchange.path, "request_id": exchange.request_id}
    headers, body = JSON, envelope
    if b"application/problem+json" in exchange.headers.get(b"accept", b""):
        headers, body = PROBLEM_JSON, as_rfc_9457(problem, envelope["error"])
    content = orjson.dumps(body, default=str)
    await reply(send, problem.status, content, [*headers, *headers_of(problem)])


def as_rfc_9457(problem: Problem, error: dict[str, Any]) -> dict[str, Any]:
    """The same error as a problem detail."""
    return {
        "type": f"urn:story-portal:problem:{problem.code}",
        "title": " ".join((type(problem).__doc__ or "").split()),
        "status": problem.status,
        "detail": error["message"],
        "instance": error["path"],
        **{name: error[name] for name in ("code", "details", "retryable", "timestamp")},
        "request_id": error["request_id"],
    }


def headers_of(problem: Problem) -> RawHeaders:
    """Headers that a problem brings along."""
    headers: RawHeaders = []
    if problem.status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        wait_s = problem.details.get("retry_after_s", RETRY_AFTER_S)
        headers.append((b"retry-after", b"%d" % max(1, math.ceil(wait_s))))
    if isinstance(problem, TooManyRequests) and "per_minute" in problem.details:
        name, most = problem.details["limit"], problem.details["per_minute"]
        headers += rate_headers(name, most, 0, math.ceil(wait_s))
    if problem.status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b'Bearer realm="story-portal"'))
    if isinstance(problem, MethodNotAllowed):
        headers.append((b"allow", ", ".join(problem.details["allow"]).encode()))
    if isinstance(problem, PreconditionFailed) and "current" in problem.details:
        headers.append((b"etag", etag(problem.details["current"])))
    if isinstance(problem, TooLarge | UnsupportedMediaType | BodyTooSlow):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    return headers


def rate_headers(name: str, most: int, left: int, reset_s: int) -> RawHeaders:
    """`RateLimit` and its policy, and the names that clients knew before them."""
    return [
        (b"ratelimit-policy", f'"{name}";q={most};w=60'.encode()),
        (b"ratelimit", f'"{name}";r={left};t={reset_s}'.encode()),
        (b"x-ratelimit-limit", b"%d" % most),
        (b"x-ratelimit-remaining", b"%d" % left),
        (b"x-ratelimit-reset", b"%d" % reset_s),
    ]


def etag(version: object) -> bytes:
    """An entity's version as an entity tag."""
    return f'"{version}"'.encode()


def sse(event: str, data: bytes, position: str | None = None) -> bytes:
    """One server-sent event; `data` is one line of JSON."""
    mark = f"id: {position}\n" if position is not None else ""
    return f"{mark}event: {event}\ndata: ".encode() + data + b"\n\n"
