"""Decisions about API keys: what one may do, how it moves, how long its secrets live."""

from datetime import datetime, timedelta

from schemas.identity.keys import ApiKey, IssueKey
from schemas.principal import Principal, Role, permissions
from schemas.problems import IllegalMove

WIDTH = {"none": 0, "own": 1, "all": 2}


def excess(maker: Principal, roles: tuple[Role, ...], scopes: tuple[str, ...]) -> tuple[str, ...]:
    """Permissions that a key with these roles and scopes would have beyond its maker's."""
    wanted = Principal(id=maker.id, kind="key", roles=roles, scopes=scopes)
    return tuple(
        permission
        for permission in permissions()
        if WIDTH[wanted.scope_of(permission)] > WIDTH[maker.scope_of(permission)]
    )


def new_key(command: IssueKey, maker: Principal, *, id: str, at: datetime) -> ApiKey:
    """A key of the maker's, with the maker's roles and scopes where none are named."""
    return ApiKey(
        id=id,
        version=1,
        name=command.name,
        owner_id=maker.id,
        roles=command.roles or maker.roles,
        scopes=command.scopes or maker.scopes,
        created_at=at,
        rotated_at=None,
        expires_at=None if command.days is None else at + timedelta(days=command.days),
        revoked_at=None,
    )


def rotated(key: ApiKey, at: datetime) -> ApiKey:
    """The key with another secret.

    Raises:
        IllegalMove: It is not good any more.
    """
    if not good(key, at):
        raise IllegalMove("The key is revoked or has expired: make another one.")
    return key.model_copy(update={"version": key.version + 1, "rotated_at": at})


def revoked(key: ApiKey, at: datetime) -> ApiKey:
    """The key at its end; a second time changes nothing."""
    if key.revoked_at is not None:
        return key
    return key.model_copy(update={"version": key.version + 1, "revoked_at": at})


def good(key: ApiKey, at: datetime) -> bool:
    """Whether it opens anything at that moment."""
    return key.revoked_at is None and (key.expires_at is None or at < key.expires_at)


def until(*ends: datetime | None) -> datetime | None:
    """The first of some ends; None is never."""
    return min((end for end in ends if end is not None), default=None)
