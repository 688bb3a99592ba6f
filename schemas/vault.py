"""Vault: secrets that the platform keeps for its own work, such as a model provider's key."""

from datetime import datetime

from pydantic import Field

from schemas.contract import Entity, Event, Listing, Name, Operation, Page, Schema, Secret
from schemas.problems import NotFound, VersionConflict

VALUE_CHARS_MAX = 16_000


class StoredSecret(Entity, table="vault.secrets"):
    """A secret that is kept; its value is sealed beside it and comes out of no door."""

    name: str
    created_at: datetime
    updated_at: datetime
    updated_by: str
    deleted_at: datetime | None


class PutSecret(Schema):
    """Keep a secret under a name, or replace its value."""

    name: Name
    value: Secret = Field(min_length=1, max_length=VALUE_CHARS_MAX)


class ListSecrets(Listing):
    """List the names of kept secrets, newest first; never their values."""


class DeleteSecret(Schema):
    """Forget a secret and its value."""

    name: Name


class ReadSecret(Schema):
    """Read a secret's value, for a layer's own work."""

    name: Name


class SecretValue(Schema):
    """A secret's value, on its way from one layer to another."""

    value: str


class SecretStored(Event, name="vault.secret_stored"):
    """A secret got a value."""

    secret: StoredSecret


class SecretDeleted(Event, name="vault.secret_deleted"):
    """A secret's value was forgotten."""

    secret: StoredSecret


put = Operation(
    "vault.put", PutSecret, StoredSecret, rest="PUT /secrets/{name}", may="secrets:update",
    problems=(VersionConflict,), emits=(SecretStored,), idempotent=True, commits_itself=True,
)  # fmt: skip
listing = Operation(
    "vault.list", ListSecrets, Page[StoredSecret], rest="GET /secrets", may="secrets:read"
)
delete = Operation(
    "vault.delete", DeleteSecret, StoredSecret, rest="DELETE /secrets/{name}",
    may="secrets:delete", problems=(NotFound, VersionConflict), emits=(SecretDeleted,),
    idempotent=True,
)  # fmt: skip
read = Operation(
    "vault.read", ReadSecret, SecretValue, may="secrets:execute", problems=(NotFound,)
)  # fmt: skip
