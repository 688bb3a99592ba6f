"""Decisions about OAuth clients: what one may ask for, and where people are sent back to."""

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import urlsplit

from schemas.identity.clients import ClientFields, OAuthClient, RegisterClient, UpdateClient
from schemas.principal import Principal, Role
from schemas.problems import IllegalMove, VersionConflict

ADDRESSES = ("127.0.0.1", "::1")
VERBS = {
    "read": "See", "create": "Create", "update": "Change", "delete": "Delete",
    "execute": "Run", "control": "Stop, pause and resume", "approve": "Approve",
    "grant": "Decide who may use",
}  # fmt: skip
EXTENT = {"all": "all", "own": "your own", "none": "the"}


def new_client(command: RegisterClient, maker: Principal, *, id: str, at: datetime) -> OAuthClient:
    """A client of the maker's."""
    return OAuthClient(
        id=id, version=1, owner_id=maker.id, confidential=command.confidential, status="active",
        created_at=at, updated_at=at, **decided(command, maker),
    )  # fmt: skip


def decided(command: ClientFields, maker: Principal) -> dict[str, object]:
    """The fields that one decides about; only who acts for itself has roles."""
    roles: tuple[Role, ...] = command.roles or maker.roles
    return {
        "name": command.name,
        "redirect_uris": distinct(command.redirect_uris),
        "grants": distinct(command.grants),
        "scopes": distinct(command.scopes),
        "roles": distinct(roles) if "client_credentials" in command.grants else (),
    }


def distinct(items: Iterable[str]) -> tuple[str, ...]:
    """Without doubles."""
    return tuple(dict.fromkeys(items))


def updated(
    client: OAuthClient, command: UpdateClient, maker: Principal, at: datetime
) -> OAuthClient:
    """The client with other fields.

    Raises:
        VersionConflict: It has changed since it was read.
        IllegalMove: It is deleted, or is public and would need a secret.
    """
    if client.version != command.version:
        raise VersionConflict(current=client.version)
    if "client_credentials" in command.grants and not client.confidential:
        raise IllegalMove("A public client cannot use client_credentials: it has no secret.")
    return changed(client, at, **decided(command, maker))


def changed(client: OAuthClient, at: datetime, **fields: object) -> OAuthClient:
    """The next version of a client.

    Raises:
        IllegalMove: It is deleted.
    """
    if client.status != "active":
        raise IllegalMove("The client is deleted: register another one.")
    return client.model_copy(update={"version": client.version + 1, "updated_at": at, **fields})


def with_new_secret(client: OAuthClient, at: datetime) -> OAuthClient:
    """The client whose secret is replaced.

    Raises:
        IllegalMove: It has none, or is deleted.
    """
    if not client.confidential:
        raise IllegalMove("A public client has no secret.")
    return changed(client, at)


def comes_back_to(client: OAuthClient, uri: str) -> bool:
    """Whether people may be sent there: an address of the client's, character for character.

    On a loopback IP address the port is free: a program on the person's own machine cannot know
    it before (RFC 8252 7.3).
    """
    return uri in client.redirect_uris or any(
        without_port(uri) == without_port(known) for known in client.redirect_uris if loopback(uri)
    )


def loopback(uri: str) -> bool:
    """Whether an address is on this machine, named by its IP address and nothing besides."""
    try:
        parts = urlsplit(uri)
        free = parts.port is None or parts.port > 0
    except ValueError:
        return False
    return free and parts.scheme == "http" and parts.netloc == netloc(parts.hostname, parts.port)


def netloc(host: str | None, port: int | None) -> str | None:
    """How the one spelling of a loopback address and port is; None for any other host."""
    if host not in ADDRESSES:
        return None
    name = f"[{host}]" if ":" in host else host
    return name if port is None else f"{name}:{port}"


def without_port(uri: str) -> tuple[str, ...] | None:
    """A loopback address without its port; None for any other."""
    if not loopback(uri):
        return None
    parts = urlsplit(uri)
    return (parts.scheme, parts.hostname or "", parts.path, parts.query, parts.fragment)


def allowed(client: OAuthClient, wanted: str | None, within: Iterable[str] | None) -> str | None:
    """The scope that may be given of a wanted one, or of all; None for nothing.

    Args:
        client: Who asks.
        wanted: Space separated; the client's own scopes when there is none.
        within: What the person may, or None when nobody is asked.
    """
    asked = set(wanted.split()) if wanted else set(client.scopes)
    limit = None if within is None else set(within)
    given = [s for s in client.scopes if s in asked and (limit is None or s in limit)]
    return " ".join(given) or None


def in_words(permission: str, extent: str) -> str:
    """`agents:read` -> `See all agents`."""
    resource, _, action = permission.partition(":")
    return f"{VERBS[action]} {EXTENT[extent]} {resource}"
