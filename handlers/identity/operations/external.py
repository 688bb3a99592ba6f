"""Sign-in through the external provider, and who may."""

import hmac
from typing import Any
from weakref import WeakKeyDictionary

from bus.context import Context, Platform
from bus.database import Transaction
from handlers.identity import service
from handlers.identity.operations.sessions import opened
from handlers.identity.operations.users import lock
from handlers.identity.provider import Provider, derived
from handlers.identity.rules import external as rules
from handlers.identity.rules import sessions as session_rules
from handlers.identity.rules import users as user_rules
from handlers.identity.store import oauth as store
from handlers.identity.store import users as users_store
from schemas.identity import external
from schemas.identity.external import (
    ExternalLinked,
    FinishExternal,
    LinkExternal,
    NotFromProvider,
    NotInvited,
    Started,
    StartExternal,
    UnlinkExternal,
)
from schemas.identity.sessions import SessionStarted, SignedIn
from schemas.identity.users import User, UserCreated
from schemas.problems import Unauthenticated

SUBJECT_MAX = 255
_providers: "WeakKeyDictionary[Platform, Provider]" = WeakKeyDictionary()


def provider_of(ctx: Context) -> Provider:
    """The provider of this process.

    Raises:
        NoProvider: There is none.
    """
    found = _providers.get(ctx.platform)
    if found is None:
        found = _providers[ctx.platform] = Provider(ctx.settings)
    return found


@service.handles(external.start_external)
async def start(command: StartExternal, ctx: Context) -> Started:
    """Where to go; nothing is stored."""
    return Started(location=await provider_of(ctx).location(command.bound.get_secret_value()))


@service.handles(external.finish_external)
async def finish(command: FinishExternal, ctx: Context) -> SignedIn:
    """Ask the provider who that was, then open a browser's session."""
    provider, bound = provider_of(ctx), command.bound.get_secret_value()
    if not hmac.compare_digest(command.state.encode(), derived(bound, "state").encode()):
        raise NotFromProvider("This answer belongs to another sign-in.")
    if command.iss is not None and command.iss != provider.issuer:
        raise NotFromProvider("This answer comes from another provider.")
    claims = await provider.claims(command.code.get_secret_value(), bound)
    async with ctx.transaction() as tx:
        user = await known_or_new(tx, claims, provider.issuer, ctx)
        session = session_rules.new_session(user.id, "browser", id=ctx.new_id(), at=ctx.now())
        await tx.record(SessionStarted(session=session))
        return await opened(tx, user, session, ctx)


async def known_or_new(tx: Transaction, claims: dict[str, Any], issuer: str, ctx: Context) -> User:
    """The user of a subject; made now if newcomers are welcome.

    Raises:
        NotInvited: They are not.
        Unauthenticated: The account is disabled.
    """
    subject = str(claims["sub"])
    if not 0 < len(subject) <= SUBJECT_MAX:
        raise NotFromProvider("The provider's subject is of no use.")
    await tx.row(store.LOCK_SUBJECT, subject)
    row = await tx.row(store.OF_SUBJECT, issuer, subject)
    if row is None:
        return await new_user(tx, claims, issuer, ctx)
    user = User.model_validate(dict(row))
    if user.status != "active":
        raise Unauthenticated
    return user


async def new_user(tx: Transaction, claims: dict[str, Any], issuer: str, ctx: Context) -> User:
    """Somebody who comes for the first time; never joined to an account of the same login.

    Raises:
        NotInvited: Newcomers are not welcome, or the first administrator is still to come.
    """
    roles, setting_up = ctx.settings.oidc_roles, ctx.settings.bootstrap_setup_hash is not None
    if not roles or (setting_up and await tx.row(users_store.ANYBODY) is None):
        raise NotInvited
    taken = await tx.row(store.LOGIN_TAKEN, rules.wished_login(claims) or "")
    command = rules.newcomer(claims, issuer, roles, taken=taken is not None)
    user = user_rules.new_user(command, id=ctx.new_id(), at=ctx.now())
    await tx.record(UserCreated(user=user))
    await tx.execute(store.LINK, issuer, str(claims["sub"]), user.id)
    return user


@service.handles(external.link_external)
async def link(command: LinkExternal, ctx: Context) -> User:
    """Let the user come in as this subject."""
    issuer = provider_of(ctx).issuer
    async with ctx.transaction() as tx:
        user = user_rules.changed(await lock(tx, command.id, ctx), ctx.now())
        await tx.execute(store.LINK, issuer, command.subject, user.id)
        await tx.record(ExternalLinked(user=user))
    return user


@service.handles(external.unlink_external)
async def unlink(command: UnlinkExternal, ctx: Context) -> User:
    """No subject is this user any more."""
    async with ctx.transaction() as tx:
        user = user_rules.changed(await lock(tx, command.id, ctx), ctx.now())
        await tx.execute(store.UNLINK, user.id)
        await tx.record(ExternalLinked(user=user))
    return user
