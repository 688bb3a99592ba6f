"""Grants: what somebody may, or may not, on one thing or on all, whatever the roles say."""

from datetime import datetime

from pydantic import Field

from schemas.contract import Entity, Event, Id, Listing, Operation, Page, Problem, Schema
from schemas.identity.keys import BeyondOwnRights
from schemas.policy import EVERYTHING, Subject, Thing
from schemas.principal import Permission
from schemas.problems import NotFound, Overloaded, VersionConflict

GRANTS_MAX = 10_000


class Grant(Entity, table="identity.grants", read="users:read"):
    """An exception to the roles. A denial wins over whatever allows."""

    subject: str
    permission: str
    thing: str
    allow: bool
    reason: str
    created_by: str
    created_at: datetime
    withdrawn_at: datetime | None


class Give(Schema):
    """Allow or deny somebody one permission on one thing, or on all."""

    subject: Subject = Field(description="`user:<id>`, `key:<id>`, `client:<id>` or `role:<role>`.")
    permission: Permission
    thing: Thing = Field(EVERYTHING, description="The id or name of one thing, or `*`.")
    allow: bool = True
    reason: str = Field("", max_length=300)


class GetGrant(Schema):
    """Show one grant."""

    id: Id


class ListGrants(Listing):
    """List grants that hold, newest first."""

    subject: Subject | None = None
    thing: Thing | None = None


class Withdraw(Schema):
    """End a grant, at once and everywhere."""

    id: Id


class GrantGiven(Event, name="identity.grant_given"):
    """Somebody was allowed or denied something."""

    grant: Grant


class GrantWithdrawn(Event, name="identity.grant_withdrawn"):
    """A grant no longer holds."""

    grant: Grant


class GrantExists(Problem, code="ERR_171", status=409, constraint="grants_rule_key"):
    """The same grant holds already; withdraw the opposite one first."""


give = Operation(
    "identity.give", Give, Grant, rest="POST /grants -> 201", may="users:grant",
    problems=(GrantExists, BeyondOwnRights, Overloaded), emits=(GrantGiven,), idempotent=True,
)  # fmt: skip
grants = Operation(
    "identity.grants", ListGrants, Page[Grant], rest="GET /grants", may="users:grant"
)  # fmt: skip
grant = Operation(
    "identity.grant", GetGrant, Grant, rest="GET /grants/{id}", may="users:grant",
    problems=(NotFound,),
)  # fmt: skip
withdraw = Operation(
    "identity.withdraw", Withdraw, Grant, rest="DELETE /grants/{id}", may="users:grant",
    problems=(NotFound, VersionConflict), emits=(GrantWithdrawn,), idempotent=True,
)  # fmt: skip
