"""Events: the append-only log of everything that happened, and proofs about it."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from schemas.contract import Id, Json, Listing, Operation, Page, Schema, Token
from schemas.problems import NotFound
from schemas.supervision import Work

HISTORY_IDS_MAX = 11_000
HISTORY_MAX = 2_000
EventType = Annotated[str, StringConstraints(pattern=r"^[a-z]+(\.[a-z_]+)?$")]


def with_zone(moment: datetime) -> datetime:
    """The moment, if it says in which time zone it is."""
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone, such as 2026-01-31T12:00:00Z")
    return moment


Moment = Annotated[datetime, AfterValidator(with_zone)]
Target = Literal["subject", "scratch"]


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


class EntityAt(Schema):
    """Show an entity as it was at a time or position of the log; as it is now without both."""

    type: Token = Field(description="The kind of entity, such as agent or tool_invocation.")
    id: Id
    at: Moment | None = Field(None, description="Nothing that was recorded later counts.")
    seq: int | None = Field(None, ge=1, description="No entry behind this position counts.")


class PastEntity(Schema):
    """What the newest entry at or before a moment says of an entity."""

    aggregate_type: str
    aggregate_id: Id
    version: int
    state: Json = Field(description="The entity, as it was.")
    type: str = Field(description="What had happened to it last.")
    event_id: Id
    seq: int
    recorded_at: datetime


class ReadHistory(Schema):
    """Read what happened to some things, in the order of the log.

    A reply holds half a megabyte; `more` says that another one goes on behind its last position.
    """

    types: tuple[Token, ...] = Field(max_length=10, description="Kinds of entities.")
    ids: tuple[Id, ...] = Field(max_length=HISTORY_IDS_MAX)
    seq: int | None = Field(None, ge=1, description="No entry behind this position.")
    at: Moment | None = Field(None, description="Nothing that was recorded later.")
    after_seq: int = Field(0, ge=0, description="Only entries behind this position.")
    last_only: bool = Field(False, description="Of each thing only the newest of these entries.")
    limit: int = Field(200, ge=1, le=HISTORY_MAX)


class History(Schema):
    """Entries of the log."""

    items: tuple[StoredEvent, ...]
    more: bool


class ReplayEvents(Schema):
    """Play entries of the log again, in order: for subscribers, or into scratch tables.

    What is played goes to `replay.<job id>.<type>`, or into tables of the job's own, which are
    compared with the live ones at the end.
    """

    target: Target
    from_seq: int = Field(1, ge=1, description="The first position.")
    to_seq: int | None = Field(None, ge=1, description="The last position; now's last if absent.")
    since: Moment | None = Field(None, description="Only what was recorded then or later.")
    until: Moment | None = Field(None, description="Only what was recorded before.")
    aggregate_type: Token | None = None
    aggregate_id: Id | None = None
    type: EventType | None = Field(None, description="A type, or a domain for all of its types.")
    speed: float | None = Field(
        None, gt=0, le=1e9, description="How many times as fast as it happened; no pause if absent."
    )
    per_second: float | None = Field(None, gt=0, le=1e6, description="At most so many a second.")


class Comparison(Schema):
    """What a replay into scratch tables showed of one kind of entity."""

    entity: str
    aggregates: int
    compared: int = Field(description="Those whose last event was played too.")
    different: tuple[str, ...] = Field(description="Ids whose row is not what was played.")


class Replayed(Schema):
    """The result of a replay's job."""

    ok: bool
    target: Target
    subject: str | None = Field(description="Where it was published.")
    events: int
    last_seq: int
    entities: tuple[Comparison, ...] = ()


class ArchiveEvents(Schema):
    """Set old months of the log apart; whoever reads the log still finds them."""


class Archived(Schema):
    """What is in the archive of the log."""

    moved: tuple[str, ...] = Field(description="Months that were moved just now.")
    partitions: tuple[str, ...]


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
    archived: int = Field(description="How many of them are in the archive.")
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
entity_at = Operation(
    "events.entity-at", EntityAt, PastEntity, rest="GET /events/entities/{type}/{id}",
    may="events:read", problems=(NotFound,),
)  # fmt: skip
history = Operation(
    "events.history", ReadHistory, History, internal=True, timeout_s=10,
)  # fmt: skip
replay = Operation(
    "events.replay", ReplayEvents, Work, rest="POST /events/replay -> 202", may="events:execute",
    kind="task", workers=1, timeout_s=3600, interruptible=True,
)  # fmt: skip
archive = Operation(
    "events.archive", ArchiveEvents, Archived, rest="POST /events/archive", may="events:execute",
    timeout_s=60, workers=1,
)  # fmt: skip
