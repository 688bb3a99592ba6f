"""Users: people who sign in, with the roles that they have."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.contract import (
    Entity,
    Event,
    Id,
    Listing,
    Operation,
    Page,
    Problem,
    Schema,
    Secret,
    Title,
)
from schemas.principal import Role
from schemas.problems import IllegalMove, NotFound, Unauthenticated, VersionConflict

PASSWORD_MIN, PASSWORD_MAX = 12, 200

Login = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._@+-]{1,99}$")]
Password = Annotated[Secret, Field(min_length=PASSWORD_MIN, max_length=PASSWORD_MAX)]
SetupToken = Annotated[Secret, Field(min_length=20, max_length=100)]
UserStatus = Literal["active", "disabled"]


class User(Entity, table="identity.users", read="users:read"):
    """A person. The password is kept beside it, hashed with argon2id."""

    login: str
    name: str
    roles: tuple[Role, ...]
    status: UserStatus
    created_at: datetime
    updated_at: datetime

    @property
    def owner_id(self) -> str:
        """A user is his own."""
        return self.id


class CreateUser(Schema):
    """Add a user."""

    login: Login
    name: Title
    roles: tuple[Role, ...] = Field(("viewer",), min_length=1, max_length=4)
    password: Password | None = Field(
        None, description="Without one only an external sign-in opens the account."
    )


class SetUp(Schema):
    """Create the first administrator with the one-time token that the first start has shown."""

    token: SetupToken
    login: Login
    name: Title
    password: Password


class AskSetUp(Schema):
    """Ask whether the first administrator is still to be created."""


class SetUpState(Schema):
    """Whether the set-up token is still good for something, and how else one comes in."""

    needed: bool
    provider: str | None = Field(None, description="Host of the external provider.")


class GetUser(Schema):
    """Show one user."""

    id: Id


class ListUsers(Listing):
    """List users, newest first."""

    status: UserStatus | None = None


class UpdateUser(Schema):
    """Change a user's name or roles; changing roles needs `users:grant`."""

    id: Id
    version: int = Field(ge=1)
    name: Title
    roles: tuple[Role, ...] = Field(min_length=1, max_length=4)


class DisableUser(Schema):
    """Disable a user: sessions end and API keys are revoked, at once and everywhere."""

    id: Id


class EnableUser(Schema):
    """Let a disabled user sign in again."""

    id: Id


class SetPassword(Schema):
    """Set a password; your own needs the current one. All other sessions of the user end."""

    id: Id
    current: Secret | None = Field(None, max_length=PASSWORD_MAX)
    new: Password


class UnlockUser(Schema):
    """Forget failed sign-ins, so that a locked-out user may try again now."""

    id: Id


class UserCreated(Event, name="identity.user_created"):
    """A user was added."""

    user: User


class UserChanged(Event, name="identity.user_changed"):
    """A user's name, roles or status changed."""

    user: User


class PasswordChanged(Event, name="identity.password_changed"):
    """A user has another password."""

    user: User


class UserUnlocked(Event, name="identity.user_unlocked"):
    """A user's failed sign-ins were forgotten."""

    user: User


class LoginTaken(Problem, code="ERR_118", status=409, constraint="users_login_key"):
    """There is a user of this login."""


class LastAdmin(Problem, code="ERR_119", status=409):
    """The last active administrator cannot be disabled or lose the role."""


class SetUpDone(Problem, code="ERR_170", status=409):
    """The first administrator exists: sign in, or let an administrator add you."""


class RolesBeyondOwnRights(Problem, code="ERR_303", status=403):
    """Only who may grant roles (`users:grant`) may change them."""


set_up = Operation(
    "identity.set-up", SetUp, User, rest="POST /auth/setup -> 201", public=True, guesses=True,
    problems=(Unauthenticated, SetUpDone, LoginTaken), emits=(UserCreated,), idempotent=True,
    commits_itself=True,
)  # fmt: skip
set_up_state = Operation(
    "identity.set-up-state", AskSetUp, SetUpState, rest="GET /auth/setup", public=True
)
create_user = Operation(
    "identity.create-user", CreateUser, User, rest="POST /users -> 201", may="users:create",
    problems=(LoginTaken, RolesBeyondOwnRights), emits=(UserCreated,), idempotent=True,
    commits_itself=True,
)  # fmt: skip
users = Operation(
    "identity.users", ListUsers, Page[User], rest="GET /users", may="users:read"
)  # fmt: skip
user = Operation(
    "identity.user", GetUser, User, rest="GET /users/{id}", may="users:read", problems=(NotFound,)
)
update_user = Operation(
    "identity.update-user", UpdateUser, User, rest="PUT /users/{id}", may="users:update",
    problems=(NotFound, VersionConflict, LastAdmin, RolesBeyondOwnRights), emits=(UserChanged,),
    idempotent=True,
)  # fmt: skip
disable_user = Operation(
    "identity.disable-user", DisableUser, User, rest="DELETE /users/{id}", may="users:delete",
    problems=(NotFound, VersionConflict, LastAdmin), emits=(UserChanged,), idempotent=True,
)  # fmt: skip
enable_user = Operation(
    "identity.enable-user", EnableUser, User, rest="POST /users/{id}/enable", may="users:delete",
    problems=(NotFound, VersionConflict), emits=(UserChanged,), idempotent=True,
)  # fmt: skip
set_password = Operation(
    "identity.set-password", SetPassword, User, rest="PUT /users/{id}/password",
    may="users:update", guesses=True,
    problems=(NotFound, VersionConflict, Unauthenticated, IllegalMove),
    emits=(PasswordChanged,), idempotent=True, commits_itself=True,
)  # fmt: skip
unlock_user = Operation(
    "identity.unlock-user", UnlockUser, User, rest="POST /users/{id}/unlock", may="users:grant",
    problems=(NotFound, VersionConflict), emits=(UserUnlocked,), idempotent=True,
)  # fmt: skip
