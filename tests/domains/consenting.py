"""A person with a browser's session, a client, and the steps between them."""

import base64
import hashlib
import json
import secrets
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from schemas.identity import clients, oauth, principals, sessions, users
from schemas.identity.clients import IssuedClient, RegisterClient
from schemas.identity.oauth import AskToken, Decide, OAuthRefused
from schemas.identity.principals import ResolveToken
from schemas.identity.sessions import SignIn
from schemas.identity.users import CreateUser
from schemas.principal import Principal

PASSWORD = "correct horse battery"  # pragma: allowlist secret
BACK = "https://client.example/back"
SCOPES = ("agents:read", "goals:read", "agents:create")
VERIFIER = "v" * 64


def challenge(verifier: str = VERIFIER) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


async def person(ask: Any, login: str, *roles: str) -> Any:
    """Somebody who is signed in with a browser, asking."""
    command = CreateUser(login=login, name=login, roles=roles or ("developer",), password=PASSWORD)
    user = await ask(users.create_user, command)
    signed = await ask.as_nobody(
        sessions.sign_in, SignIn(login=login, password=PASSWORD, browser=True)
    )
    shown = f"session/{signed.session.id}"
    return ask.acting_as(Principal(id=user.id, kind="user", roles=user.roles, credential=shown))


async def registered(asking: Any, **fields: Any) -> IssuedClient:
    command = {"name": "Reader", "redirect_uris": (BACK,), "scopes": SCOPES} | fields
    return await asking(clients.register_client, RegisterClient(**command))


def request(client: Any, **fields: Any) -> dict[str, Any]:
    """What a client asks a person for."""
    wanted = {
        "response_type": "code", "client_id": client.id, "redirect_uri": BACK, "state": "s",
        "scope": "agents:read goals:read", "code_challenge": challenge(),
        "code_challenge_method": "S256",
    } | fields  # fmt: skip
    return {name: value for name, value in wanted.items() if value is not None}


async def consented(asking: Any, client: Any, **fields: Any) -> dict[str, str]:
    """What comes back to the client in the address."""
    command = Decide(**request(client, **fields), allow=True)
    decided = await asking(oauth.decide, command)
    return dict(parse_qsl(urlsplit(decided.location).query))


def basic(client_id: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()


async def token(ask: Any, issued: IssuedClient, **form: Any) -> Any:
    """Ask for a token as this client; a form field of None is left out."""
    header = basic(issued.client.id, issued.secret) if issued.secret else None
    if issued.secret is None:
        form.setdefault("client_id", issued.client.id)
    header = form.pop("authorization", header)
    fields = {name: value for name, value in form.items() if value is not None}
    return await ask.as_nobody(oauth.token, AskToken(form=fields, authorization=header))


async def exchanged(ask: Any, issued: IssuedClient, code: str, **form: Any) -> Any:
    fields = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": BACK,
        "code_verifier": VERIFIER,
    } | form  # fmt: skip
    return await token(ask, issued, **fields)


def other_verifier() -> str:
    return secrets.token_urlsafe(48)


def claims_in(access_token: str) -> dict[str, Any]:
    part = access_token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def resolve(ask, tokens, scopes=None):
    claims = claims_in(tokens.access_token)
    command = ResolveToken(session_id=claims["sid"], scopes=tuple(claims["scope"].split()))
    return (await ask.as_edge(principals.resolve_token, command)).principal


async def refused(asked, error, kind=OAuthRefused):
    with pytest.raises(kind) as problem:
        await asked
    assert problem.value.details["error"] == error
    return problem.value


async def refresh(ask, issued, given, **form):
    fields = {"grant_type": "refresh_token", "refresh_token": given.refresh_token} | form
    return await token(ask, issued, **fields)
