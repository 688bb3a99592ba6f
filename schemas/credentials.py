"""Bus credentials: how programs of others speak NATS with the rights of an API key, and no more.

A credential is a NATS user: its id is the user name, its secret the password. It stands for an
API key and reads the same permission table, so that one revocation ends every door. Requests go
to `api.<credential id>.<domain>.<verb>`: the server lets each credential publish only below its
own id, and that is how the edge knows who asks.
"""

from datetime import datetime

from pydantic import Field

from schemas.contract import Entity, Event, Id, Listing, Name, Operation, Page, Problem, Schema
from schemas.principal import Principal
from schemas.problems import NotFound, Unauthenticated, VersionConflict


class BusCredential(Entity, table="credentials.bus_credentials", read="keys:read"):
    """A NATS user that stands for an API key. Its secret is shown once."""

    name: str
    key_id: Id
    owner_id: str
    created_at: datetime
    revoked_at: datetime | None


class IssuedCredential(Schema):
    """A bus credential with its secret, which is shown this once."""

    credential: BusCredential
    user: str = Field(description="The NATS user name.")
    password: str = Field(description="The NATS password.")
    inbox_prefix: str = Field(description="Replies come only below this; tell your client.")
    publish: tuple[str, ...] = Field(description="Subjects it may publish to now.")
    subscribe: tuple[str, ...] = Field(description="Subjects it may subscribe to now.")


class CreateCredential(Schema):
    """Make NATS credentials that stand for one of your API keys."""

    for_key: Id = Field(description="Id of the API key.")
    name: Name


class ListCredentials(Listing):
    """List bus credentials, newest first."""


class RevokeCredential(Schema):
    """End a bus credential at once and close its connections."""

    id: Id


class ResolveCredential(Schema):
    """Find out whom a bus credential stands for."""

    id: Id


class ResolvedCredential(Schema):
    """Whom a bus credential stands for, and until when at most."""

    principal: Principal
    until: datetime | None


class CredentialIssued(Event, name="credentials.issued"):
    """A bus credential was made."""

    credential: BusCredential


class CredentialRevoked(Event, name="credentials.revoked"):
    """A bus credential is no longer good."""

    credential: BusCredential


class CredentialShown(Problem, code="ERR_129", status=409, constraint="secrets_made_by_key"):
    """Done before under this Idempotency-Key, and a password is shown once: make another."""


class NoGate(Problem, code="ERR_604", status=409):
    """This installation's NATS server does not ask the platform who may connect."""


create = Operation(
    "credentials.create", CreateCredential, IssuedCredential, rest="POST /bus-credentials -> 201",
    may="keys:create", problems=(NotFound, Unauthenticated, NoGate, CredentialShown),
    emits=(CredentialIssued,), idempotent=True, commits_itself=True,
)  # fmt: skip
listing = Operation(
    "credentials.list", ListCredentials, Page[BusCredential], rest="GET /bus-credentials",
    may="keys:read",
)  # fmt: skip
revoke = Operation(
    "credentials.revoke", RevokeCredential, BusCredential, rest="DELETE /bus-credentials/{id}",
    may="keys:delete", problems=(NotFound, VersionConflict), emits=(CredentialRevoked,),
    idempotent=True,
)  # fmt: skip
resolve = Operation(
    "credentials.resolve", ResolveCredential, ResolvedCredential, problems=(Unauthenticated,),
    timeout_s=2, internal=True,
)  # fmt: skip
