"""What a client asks of a person, and the person's answer; both only in a browser's session."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from authlib.oauth2 import OAuth2Error

from bus.context import Context
from bus.credentials import hash_secret
from handlers.identity import acting, service
from handlers.identity.authorization import Client, Request, Server
from handlers.identity.operations.oauth import issuer_of, known_client, request_at
from handlers.identity.rules import clients as rules
from handlers.identity.store import clients as clients_store
from handlers.identity.store import oauth as store
from handlers.identity.store import sessions as sessions_store
from schemas.identity import oauth
from schemas.identity.clients import OAuthClient
from schemas.identity.oauth import (
    CODE_S,
    Authorization,
    AuthorizationRequest,
    Decide,
    Decided,
    LookAtAuthorization,
    Wish,
)
from schemas.principal import permissions
from schemas.problems import Denied, VersionConflict

PATH = "/oauth/authorize"


@service.handles(oauth.authorization)
async def look(command: LookAtAuthorization, ctx: Context) -> Authorization:
    """Who asks for what; a request that is wrong is refused here as it would be later."""
    request, server = await prepared(command, ctx)
    grant = valid(server, request, ctx)
    assert server.client is not None
    client = server.client.entity
    return Authorization(
        client_id=client.id,
        client_name=client.name,
        registered_by=await name_of(client.owner_id, ctx),
        comes_back_to=urlsplit(grant.redirect_uri).netloc,
        wishes=tuple(wish(permission, ctx) for permission in request.scope.split()),
    )


@service.handles(oauth.decide)
async def decide(command: Decide, ctx: Context) -> Decided:
    """A code for the client, or its refusal; either way the browser goes back to it."""
    request, server = await prepared(command, ctx)
    grant = valid(server, request, ctx)
    user_id = ctx.principal.id if command.allow else None
    answer = server.create_authorization_response(request, user_id, grant)
    if server.made_code is not None:
        await keep_code(server.made_code, request, grant.redirect_uri, ctx)
    return Decided(location=answer.location)


async def prepared(command: AuthorizationRequest, ctx: Context) -> tuple[Request, Server]:
    """The request, and a server that knows its client and what this person may."""
    await require_browser(ctx)
    fields = {n: str(v) for n, v in command.model_dump(exclude={"allow"}).items() if v is not None}
    request = request_at("GET", PATH, fields, None, ctx)
    entity = await known_client(fields.get("client_id"), ctx)
    client = Client(entity, within=own_permissions(ctx)) if entity else None
    return request, Server(issuer_of(ctx), client)


async def require_browser(ctx: Context) -> None:
    """Refuse whoever is not a person in a browser: a token cannot give itself more.

    Raises:
        Denied: It is something else.
    """
    kind, _, session_id = (ctx.principal.credential or "").partition("/")
    row = await ctx.database.row(sessions_store.GET, session_id) if kind == "session" else None
    if row is None or row["kind"] != "browser":
        raise Denied("Only a person who is signed in with a browser decides this.")


def own_permissions(ctx: Context) -> list[str]:
    """What this person may do at all: nobody can allow more."""
    rights = ctx.platform.rights
    return [p for p in permissions() if not rights.reach(ctx.principal, p).nothing]


def valid(server: Server, request: Request, ctx: Context) -> Any:
    """Authlib's grant for a request that is in order."""
    try:
        return server.get_consent_grant(request, end_user=ctx.principal.id)
    except OAuth2Error as error:
        raise server.refusal(request, error) from None


def wish(permission: str, ctx: Context) -> Wish:
    """One permission in words, as far as this person has it."""
    extent = ctx.platform.rights.reach(ctx.principal, permission).scope
    return Wish(permission=permission, words=rules.in_words(permission, extent))


async def name_of(owner_id: str, ctx: Context) -> str:
    """Who has registered a client."""
    user = await acting.account(owner_id, ctx)
    return user.name if user else owner_id


async def keep_code(code: str, request: Request, redirect_uri: str, ctx: Context) -> None:
    """Store the hash of a code with all that it is bound to."""
    client: OAuthClient = request.client.entity
    async with ctx.transaction() as tx:
        row = await tx.row(clients_store.HOLD, client.id)
        if row is None or row["version"] != client.version:
            raise VersionConflict  # it may ask for less now
        await tx.execute(
            store.ADD_CODE, hash_secret(code), client.id, ctx.principal.id,
            redirect_uri, request.scope.split(), request.payload.data["code_challenge"],
            ctx.now() + timedelta(seconds=CODE_S),
        )  # fmt: skip
