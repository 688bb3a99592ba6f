"""Headers of every message on the bus, and where a piece of work comes from.

Requests carry the principal, an absolute deadline and ids for tracing. Events are CloudEvents in
NATS binary mode: attributes in `ce-` headers, the payload as the body.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from schemas.contract import Event

PRINCIPAL = "x-principal"
DEADLINE = "x-deadline"
IDEMPOTENCY_KEY = "x-idempotency-key"
REQUEST_ID = "x-request-id"
CORRELATION_ID = "x-correlation-id"
TRACE_PARENT = "traceparent"
STREAM_ID = "x-stream-id"
VERSION = "x-version"
REPLAYED = "x-replayed"
ERROR = "Nats-Service-Error"
ERROR_CODE = "Nats-Service-Error-Code"
MESSAGE_ID = "Nats-Msg-Id"
JOB_ID = "x-job-id"
CALL = "x-call"
LETTER = "x-letter"
LETTER_TO = "x-letter-to"
REQUEUED_OF = "x-requeued-of"
REPLAY = "x-replay"
REPLAY_OF = "x-replay-of"
REPLAY_SEQ = "x-replay-seq"
ACTOR = "ce-actor"
CAUSATION = "ce-causation"
HASH = "ce-hash"

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """Where a write comes from; stored with every event that it records.

    Args:
        actor: Who caused it.
        roles: The actor's roles, so that a job acts with the same rights.
        scopes: What narrows them.
        credential: What the actor showed, by its id.
        kind: What kind of principal the actor is.
        request_id: The request that it belongs to.
        correlation_id: The larger thing that it is part of, such as a goal.
        causation_id: The event or job that led to it.
        trace_parent: W3C trace context.
    """

    actor: str
    request_id: str
    roles: tuple[str, ...] = ()
    correlation_id: str | None = None
    causation_id: str | None = None
    trace_parent: str | None = None
    scopes: tuple[str, ...] = ()
    credential: str | None = None
    kind: str = "service"

    def correlated(self, correlation_id: str | None) -> "Origin":
        """The same origin as part of another larger thing."""
        return replace(self, correlation_id=correlation_id)


def of_event(event: Event, event_id: str, at: datetime, origin: Origin) -> dict[str, str]:
    """The headers of an event that is being recorded."""
    about = cloud_event(
        event_id, event.name, event.entity.id, event.entity.version, event.category, at
    )
    return about | by_whom(origin) | of_origin(origin)


def of_row(row: Mapping[str, Any]) -> dict[str, str]:
    """The headers of a stored event, as they were when it was recorded."""
    origin = Origin(
        row["actor"], row["request_id"], correlation_id=row["correlation_id"],
        causation_id=row["causation_id"],
    )  # fmt: skip
    about = cloud_event(
        row["event_id"], row["type"], row["aggregate_id"], row["aggregate_version"],
        row["category"], row["occurred_at"],
    )  # fmt: skip
    return about | {HASH: row["hash"]} | by_whom(origin) | of_origin(origin)


def by_whom(origin: Origin) -> dict[str, str]:
    """Who caused an event, and what led to it."""
    because = {CAUSATION: origin.causation_id} if origin.causation_id else {}
    return {ACTOR: origin.actor} | because


def cloud_event(
    event_id: str, name: str, entity_id: str, version: int, category: str, at: datetime
) -> dict[str, str]:
    """CloudEvents attributes; the message id makes a second publication harmless."""
    return {
        "ce-specversion": "1.0",
        "ce-id": event_id,
        "ce-type": name,
        "ce-source": f"/story-portal/{name.split('.', maxsplit=1)[0]}",
        "ce-time": at.isoformat(timespec="microseconds"),
        "ce-subject": entity_id,
        "ce-category": category,
        "ce-version": str(version),
        "content-type": "application/json",
        MESSAGE_ID: event_id,
    }


def of_origin(origin: Origin) -> dict[str, str]:
    """The headers that tie a message to the work that it is part of."""
    headers = {REQUEST_ID: origin.request_id}
    if origin.correlation_id:
        headers[CORRELATION_ID] = origin.correlation_id
    if origin.trace_parent:
        headers[TRACE_PARENT] = origin.trace_parent
    return headers
