"""Decisions about users: how they change, and how long failed sign-ins lock a login."""

from datetime import datetime, timedelta

from schemas.identity.users import CreateUser, RolesBeyondOwnRights, UpdateUser, User, UserStatus
from schemas.principal import Principal, Role
from schemas.problems import VersionConflict

FREE_FAILURES = 5
LOCK_S_FIRST = 5
LOCK_S_MAX = 900
DOUBLINGS_MAX = 10


def new_user(command: CreateUser, *, id: str, at: datetime) -> User:
    """An active user."""
    return User(
        id=id,
        version=1,
        login=command.login,
        name=command.name,
        roles=distinct(command.roles),
        status="active",
        created_at=at,
        updated_at=at,
    )


def distinct(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """Roles without doubles."""
    return tuple(dict.fromkeys(roles))


def updated(user: User, command: UpdateUser, by: Principal, at: datetime) -> User:
    """The user with another name or other roles.

    Raises:
        VersionConflict: It has changed since it was read.
        RolesBeyondOwnRights: Roles change, and who asks may not grant them.
    """
    if user.version != command.version:
        raise VersionConflict(current=user.version)
    roles = distinct(command.roles)
    if set(roles) != set(user.roles) and by.scope_of("users:grant") == "none":
        raise RolesBeyondOwnRights
    return changed(user, at, name=command.name, roles=roles)


def with_status(user: User, status: UserStatus, at: datetime) -> User:
    """The user with this status; nothing changes when it has it already."""
    return user if user.status == status else changed(user, at, status=status)


def changed(user: User, at: datetime, **fields: object) -> User:
    """The next version."""
    return user.model_copy(update={"version": user.version + 1, "updated_at": at, **fields})


def active_admin(user: User) -> bool:
    """Whether the user may do everything now."""
    return user.status == "active" and "admin" in user.roles


def lock_after(failures: int) -> timedelta | None:
    """How long a login is locked after so many failures in a row; None is not at all."""
    if failures < FREE_FAILURES:
        return None
    doublings = min(failures - FREE_FAILURES, DOUBLINGS_MAX)
    return timedelta(seconds=min(LOCK_S_FIRST * 2**doublings, LOCK_S_MAX))
