"""Identity: API keys, and who a credential stands for."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from schemas.contract import Entity, Event, Id, Listing, Name, Operation, Page, Problem, Schema
from schemas.principal import Principal, Role, permissions
from schemas.problems import IllegalMove, NotFound, Unauthenticated, VersionConflict

OVERLAP_S_MAX = 7 * 86_400


def known(permission: str) -> str:
    """The permission, if the table has it."""
    if permission not in permissions():
        raise ValueError(f"no such permission; known are {', '.join(permissions())}")
    return permission


Permission = Annotated[str, AfterValidator(known)]
KeyPrefix = Annotated[str, StringConstraints(pattern=r"^[0-9a-z]{16}$")]
SecretHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ApiKey(Entity, table="identity.api_keys"):
    """A key for programs. Its secrets are shown once; their hashes are kept beside it."""

    name: str
    owner_id: str
    roles: tuple[Role, ...]
    scopes: tuple[str, ...]
    created_at: datetime
    rotated_at: datetime | None
    expires_at: datetime | None
    revoked_at: datetime | None


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


class ResolveKey(Schema):
    """Find out whom an API key stands for."""

    prefix: KeyPrefix
    secret_hash: SecretHash


class ResolvedKey(Schema):
    """Whom a key stands for, and until when at most."""

    principal: Principal
    until: datetime | None


class WhoAmI(Schema):
    """Show the principal that the credential of this request stands for."""


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


resolve_key = Operation(
    "identity.resolve-key", ResolveKey, ResolvedKey, problems=(Unauthenticated,), timeout_s=2
)
me = Operation("identity.me", WhoAmI, Principal, rest="GET /auth/me", timeout_s=2)
issue_key = Operation(
    "identity.issue-key", IssueKey, IssuedKey, rest="POST /api-keys -> 201", may="keys:create",
    problems=(BeyondOwnRights, SecretShown), emits=(KeyIssued,), idempotent=True,
    commits_itself=True,
)  # fmt: skip
keys = Operation(
    "identity.keys", ListKeys, Page[ApiKey], rest="GET /api-keys", may="keys:read"
)  # fmt: skip
key = Operation(
    "identity.key", GetKey, ApiKey, rest="GET /api-keys/{id}", may="keys:read",
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
