"""Tokens for OAuth clients: given, taken back, asked about.

A refusal rolls back what was read on the way to it, such as a refresh token that was used up; only
the end of a session whose code or refresh token came a second time is kept.
"""

from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749.util import extract_basic_authorization

from bus import credentials
from bus.context import IDS, Context
from bus.credentials import hash_secret, kind_of, read_credential
from bus.database import Transaction
from handlers.identity import acting, service, tokens
from handlers.identity.authorization import (
    METHODS,
    OK,
    Client,
    Code,
    Granted,
    Request,
    Server,
    Token,
    in_answer,
    refusal,
)
from handlers.identity.endpoints import AboutToken
from handlers.identity.operations import sessions
from handlers.identity.operations.principals import same
from handlers.identity.rules import sessions as rules
from handlers.identity.store import clients as clients_store
from handlers.identity.store import oauth as store
from handlers.identity.store import sessions as sessions_store
from schemas.identity import oauth
from schemas.identity.clients import OAuthClient
from schemas.identity.oauth import (
    AskToken,
    Form,
    Introspection,
    IntrospectToken,
    Revoked,
    RevokeToken,
)
from schemas.identity.sessions import ACCESS_S, REFRESH_S, Session, SessionStarted, Tokens
from schemas.problems import Expired, Unauthenticated

FORGET_S = 3600


def issuer_of(ctx: Context) -> str:
    """Who gives the tokens."""
    return ctx.settings.public_url


def request_of(path: str, command: Form, ctx: Context) -> Request:
    """The form as Authlib reads it.

    Raises:
        ClientRefused, OAuthRefused: It cannot be one.
    """
    form = {name: text.get_secret_value() for name, text in command.form.items()}
    header = command.authorization.get_secret_value() if command.authorization else None
    if header is not None and "client_secret" in form:
        raise refusal("invalid_request", "The client proves itself in two ways.")
    return request_at("POST", path, form, header, ctx)


def request_at(
    method: str, path: str, fields: dict[str, str], authorization: str | None, ctx: Context
) -> Request:
    """A request at one of our addresses, which must be safe to send secrets to.

    Raises:
        OAuthRefused: People reach us without TLS, and not on this machine.
    """
    try:
        return Request(method, issuer_of(ctx) + path, fields, authorization)
    except OAuth2Error as error:
        raise refusal(error.error, error.description) from None


def client_id_in(request: Request) -> str | None:
    """Which client a request is about, by its header or its form."""
    try:
        by_header, _ = extract_basic_authorization(request.headers)
    except UnicodeDecodeError:
        raise refusal("invalid_client", "The Authorization header is not text.") from None
    client_id: str | None = by_header or request.payload.client_id
    return client_id


async def known_client(client_id: str | None, ctx: Context) -> OAuthClient | None:
    """The active client of this id."""
    if client_id is None or not IDS.fullmatch(client_id):
        return None
    row = await ctx.database.row(clients_store.ACTIVE, client_id)
    return OAuthClient.model_validate(dict(row)) if row else None


async def client_of(tx: Transaction, request: Request) -> Client | None:
    """The client that a request names, with what it can prove itself by; held until the end.

    Raises:
        ClientRefused: It shows a secret that it cannot have.
    """
    client_id = client_id_in(request)
    if client_id is None or not IDS.fullmatch(client_id):
        return None
    row = await tx.row(clients_store.HOLD, client_id)
    if row is None:
        return None
    if request.headers["Authorization"] and not row["confidential"]:
        raise refusal("invalid_client", "A public client has no secret to show.")
    secrets = await tx.rows(clients_store.SECRETS, client_id)
    known = [(str(secret["prefix"]), str(secret["secret_hash"])) for secret in secrets]
    return Client(OAuthClient.model_validate(dict(row)), known)


@service.handles(oauth.token)
async def token(command: AskToken, ctx: Context) -> Tokens:
    """Read, let Authlib decide, write."""
    request = request_of("/oauth/token", command, ctx)
    async with ctx.transaction() as tx:
        server = Server(issuer_of(ctx), await client_of(tx, request))
        proven(server, request)
        presented = await Presented.read(tx, server, request, ctx)
        answer = server.create_token_response(request)
        if answer.status == OK:
            assert server.granted is not None
            return await presented.give(tx, server, server.granted, ctx)
        problem = in_answer(answer)
        if not presented.stolen:
            raise problem
    raise problem


def proven(server: Server, request: Request) -> None:
    """Refuse a client that is not who it says, before anything that it shows is looked at.

    Raises:
        ClientRefused: It is not.
    """
    try:
        server.authenticate_client(request, METHODS)
    except OAuth2Error as error:
        raise server.refusal(request, error) from None


class Presented:
    """What a request for a token shows besides its client: a code, a refresh token, or nothing."""

    def __init__(self) -> None:
        self.code_hash: str | None = None
        self.session: Session | None = None
        self.following: str | None = None
        self.stolen = False

    @classmethod
    async def read(
        cls, tx: Transaction, server: Server, request: Request, ctx: Context
    ) -> "Presented":
        """Read what is shown, and tell the server of it."""
        shown, form = cls(), request.form
        if request.payload.grant_type == "authorization_code" and form.get("code"):
            await shown._read_code(tx, server, hash_secret(form["code"]), ctx)
        elif request.payload.grant_type == "refresh_token" and form.get("refresh_token"):
            await shown._read_refresh(tx, server, form["refresh_token"], ctx)
        return shown

    async def _read_code(
        self, tx: Transaction, server: Server, code_hash: str, ctx: Context
    ) -> None:
        row = await tx.row(store.LOCK_CODE, code_hash)
        assert server.client is not None
        if row is None or str(row["client_id"]) != server.client.entity.id:
            return
        if row["used_at"] is not None:
            await self._stop(tx, str(row["session_id"]), ctx)
        elif ctx.now() < row["expires_at"]:
            self.code_hash = code_hash
            server.code = code_in(row)
            server.user_is_active = await is_active(server.code.user_id, ctx)

    async def _stop(self, tx: Transaction, session_id: str, ctx: Context) -> None:
        """A code came twice: whoever has used it first may not be the one that it was for."""
        await sessions.end(tx, session_id, "reuse", ctx)
        self.stolen = True

    async def _read_refresh(self, tx: Transaction, server: Server, text: str, ctx: Context) -> None:
        assert server.client is not None
        try:
            found = await sessions.used(tx, text, server.client.entity.id, ctx)
        except (Unauthenticated, Expired):
            return
        self.session, self.following = found
        if self.following is None:
            self.stolen = True
            return
        server.refreshed = token_of(self.session, "refresh_token")
        server.user_is_active = await is_active(self.session.owner_id, ctx)

    async def give(self, tx: Transaction, server: Server, granted: Granted, ctx: Context) -> Tokens:
        """The tokens that Authlib has decided to give."""
        assert server.client is not None
        client_id = server.client.entity.id
        if self.session is not None:
            narrowed = self.session.model_copy(update={"scopes": granted.scopes})
            return await sessions.pair(narrowed, self.following, ctx)
        owner_id, lives_s = client_id, ACCESS_S
        if server.code is not None:
            owner_id, lives_s = server.code.user_id, REFRESH_S
        session = rules.new_session(
            owner_id, "client", id=ctx.new_id(), at=ctx.now(), client_id=client_id,
            scopes=granted.scopes, lives_s=lives_s,
        )  # fmt: skip
        await tx.record(SessionStarted(session=session))
        if self.code_hash is not None:
            await tx.execute(store.USE_CODE, self.code_hash, ctx.now(), session.id)
        return await sessions.pair(session, await first_refresh(tx, session, granted), ctx)


async def first_refresh(tx: Transaction, session: Session, granted: Granted) -> str | None:
    """The first refresh token of a session, if its client may have one."""
    if not granted.refresh:
        return None
    fresh = credentials.new_credential("refresh")
    await tx.execute(sessions_store.ADD_REFRESH, fresh.id, session.id, fresh.secret_hash)
    return fresh.text


def code_in(row: Any) -> Code:
    """The code of a row."""
    return Code(
        client_id=str(row["client_id"]), user_id=str(row["user_id"]),
        redirect_uri=row["redirect_uri"], scopes=tuple(row["scopes"]),
        code_challenge=row["challenge"],
    )  # fmt: skip


def token_of(session: Session, kind: str, claims: dict[str, Any] | None = None) -> Token:
    """A token of a session; an access token says itself until when and for what it is good."""
    if claims is None:
        return Token(session, kind, session.scopes, int(session.expires_at.timestamp()))
    return Token(session, kind, tuple(str(claims.get("scope", "")).split()), int(claims["exp"]))


async def is_active(user_id: str, ctx: Context) -> bool:
    """Whether the account is still open."""
    user = await acting.account(user_id, ctx)
    return user is not None and user.status == "active"


@service.handles(oauth.revoke_token)
async def revoke(command: RevokeToken, ctx: Context) -> Revoked:
    """End the session of a token; one that is not good any more is no error."""
    request = request_of("/oauth/revoke", command, ctx)
    async with ctx.transaction() as tx:
        server = AboutToken(issuer_of(ctx), await client_of(tx, request), await found(request, ctx))
        answer = server.create_endpoint_response("revocation", request)
        if answer.status != OK:
            raise in_answer(answer)
        if server.revoked is None:
            return Revoked(sessions=0)
        ended = await sessions.end(tx, server.revoked.session.id, "revoked", ctx)
        return Revoked(sessions=int(ended))


@service.handles(oauth.introspect_token)
async def introspect(command: IntrospectToken, ctx: Context) -> Introspection:
    """What a token is worth now, to those who may know."""
    request = request_of("/oauth/introspect", command, ctx)
    async with ctx.transaction() as tx:
        server = AboutToken(issuer_of(ctx), await client_of(tx, request), await found(request, ctx))
        server.username = await login_of(server.token, ctx)
        answer = server.create_endpoint_response("introspection", request)
    if answer.status != OK:
        raise in_answer(answer)
    return Introspection.model_validate(answer.body)


async def found(request: Request, ctx: Context) -> Token | None:
    """The token of a request, while it opens something; None for any other text."""
    text = request.form.get("token", "")
    token = await refresh_token(text, ctx) if kind_of(text) == "refresh" else None
    token = token or await access_token(text, ctx)
    if token is None or not rules.good(token.session, ctx.now()):
        return None
    session = token.session
    owner = session.client_id == session.owner_id or await is_active(session.owner_id, ctx)
    return token if owner else None


async def refresh_token(text: str, ctx: Context) -> Token | None:
    """A refresh token that was not used yet."""
    try:
        prefix, secret = read_credential("refresh", text)
    except Unauthenticated:
        return None
    row = await ctx.database.row(store.OF_REFRESH, prefix)
    if row is None or row["used_at"] or not same(row["secret_hash"], hash_secret(secret)):
        return None
    session = Session.model_validate({name: row[name] for name in Session.model_fields})
    return token_of(session, "refresh_token")


async def access_token(text: str, ctx: Context) -> Token | None:
    """An access token that we have signed."""
    rows = await ctx.database.rows(sessions_store.VERIFYING, ctx.now())
    keys = {str(row["id"]): str(row["public"]) for row in rows}
    claims = tokens.read_access_token(text, keys, issuer_of(ctx))
    row = claims and await ctx.database.row(sessions_store.GET, str(claims["sid"]))
    if not claims or not row:
        return None
    return token_of(Session.model_validate(dict(row)), "Bearer", claims)


async def login_of(token: Token | None, ctx: Context) -> str | None:
    """Whose token it is; a client's own is nobody's."""
    if token is None or token.session.client_id == token.session.owner_id:
        return None
    user = await acting.account(token.session.owner_id, ctx)
    return user.login if user else None


@service.every(seconds=FORGET_S)
async def forget_codes(ctx: Context) -> None:
    """Delete codes that have been over for a day."""
    await ctx.database.rows(store.FORGET_CODES)
