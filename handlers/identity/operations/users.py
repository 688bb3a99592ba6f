"""Users: add, change, disable; passwords; the first administrator."""

import hmac
from urllib.parse import urlsplit

from bus.context import Context
from bus.credentials import hash_secret
from bus.database import Transaction
from handlers.identity import passwords, service
from handlers.identity.operations import ending
from handlers.identity.operations.attempts import count_attempt
from handlers.identity.rules import users as rules
from handlers.identity.store import users as store
from schemas.contract import Page
from schemas.identity import users
from schemas.identity.users import (
    AskSetUp,
    CreateUser,
    DisableUser,
    EnableUser,
    GetUser,
    LastAdmin,
    ListUsers,
    PasswordChanged,
    RolesBeyondOwnRights,
    SetPassword,
    SetUp,
    SetUpDone,
    SetUpState,
    UnlockUser,
    UpdateUser,
    User,
    UserChanged,
    UserCreated,
    UserUnlocked,
)
from schemas.problems import IllegalMove, NotFound, Unauthenticated


async def lock(tx: Transaction, user_id: str, ctx: Context) -> User:
    """The user as he is now, held until the transaction ends."""
    row = await tx.row(store.LOCK, user_id)
    if row is None:
        raise NotFound(id=user_id)
    ctx.require_owner(user_id, user_id)
    return User.model_validate(dict(row))


async def lock_admins(tx: Transaction) -> set[str]:
    """Every active administrator, held in one order so that two who ask do not wait for another."""
    return {str(row["id"]) for row in await tx.rows(store.LOCK_ADMINS)}


def require_another(user: User, admins: set[str]) -> None:
    """Refuse to lose the last administrator.

    Raises:
        LastAdmin: There is no other.
    """
    if rules.active_admin(user) and admins <= {user.id}:
        raise LastAdmin


@service.handles(users.set_up)
async def set_up(command: SetUp, ctx: Context) -> User:
    """The first administrator; one of two who try at once is refused."""
    known = ctx.settings.bootstrap_setup_hash
    given = hash_secret(command.token.get_secret_value())
    if known is None or not hmac.compare_digest(known, given):
        raise Unauthenticated("The set-up token is not the one that the first start has shown.")
    hashed = await passwords.hashed(command.password.get_secret_value())
    first = CreateUser(login=command.login, name=command.name, roles=("admin",))
    user = rules.new_user(first, id=ctx.new_id(), at=ctx.now())
    async with ctx.transaction() as tx:
        await tx.row(store.LOCK_FIRST)
        if await tx.row(store.ANYBODY):
            raise SetUpDone
        await tx.record(UserCreated(user=user))
        await tx.execute(store.SET_PASSWORD, user.id, hashed)
    return user


@service.handles(users.set_up_state)
async def set_up_state(_: AskSetUp, ctx: Context) -> SetUpState:
    """Until there is any user, if there is a token at all."""
    nobody = await ctx.database.row(store.ANYBODY) is None
    issuer = ctx.settings.oidc_issuer
    return SetUpState(
        needed=nobody and ctx.settings.bootstrap_setup_hash is not None,
        provider=urlsplit(issuer).hostname if issuer else None,
    )


@service.handles(users.create_user)
async def create(command: CreateUser, ctx: Context) -> User:
    """Decide, write, announce, answer."""
    if ctx.principal.scope_of("users:grant") == "none" and set(command.roles) != {"viewer"}:
        raise RolesBeyondOwnRights
    password = command.password
    hashed = await passwords.hashed(password.get_secret_value()) if password else None
    user = rules.new_user(command, id=ctx.new_id(), at=ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(UserCreated(user=user))
        if hashed:
            await tx.execute(store.SET_PASSWORD, user.id, hashed)
    return user


@service.handles(users.user)
async def get(command: GetUser, ctx: Context) -> User:
    """One row."""
    ctx.require_owner(command.id, command.id)
    return User.model_validate(await ctx.row(store.GET, command.id))


@service.handles(users.users)
async def listing(command: ListUsers, ctx: Context) -> Page[User]:
    """A page of rows."""
    return await ctx.page(command, User, store.LIST, *ctx.visible, command.status)


@service.handles(users.update_user)
async def update(command: UpdateUser, ctx: Context) -> User:
    """Change name or roles; every edge asks again who the user is."""
    async with ctx.transaction() as tx:
        admins = await lock_admins(tx)
        before = await lock(tx, command.id, ctx)
        user = rules.updated(before, command, ctx.principal, ctx.now())
        if not rules.active_admin(user):
            require_another(before, admins)
        await tx.record(UserChanged(user=user))
    return user


@service.handles(users.disable_user)
async def disable(command: DisableUser, ctx: Context) -> User:
    """No sign-in from now on; what was opened ends."""
    async with ctx.transaction() as tx:
        admins = await lock_admins(tx)
        before = await lock(tx, command.id, ctx)
        user = rules.with_status(before, "disabled", ctx.now())
        if user is before:
            return user
        require_another(before, admins)
        await tx.record(UserChanged(user=user))
        await ending.end_sessions(tx, user.id, "disabled", ctx)
        await ending.revoke_keys(tx, user.id, ctx)
    return user


@service.handles(users.enable_user)
async def enable(command: EnableUser, ctx: Context) -> User:
    """Sign-in is possible again; what had ended stays ended."""
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        user = rules.with_status(before, "active", ctx.now())
        if user is not before:
            await tx.record(UserChanged(user=user))
    return user


@service.handles(users.set_password)
async def set_password(command: SetPassword, ctx: Context) -> User:
    """Only who may grant rights needs no current password; sessions other than this one end."""
    own = ctx.principal.id == command.id
    if own or ctx.principal.scope_of("users:grant") == "none":
        await require_password(command, ctx)
    hashed = await passwords.hashed(command.new.get_secret_value())
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        user = rules.changed(before, ctx.now())
        await tx.record(PasswordChanged(user=user))
        await tx.execute(store.SET_PASSWORD, user.id, hashed)
        await tx.execute(store.FORGET_ATTEMPTS, user.login)
        await ending.end_sessions(tx, user.id, "password", ctx, but=ctx.principal.credential)
    return user


async def require_password(command: SetPassword, ctx: Context) -> None:
    """Refuse whoever does not know the current password.

    Raises:
        NotFound: It is somebody else's.
        IllegalMove: There is no password to know.
        TooManyRequests: It was guessed at too often.
        Unauthenticated: It is wrong.
    """
    ctx.require_owner(command.id, command.id)
    row = await ctx.database.row(store.PASSWORD_OF, command.id)
    if row is None:
        raise IllegalMove("You have no password: let an administrator set one.")
    await count_attempt(row["login"], ctx)
    current = command.current.get_secret_value() if command.current else ""
    if not await passwords.fits(row["hash"], current):
        raise Unauthenticated("The current password is wrong.")


@service.handles(users.unlock_user)
async def unlock(command: UnlockUser, ctx: Context) -> User:
    """Forget the failures of the user's login."""
    async with ctx.transaction() as tx:
        user = rules.changed(await lock(tx, command.id, ctx), ctx.now())
        await tx.record(UserUnlocked(user=user))
        await tx.execute(store.FORGET_ATTEMPTS, user.login)
    return user
