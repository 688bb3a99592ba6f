"""Sessions: sign in, refresh, sign out, end."""

from bus import credentials
from bus.context import Context
from bus.credentials import hash_secret, read_credential
from bus.database import Transaction
from handlers.identity import passwords, service, signing, tokens
from handlers.identity.operations import ending
from handlers.identity.operations.attempts import count_attempt
from handlers.identity.operations.principals import same
from handlers.identity.rules import sessions as rules
from handlers.identity.store import sessions as store
from handlers.identity.store import users as users_store
from schemas.contract import Page
from schemas.identity import sessions
from schemas.identity.sessions import (
    EndSession,
    GetSession,
    ListSessions,
    Refresh,
    Session,
    SessionEnded,
    SessionStarted,
    SignedIn,
    SignedOut,
    SignIn,
    SignOut,
    TokenReused,
    Tokens,
    WrongPassword,
)
from schemas.identity.users import User
from schemas.problems import Expired, NotFound, Unauthenticated

FORGET_S = 3600


@service.handles(sessions.sign_in)
async def sign_in(command: SignIn, ctx: Context) -> SignedIn:
    """Check the password, then open a session of the kind that was asked for."""
    await count_attempt(command.login, ctx)
    password = command.password.get_secret_value()
    row = await ctx.database.row(users_store.PASSWORD, command.login)
    if not await passwords.fits(row["hash"] if row else None, password) or row is None:
        raise WrongPassword
    user = User.model_validate({name: row[name] for name in User.model_fields})
    again = await passwords.hashed(password) if passwords.outdated(row["hash"]) else None
    kind: sessions.SessionKind = "browser" if command.browser else "tokens"
    session = rules.new_session(user.id, kind, id=ctx.new_id(), at=ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(SessionStarted(session=session))
        await tx.execute(users_store.FORGET_ATTEMPTS, user.login)
        if again:
            await tx.execute(users_store.SET_PASSWORD, user.id, again)
        return await opened(tx, user, session, ctx)


async def opened(tx: Transaction, user: User, session: Session, ctx: Context) -> SignedIn:
    """The session's secret, as a cookie or as tokens."""
    if session.kind == "browser":
        fresh = credentials.new_credential("session")
        await tx.execute(store.ADD_COOKIE, fresh.id, session.id, fresh.secret_hash, ctx.now())
        csrf = credentials.csrf_token(fresh.text)
        return SignedIn(user=user, session=session, cookie=fresh.text, csrf=csrf)
    fresh = credentials.new_credential("refresh")
    await tx.execute(store.ADD_REFRESH, fresh.id, session.id, fresh.secret_hash)
    return SignedIn(user=user, session=session, tokens=await pair(session, fresh.text, ctx))


async def pair(session: Session, refresh_token: str | None, ctx: Context) -> Tokens:
    """A fresh access token beside a refresh token."""
    kid, private = await signing.current(ctx)
    return Tokens(
        access_token=tokens.access_token(session, kid, private, ctx.settings.public_url, ctx),
        expires_in=tokens.lives_s(session, ctx.now()),
        refresh_token=refresh_token,
        scope=" ".join(session.scopes),
    )


@service.handles(sessions.refresh)
async def refresh(command: Refresh, ctx: Context) -> Tokens:
    """The next pair; the same one for all who ask within 20 s; the end of the session after."""
    async with ctx.transaction() as tx:
        session, following = await used(tx, command.refresh_token.get_secret_value(), None, ctx)
    if following is None:
        raise TokenReused
    return await pair(session, following, ctx)


async def used(
    tx: Transaction, text: str, client_id: str | None, ctx: Context
) -> tuple[Session, str | None]:
    """Use a refresh token once; returns its session and the token that follows it.

    A token that was used before ends its session and is followed by None: the end must commit.

    Raises:
        Unauthenticated: It is not one, or belongs to another client.
        Expired: Its session has ended.
    """
    prefix, secret = read_credential("refresh", text)
    row = await tx.row(store.LOCK_REFRESH, prefix)
    if row is None or not same(row["secret_hash"], hash_secret(secret)):
        raise Unauthenticated
    session = await lock(tx, str(row["session_id"]))
    if session.client_id != client_id:
        raise Unauthenticated
    if not rules.good(session, ctx.now()):
        raise Expired
    use = rules.use_of(row["used_at"], ctx.now())
    if use == "reuse":
        await tx.record(SessionEnded(session=rules.ended(session, "reuse", ctx.now())))
        return session, None
    following = tokens.successor(secret, ctx)
    if use == "first":
        await tx.execute(store.USE_REFRESH, prefix, ctx.now())
        await tx.execute(store.ADD_REFRESH, following.id, session.id, following.secret_hash)
    return session, following.text


async def lock(tx: Transaction, session_id: str) -> Session:
    """The session as it is now, held until the transaction ends."""
    row = await tx.row(store.LOCK, session_id)
    if row is None:
        raise NotFound(id=session_id)
    return Session.model_validate(dict(row))


@service.handles(sessions.sign_out)
async def sign_out(command: SignOut, ctx: Context) -> SignedOut:
    """End this session, or all of the caller's; an API key has none to end."""
    kind, _, session_id = (ctx.principal.credential or "").partition("/")
    async with ctx.transaction() as tx:
        if command.everywhere and not ctx.principal.scopes:  # no client ends what is not its own
            ended = await ending.end_sessions(tx, ctx.principal.id, "signed-out", ctx)
            return SignedOut(sessions=ended)
        if kind != "session":
            return SignedOut(sessions=0)
        return SignedOut(sessions=int(await end(tx, session_id, "signed-out", ctx)))


async def end(tx: Transaction, session_id: str, because: sessions.Ended, ctx: Context) -> bool:
    """End a session; False if it had ended before."""
    before = await lock(tx, session_id)
    session = rules.ended(before, because, ctx.now())
    if session is not before:
        await tx.record(SessionEnded(session=session))
    return session is not before


@service.handles(sessions.session)
async def get(command: GetSession, ctx: Context) -> Session:
    """One row."""
    session = Session.model_validate(await ctx.row(store.GET, command.id))
    ctx.require_owner(session.owner_id, session.id)
    return session


@service.handles(sessions.sessions)
async def listing(command: ListSessions, ctx: Context) -> Page[Session]:
    """A page of rows."""
    return await ctx.page(command, Session, store.LIST, *ctx.visible, command.active)


@service.handles(sessions.end_session)
async def end_session(command: EndSession, ctx: Context) -> Session:
    """End it; every edge hears of it and closes what it had opened."""
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id)
        ctx.require_owner(before.owner_id, before.id)
        session = rules.ended(before, "ended", ctx.now())
        if session is not before:
            await tx.record(SessionEnded(session=session))
    return session


@service.every(seconds=FORGET_S)
async def forget_old(ctx: Context) -> None:
    """Delete the secrets of sessions that have been over for a day."""
    await ctx.database.rows(store.FORGET_OLD)
