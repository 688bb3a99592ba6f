"""Audit: who asked for what and what was decided, chained by hash; and every HTTP request."""

from datetime import datetime
from hashlib import sha256
from types import ModuleType
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas import credentials
from schemas.contract import Event, Json, Listing, Operation, Page, Reaction, Schema
from schemas.identity import (
    clients,
    external,
    grants,
    keys,
    principals,
    sessions,
    signing,
    users,
)
from schemas.principal import MATRIX

TEXT_MAX, PATH_MAX = 200, 512
BATCH_MAX = 500

POLICY = sha256(repr(sorted(MATRIX.items())).encode()).hexdigest()[:12]
"""Which table of permissions a decision was made by."""

Decision = Literal["allow", "deny"]
Door = Literal["http", "socket", "bus", "event", "process"]
Words = Annotated[str, StringConstraints(max_length=TEXT_MAX)]
Path = Annotated[str, StringConstraints(max_length=PATH_MAX)]
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class HttpRequest(Schema):
    """One finished HTTP request."""

    at: datetime
    request_id: Words
    method: Words
    route: Path = Field(description="The path as it is declared; `-` for an unknown one.")
    path: Path = Field(description="Without its query; credentials in it are blotted out.")
    operation: Words
    status: int = Field(ge=0, le=32_767)
    ms: float
    actor: Words
    credential: Words = Field(description="Kind and public part, such as `key:<prefix>`.")
    address: Words
    decision: Decision
    reason: Words | None = Field(description="The code of the problem that was answered.")


class SeenRequest(HttpRequest):
    """A line of the request log."""

    id: int


class Noted(Schema):
    """A decision, as the process that made it tells it."""

    at: datetime
    door: Door = Field(description="Where it was decided.")
    actor: Words
    via: Words | None = Field(description="Who acted on the actor's behalf.")
    action: Words = Field(description="The operation, or what happened.")
    resource: Words
    resource_id: Words | None
    decision: Decision
    reason: Words | None
    permission: Words | None
    policy: Words = Field(description="Which table of permissions it was decided by.")
    request_id: Words | None
    address: Words | None
    credential: Words | None
    details: Json


class AuditEntry(Noted):
    """An entry of the audit log; its hash covers its fields and the hash before it."""

    seq: int = Field(ge=1)
    hash: Hash


class RecordAudit(Schema):
    """Write a batch of requests and decisions; the same batch twice is written once."""

    requests: tuple[HttpRequest, ...] = Field((), max_length=BATCH_MAX)
    entries: tuple[Noted, ...] = Field((), max_length=BATCH_MAX)


class Recorded(Schema):
    """How much was written."""

    requests: int
    entries: int


class ListEntries(Listing):
    """List decisions, newest first."""

    actor: Words | None = None
    action: Words | None = Field(None, description="An operation, or a domain for all of its own.")
    decision: Decision | None = None
    request_id: Words | None = None
    since: datetime | None = None
    until: datetime | None = None


class ListRequests(Listing):
    """List HTTP requests, newest first."""

    actor: Words | None = None
    operation: Words | None = None
    status: int | None = Field(None, ge=100, le=599)
    decision: Decision | None = None
    request_id: Words | None = None
    since: datetime | None = None
    until: datetime | None = None


class VerifyAudit(Schema):
    """Walk the chain of the audit log; with an entry noted elsewhere, check that it is still so."""

    known_seq: int | None = Field(None, ge=1, description="An entry that was written down before,")
    known_hash: Hash | None = Field(None, description="and the hash that it had.")


class ChainVerdict(Schema):
    """Whether the audit log is what was written."""

    ok: bool
    entries: int
    last_hash: Hash
    broken_at: int | None = Field(description="The first entry that is wrong or missing.")
    why: str | None


record = Operation(
    "audit.record", RecordAudit, Recorded, internal=True, idempotent=True, workers=4, timeout_s=10
)
entries = Operation(
    "audit.entries", ListEntries, Page[AuditEntry], rest="GET /audit", may="audit:read"
)
requests = Operation(
    "audit.requests", ListRequests, Page[SeenRequest], rest="GET /api-requests", may="audit:read"
)
verify = Operation(
    "audit.verify", VerifyAudit, ChainVerdict, rest="POST /audit/verify", may="audit:execute",
    timeout_s=120, workers=1,
)  # fmt: skip


def events_of(*modules: ModuleType) -> tuple[type[Event], ...]:
    """Every event that these modules declare."""
    return tuple(
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Event)
        and value.__module__ == module.__name__
    )


on_identity = Reaction(
    "audit-note-identity",
    events_of(users, keys, sessions, grants, signing, principals, clients, external),
)
on_credentials = Reaction("audit-note-credentials", events_of(credentials))
