"""Registry: which services answer on the bus now, and what each can do."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.contract import Entity, Event, Json, Listing, Operation, Page, Schema
from schemas.problems import NotFound

ServiceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ServiceEndpoint(Schema):
    """One thing that a service does."""

    name: str
    subject: str
    summary: str = ""
    metadata: Json = {}


class Service(Entity, table="registry.services"):
    """A service that answers, or has answered, the NATS service protocol."""

    name: str
    service_version: str
    description: str
    layer: str | None
    instances: int
    endpoints: tuple[ServiceEndpoint, ...]
    metadata: Json
    status: Literal["ready", "lost"]
    last_seen_at: datetime
    created_at: datetime
    updated_at: datetime


class ListServices(Listing):
    """List services, by name."""

    status: Literal["ready", "lost"] | None = None


class GetService(Schema):
    """Show one service with everything it does."""

    name: ServiceName


class SearchServices(Schema):
    """Find services, operations and tools by words, spelling mistakes allowed."""

    q: str = Field(min_length=1, max_length=200)
    limit: int = Field(20, ge=1, le=100)


class Hit(Schema):
    """One match, best first."""

    service: str
    name: str
    kind: Literal["service", "operation", "tool"]
    subject: str
    summary: str
    status: str
    score: float = Field(description="0 to 100.")


class Hits(Schema):
    """What was found."""

    items: tuple[Hit, ...]


class ServiceAppeared(Event, name="registry.appeared", category="system"):
    """A service answered for the first time, or again."""

    service: Service


class ServiceChanged(Event, name="registry.changed", category="system"):
    """A service has another version, other endpoints or another number of instances."""

    service: Service


class ServiceLost(Event, name="registry.lost", category="system"):
    """No instance of a service answers any more."""

    service: Service


services = Operation(
    "registry.list", ListServices, Page[Service], rest="GET /services", may="services:read"
)
search = Operation(
    "registry.search", SearchServices, Hits, rest="GET /services/search", may="services:read"
)
service = Operation(
    "registry.get", GetService, Service, rest="GET /services/{name}", may="services:read",
    problems=(NotFound,),
)  # fmt: skip
