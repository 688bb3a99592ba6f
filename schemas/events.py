"""Events: the append-only log of everything that happened, and proofs about it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.contract import Id, Json, Listing, Operation, Page, Schema, Token
from schemas.problems import NotFound

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z]+(\.[a-z_]+)?$")]


class StoredEvent(Schema):
    """One entry of the log; `payload` is exactly what was published."""

    seq: int
    event_id: Id
    type: str
    category: Literal["system", "application", "integration", "error"]
    aggregate_type: str
    aggregate_id: Id
    aggregate_version: int
    payload: Json
    actor: str
    request_id: str
    correlation_id: Id | None
    causation_id: str | None
    occurred_at: datetime
    recorded_at: datetime
    hash: str


class QueryEvents(Listing):
    """List events, oldest first, by type, entity or the goal they belong to."""

    type: EventType | None = Field(None, description="A type, or a domain for all of its types.")
    aggregate_type: Token | None = None
    aggregate_id: Id | None = None
    correlation_id: Id | None = Field(None, description="For example a goal's id.")
    after_seq: int = Field(0, ge=0, description="Only events behind this position.")
    newest_first: bool = False


class GetEvent(Schema):
    """Show one event."""

    id: Id


class EventStatistics(Schema):
    """Count events by type."""

    hours: int = Field(24, ge=1, le=24 * 90, description="How far back to count.")


class TypeCount(Schema):
    """How often one type of event was recorded."""

    type: str
    count: int
    last_at: datetime


class Statistics(Schema):
    """Counts over the log."""

    total: int
    last_seq: int
    pending: int = Field(description="Committed and not yet published.")
    types: tuple[TypeCount, ...]


class VerifyEvents(Schema):
    """Replay the whole log into scratch tables and compare them with the live ones."""


class EntityVerdict(Schema):
    """What replaying one kind of entity showed."""

    entity: str
    table: str
    aggregates: int
    different: tuple[str, ...] = Field(description="Ids whose row is not what the log says.")
    broken_chains: tuple[str, ...] = Field(description="Ids whose hash chain does not close.")
    gaps: tuple[str, ...] = Field(description="Ids whose versions do not run from 1.")


class Verification(Schema):
    """Whether the log and the tables agree."""

    ok: bool
    events: int
    entities: tuple[EntityVerdict, ...]


query = Operation(
    "events.query", QueryEvents, Page[StoredEvent], rest="GET /events", may="events:read"
)
statistics = Operation(
    "events.statistics", EventStatistics, Statistics, rest="GET /events/statistics",
    may="events:read",
)  # fmt: skip
get = Operation(
    "events.get", GetEvent, StoredEvent, rest="GET /events/{id}", may="events:read",
    problems=(NotFound,),
)  # fmt: skip
verify = Operation(
    "events.verify", VerifyEvents, Verification, rest="POST /events/verify",
    may="events:execute", timeout_s=120, workers=1,
)  # fmt: skip
