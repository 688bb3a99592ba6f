"""Registry: which services there are, how they are, what each can do, and asking any of it.

A service is there because it answers the NATS service protocol, or because somebody registered it
and renews its lease. `lost` is the end of both: it is no longer listed, found or invoked.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from schemas.contract import Entity, Event, Json, Listing, Operation, Page, Problem, Schema
from schemas.problems import BadSchema, IllegalMove, NotFound, OutsideSchema, Unavailable

ServiceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
OwnServiceName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,30}$")]
EndpointName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,31}$")]
EntryName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64})?$")
]
ToolSubject = Annotated[str, StringConstraints(pattern=r"^tool(\.[A-Za-z0-9_-]{1,64}){1,6}$")]
Layer = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,10}$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,30}$")]
Words = Annotated[str, StringConstraints(min_length=1, max_length=200)]

Status = Literal["ready", "degraded", "unhealthy", "flapping", "lost"]
EntryStatus = Literal["ready", "degraded", "unhealthy", "flapping", "lost", "deprecated"]
EntryKind = Literal["service", "operation", "tool"]


class ServiceEndpoint(Schema):
    """One thing that a service does."""

    name: str
    subject: str
    summary: str = ""
    metadata: Json = {}


class Service(Entity, table="registry.services"):
    """A service that answers the NATS service protocol, or was registered, or once was."""

    name: str
    service_version: str
    description: str
    layer: str | None
    instances: int
    endpoints: tuple[ServiceEndpoint, ...]
    metadata: Json
    status: Status
    owner_id: str | None = Field(
        None, description="Who registered it; absent for one that answers by itself."
    )
    reason: str | None = Field(None, description="Why its status is what it is, unless ready.")
    last_seen_at: datetime
    created_at: datetime
    updated_at: datetime


class NewEndpoint(Schema):
    """One thing that a registered service does; it becomes the tool `<service>.<name>`."""

    name: EndpointName
    subject: ToolSubject
    description: str = Field(min_length=1, max_length=1_000)
    input_schema: Json = Field(default_factory=lambda: {"type": "object"})
    output_schema: Json = Field(default_factory=lambda: {"type": "object"})
    timeout_ms: int = Field(10_000, ge=100, le=120_000)
    repeatable: bool = Field(False, description="Calling it twice does no harm.")
    tags: tuple[Tag, ...] = Field((), max_length=20)


class RegisterService(Schema):
    """Register a service until its lease ends, or renew it with what it does now."""

    name: OwnServiceName
    service_version: str = Field("1.0.0", pattern=r"^\d{1,4}\.\d{1,4}\.\d{1,4}$")
    description: str = Field(min_length=1, max_length=1_000)
    layer: Layer | None = None
    tags: tuple[Tag, ...] = Field((), max_length=20)
    endpoints: tuple[NewEndpoint, ...] = Field((), max_length=200)
    health_subject: ToolSubject | None = Field(
        None, description="Asked again and again; any answer but an error means well."
    )
    check_every_s: int = Field(30, ge=1, le=3600)
    lease_s: int = Field(90, ge=3, le=86_400)
    remove_after_s: int = Field(
        600, ge=1, le=86_400, description="After how long unhealthy in one piece it is removed."
    )


class RenewService(Schema):
    """Renew the lease of a service that you registered."""

    name: ServiceName


class DeregisterService(Schema):
    """Take a service that you registered out of the registry."""

    name: ServiceName


class Lease(Schema):
    """Until when a registered service is believed to be there."""

    name: str
    status: Status
    until: datetime


class ListServices(Listing):
    """List services, by name; what is lost only when asked for."""

    status: Status | None = None
    layer: Layer | None = None
    tags: tuple[Tag, ...] = Field((), max_length=10, description="It has all of these.")
    like: Words | None = Field(None, description="Name and description are like these words.")


class GetService(Schema):
    """Show one service with everything it does."""

    name: ServiceName


class Chosen(Listing):
    """What narrows a list of entries."""

    kind: EntryKind | None = None
    status: EntryStatus | None = None
    layer: Layer | None = None
    tags: tuple[Tag, ...] = Field((), max_length=10, description="It has all of these.")


class SearchServices(Chosen):
    """Find services, operations and tools by words, spelling mistakes allowed."""

    q: Words
    limit: int = Field(20, ge=1, le=100)


class ListEntries(Chosen):
    """List services, operations and tools with their schemas, by name."""


class GetEntry(Schema):
    """Show what is known of a service, operation or tool before invoking it."""

    name: EntryName


class Found(Schema):
    """A service, an operation or a tool."""

    service: str
    name: str
    kind: EntryKind
    subject: str
    summary: str
    status: EntryStatus
    layer: str | None = None
    tags: tuple[str, ...] = ()


class Hit(Found):
    """One match, best first."""

    score: float = Field(description="0 to 100.")


class Entry(Found):
    """Something that can be found, with what invoking it takes."""

    permission: str | None = None
    input_schema: Json | None = None


class InvokeService(Schema):
    """Invoke an operation, a tool, or a service that does one thing, with your own rights."""

    name: EntryName
    input: Json = Field(default_factory=dict)
    timeout_s: float | None = Field(None, ge=0.1, le=120)


class Invoked(Schema):
    """What was answered."""

    name: str
    kind: EntryKind
    service: str
    output: Any


class ServiceNameTaken(Problem, code="ERR_143", status=409):
    """A service of this name is there, or was registered by somebody else."""


class ServiceVersionTaken(Problem, code="ERR_144", status=409):
    """This version of the service was registered with other endpoints; give it a new version."""


class TooManyServices(Problem, code="ERR_145", status=409):
    """You have registered as many services as one may."""


class ServiceAppeared(Event, name="registry.appeared", category="system"):
    """A service was registered, or answered for the first time, or is there again."""

    service: Service


class ServiceChanged(Event, name="registry.changed", category="system"):
    """A service has another version, other endpoints or another number of instances."""

    service: Service


class ServiceHealthChanged(Event, name="registry.health_changed", category="system"):
    """A service is well, or not so well, or well and unwell in turns."""

    service: Service


class ServiceLost(Event, name="registry.lost", category="system"):
    """Nobody answers for a service any more, or it was deregistered."""

    service: Service


services = Operation(
    "registry.list", ListServices, Page[Service], rest="GET /services", may="services:read"
)
search = Operation(
    "registry.search", SearchServices, Page[Hit], rest="GET /services/search", may="services:read"
)
entries = Operation(
    "registry.entries", ListEntries, Page[Entry], rest="GET /services/entries", may="services:read"
)
entry = Operation(
    "registry.entry", GetEntry, Entry, rest="GET /services/entries/{name}", may="services:read",
    problems=(NotFound,),
)  # fmt: skip
service = Operation(
    "registry.get", GetService, Service, rest="GET /services/{name}", may="services:read",
    problems=(NotFound,),
)  # fmt: skip
register = Operation(
    "registry.register", RegisterService, Service, rest="POST /services -> 201",
    may="services:create", idempotent=True, emits=(ServiceAppeared, ServiceChanged),
    problems=(ServiceNameTaken, ServiceVersionTaken, TooManyServices, BadSchema),
)  # fmt: skip
renew = Operation(
    "registry.renew", RenewService, Lease, rest="POST /services/{name}/renew",
    may="services:update", idempotent=True, emits=(ServiceHealthChanged,),
    problems=(NotFound, IllegalMove),
)  # fmt: skip
deregister = Operation(
    "registry.deregister", DeregisterService, Service, rest="DELETE /services/{name}",
    may="services:delete", idempotent=True, emits=(ServiceLost,), problems=(NotFound, IllegalMove),
)  # fmt: skip
invoke = Operation(
    "registry.invoke", InvokeService, Invoked, rest="POST /services/{name}/invoke",
    may="services:execute", idempotent=True, commits_itself=True, timeout_s=130, workers=16,
    problems=(NotFound, OutsideSchema, Unavailable),
)  # fmt: skip
