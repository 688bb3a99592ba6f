"""OAuth clients: programs of others that act for people, or for themselves, with tokens.

A client's scopes are permissions. For a person it acts within that person's rights and the scopes
that the person allowed; for itself (`client_credentials`) within its roles, which were never more
than its maker's.
"""

from datetime import datetime
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from schemas.contract import (
    Entity,
    Event,
    Id,
    Listing,
    Operation,
    Page,
    Problem,
    Schema,
    Title,
)
from schemas.identity.keys import OVERLAP_S_MAX, BeyondOwnRights
from schemas.principal import Permission, Role
from schemas.problems import IllegalMove, NotFound, VersionConflict

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ENDING_S = 30.0

GrantType = Literal["authorization_code", "refresh_token", "client_credentials"]
ClientStatus = Literal["active", "deleted"]


def safe_redirect(uri: str) -> str:
    """The address, if tokens may be sent there: https, or this machine; nothing ambiguous."""
    parts = urlsplit(uri)
    secure = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
    if not secure or not parts.hostname:
        raise ValueError("an address is https://…, or http:// on a loopback address")
    if parts.fragment or "#" in uri or parts.username is not None or "\\" in uri:
        raise ValueError("an address has no fragment, user name or backslash")
    _ = parts.port  # raises on nonsense
    return uri


RedirectUri = Annotated[
    str, StringConstraints(pattern=r"^[\x21-\x7e]{1,500}$"), AfterValidator(safe_redirect)
]


class OAuthClient(Entity, table="identity.oauth_clients", read="clients:read"):
    """A program that gets tokens. A confidential one has secrets, whose hashes are kept beside."""

    name: str
    owner_id: str
    confidential: bool
    redirect_uris: tuple[str, ...]
    grants: tuple[GrantType, ...]
    scopes: tuple[str, ...]
    roles: tuple[Role, ...]
    status: ClientStatus
    created_at: datetime
    updated_at: datetime


class IssuedClient(Schema):
    """A client with a fresh secret, which is shown this once; a public client has none."""

    client: OAuthClient
    secret: str | None


class ClientFields(Schema):
    """What one decides about a client."""

    name: Title
    redirect_uris: tuple[RedirectUri, ...] = Field(
        (), max_length=10, description="Where people come back to; compared exactly."
    )
    grants: tuple[GrantType, ...] = Field(
        ("authorization_code", "refresh_token"), min_length=1, max_length=3
    )
    scopes: tuple[Permission, ...] = Field(
        min_length=1, max_length=100, description="The most that it may ever ask for."
    )
    roles: tuple[Role, ...] = Field(
        (), max_length=4, description="For `client_credentials`; yours when empty."
    )

    @model_validator(mode="after")
    def _fits(self) -> "ClientFields":
        """Grants that need something have it."""
        if ("authorization_code" in self.grants) != bool(self.redirect_uris):
            raise ValueError("redirect_uris and the grant authorization_code need each other")
        if "refresh_token" in self.grants and "authorization_code" not in self.grants:
            raise ValueError("the grant refresh_token needs authorization_code")
        return self


class RegisterClient(ClientFields):
    """Register an OAuth client; for itself it may do no more than you may."""

    confidential: bool = Field(
        default=True, description="Can keep a secret: runs on a server, not in a browser or phone."
    )

    @model_validator(mode="after")
    def _can_prove_itself(self) -> "RegisterClient":
        if "client_credentials" in self.grants and not self.confidential:
            raise ValueError("a public client cannot use client_credentials: it has no secret")
        return self


class GetClient(Schema):
    """Show one OAuth client, without its secret."""

    id: Id


class ListClients(Listing):
    """List OAuth clients, newest first."""

    status: ClientStatus | None = "active"


class UpdateClient(ClientFields):
    """Change an OAuth client; its sessions end at once."""

    id: Id
    version: int = Field(ge=1)


class RotateClientSecret(Schema):
    """Give a client another secret; the one before stays good for a while."""

    id: Id
    overlap_s: int = Field(3_600, ge=0, le=OVERLAP_S_MAX)


class DeleteClient(Schema):
    """Delete an OAuth client; its sessions end at once and everywhere."""

    id: Id


class ClientRegistered(Event, name="identity.client_registered"):
    """An OAuth client was registered."""

    client: OAuthClient


class ClientChanged(Event, name="identity.client_changed"):
    """An OAuth client may ask for other things, or is sent elsewhere."""

    client: OAuthClient


class ClientSecretRotated(Event, name="identity.client_secret_rotated"):
    """An OAuth client got another secret."""

    client: OAuthClient


class ClientDeleted(Event, name="identity.client_deleted"):
    """An OAuth client is gone."""

    client: OAuthClient


class ClientSecretShown(
    Problem, code="ERR_180", status=409, constraint="client_secrets_made_by_key"
):
    """This was done before under the same Idempotency-Key, and a secret is shown once: rotate."""


register_client = Operation(
    "identity.register-client", RegisterClient, IssuedClient, rest="POST /clients -> 201",
    may="clients:create", problems=(BeyondOwnRights, ClientSecretShown),
    emits=(ClientRegistered,), idempotent=True, commits_itself=True,
)  # fmt: skip
clients = Operation(
    "identity.clients", ListClients, Page[OAuthClient], rest="GET /clients", may="clients:read"
)  # fmt: skip
client = Operation(
    "identity.client", GetClient, OAuthClient, rest="GET /clients/{id}", may="clients:read",
    problems=(NotFound,),
)  # fmt: skip
update_client = Operation(
    "identity.update-client", UpdateClient, OAuthClient, rest="PUT /clients/{id}",
    may="clients:update", problems=(NotFound, VersionConflict, IllegalMove, BeyondOwnRights),
    emits=(ClientChanged,), idempotent=True, timeout_s=ENDING_S,
)  # fmt: skip
rotate_client_secret = Operation(
    "identity.rotate-client-secret", RotateClientSecret, IssuedClient,
    rest="POST /clients/{id}/rotate", may="clients:update",
    problems=(NotFound, IllegalMove, VersionConflict, BeyondOwnRights, ClientSecretShown),
    emits=(ClientSecretRotated,), idempotent=True, commits_itself=True,
)  # fmt: skip
delete_client = Operation(
    "identity.delete-client", DeleteClient, OAuthClient, rest="DELETE /clients/{id}",
    may="clients:delete", problems=(NotFound, VersionConflict), emits=(ClientDeleted,),
    idempotent=True, timeout_s=ENDING_S,
)  # fmt: skip
