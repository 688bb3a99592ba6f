"""API keys: credentials of programs."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from schemas.contract import Entity, Event, Id, Listing, Name, Operation, Page, Problem, Schema
from schemas.principal import Permission, Role
from schemas.problems import IllegalMove, NotFound, VersionConflict

OVERLAP_S_MAX = 7 * 86_400


KeyPrefix = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{16}$")]
SecretHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ApiKey(Entity, table="identity.api_keys", read="keys:read"):
    """A key for programs. Its secrets are shown once; their hashes are kept beside it."""

    name: str
    owner_id: str
    roles: tuple[Role, ...]
    scopes: tuple[str, ...]
    created_at: datetime
    rotated_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


class UsedKey(ApiKey):
    """A key with how often it was used; counts arrive some seconds late."""

    uses: int
    last_used_at: datetime | None


class IssuedKey(Schema):
    """A key with a fresh secret, which is shown this once."""

    key: ApiKey
    secret: str = Field(description="Send it as `Authorization: Bearer …` or `X-Api-Key`.")


class IssueKey(Schema):
    """Make an API key that may do no more than you may."""

    name: Name
    roles: tuple[Role, ...] = Field((), max_length=4, description="Yours when empty.")
    scopes: tuple[Permission, ...] = Field(
        (), max_length=100, description="Narrow the roles to these permissions."
    )
    days: int | None = Field(90, ge=1, le=3_650, description="How long it lives; null is for ever.")


class GetKey(Schema):
    """Show one API key, without its secret."""

    id: Id


class ListKeys(Listing):
    """List API keys, newest first."""


class RotateKey(Schema):
    """Give a key another secret; the one before stays good for a while."""

    id: Id
    overlap_s: int = Field(3_600, ge=0, le=OVERLAP_S_MAX)


class RevokeKey(Schema):
    """End a key at once, everywhere."""

    id: Id


class Uses(Schema):
    """Uses of one key since the last count."""

    key_id: Id
    count: int = Field(ge=1)
    last_at: datetime


class CountUses(Schema):
    """Add up how often keys were used."""

    items: tuple[Uses, ...] = Field(max_length=1000)


class Counted(Schema):
    """How many keys were known."""

    keys: int


class KeyIssued(Event, name="identity.key_issued"):
    """An API key was made."""

    key: ApiKey


class KeyRotated(Event, name="identity.key_rotated"):
    """An API key got another secret."""

    key: ApiKey


class KeyRevoked(Event, name="identity.key_revoked"):
    """An API key is no longer good."""

    key: ApiKey


class SecretShown(Problem, code="ERR_117", status=409, constraint="key_secrets_made_by_key"):
    """This was done before under the same Idempotency-Key, and a secret is shown once: rotate."""


class BeyondOwnRights(Problem, code="ERR_301", status=403):
    """A key may not do more than its maker."""


issue_key = Operation(
    "identity.issue-key", IssueKey, IssuedKey, rest="POST /api-keys -> 201", may="keys:create",
    problems=(BeyondOwnRights, SecretShown), emits=(KeyIssued,), idempotent=True,
    commits_itself=True,
)  # fmt: skip
keys = Operation(
    "identity.keys", ListKeys, Page[UsedKey], rest="GET /api-keys", may="keys:read"
)  # fmt: skip
key = Operation(
    "identity.key", GetKey, UsedKey, rest="GET /api-keys/{id}", may="keys:read",
    problems=(NotFound,),
)  # fmt: skip
rotate_key = Operation(
    "identity.rotate-key", RotateKey, IssuedKey, rest="POST /api-keys/{id}/rotate",
    may="keys:create",
    problems=(NotFound, IllegalMove, VersionConflict, BeyondOwnRights, SecretShown),
    emits=(KeyRotated,), idempotent=True, commits_itself=True,
)  # fmt: skip
revoke_key = Operation(
    "identity.revoke-key", RevokeKey, ApiKey, rest="DELETE /api-keys/{id}", may="keys:delete",
    problems=(NotFound, VersionConflict), emits=(KeyRevoked,), idempotent=True,
)  # fmt: skip
count_uses = Operation("identity.count-uses", CountUses, Counted, internal=True)
