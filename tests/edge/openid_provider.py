"""A small OpenID Connect provider made of Authlib's grants, over HTTP, with keys of its own.

Honest unless it is told to lie: `lie` gets header and claims of each ID token before it is signed,
and may name another key to sign with.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import uvicorn
from authlib.oauth2.rfc6749 import AuthorizationServer, ClientMixin, OAuth2Request
from authlib.oauth2.rfc6749.grants import AuthorizationCodeGrant
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oidc.core.grants import OpenIDCode
from joserfc import jwt
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from tests.servers import free_port

CLIENT_ID, SECRET = "story-portal", "a-secret-of-the-provider"


def fresh_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


class Portal(ClientMixin):
    """The one client: us."""

    def __init__(self, back: str) -> None:
        self.back = back

    def get_client_id(self):
        return CLIENT_ID

    def get_default_redirect_uri(self):
        return None

    def get_allowed_scope(self, scope):
        return scope

    def check_redirect_uri(self, redirect_uri):
        return redirect_uri == self.back

    def check_client_secret(self, client_secret):
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method, endpoint):
        return method == "client_secret_post"

    def check_response_type(self, response_type):
        return response_type == "code"

    def check_grant_type(self, grant_type):
        return grant_type == "authorization_code"


@dataclass
class Code:
    """What a code stands for."""

    redirect_uri: str
    scope: str
    user: dict[str, Any]
    nonce: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self):
        return self.redirect_uri

    def get_scope(self):
        return self.scope


class ByCode(AuthorizationCodeGrant):
    def save_authorization_code(self, code, request):
        data = request.payload.data
        self.server.provider.codes[code] = Code(
            data["redirect_uri"], request.scope, request.user, data["nonce"],
            data["code_challenge"], data["code_challenge_method"],
        )  # fmt: skip

    def query_authorization_code(self, code, client):
        return self.server.provider.codes.get(code)

    def delete_authorization_code(self, authorization_code):
        codes = self.server.provider.codes
        self.server.provider.codes = {c: v for c, v in codes.items() if v is not authorization_code}

    def authenticate_user(self, authorization_code):
        return authorization_code.user


class IDTokens(OpenIDCode):
    """ID tokens, as the provider is told to make them."""

    def __init__(self, provider: "Provider") -> None:
        super().__init__(require_nonce=True)
        self.provider = provider

    def exists_nonce(self, nonce, request):
        return False

    def encode_id_token(self, token, request):
        return self.provider.id_token(request.authorization_code)


class Form(OAuth2Request):
    def __init__(self, method, uri, fields):
        super().__init__(method, uri)
        self.payload = BasicOAuth2Payload(fields)

    @property
    def form(self):
        return self.payload.data


class Server(AuthorizationServer):
    def __init__(self, provider: "Provider") -> None:
        super().__init__()
        self.provider = provider
        self.register_grant(ByCode, [CodeChallenge(required=True), IDTokens(provider)])
        self.register_token_generator("default", self.make)

    def make(self, scope=None, **_):
        return {"access_token": "of-no-use", "token_type": "Bearer", "scope": scope}

    def query_client(self, client_id):
        return Portal(self.provider.back) if client_id == CLIENT_ID else None

    def save_token(self, token, request):
        return

    def send_signal(self, name, *args, **kwargs):
        return

    def create_oauth2_request(self, request):
        return request

    def handle_response(self, status, body, headers):
        location = dict(headers).get("Location")
        return RedirectResponse(location) if location else JSONResponse(body, status)


@dataclass
class Provider:
    """State of the provider, and who is signed in there."""

    url: str
    back: str
    user: dict[str, Any] = field(
        default_factory=lambda: {"sub": "s-1", "name": "Ada L.", "preferred_username": "Ada"}
    )
    lie: Callable[[dict[str, Any], dict[str, Any]], Any] = lambda header, claims: None
    key: RSAKey = field(default_factory=lambda: fresh_key("first"))
    discovery: dict[str, Any] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def id_token(self, code: Code) -> str:
        now = int(time.time())
        header = {"alg": "RS256", "kid": self.key.kid}
        claims = {
            "iss": self.url, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": code.nonce,
            **code.user,
        }  # fmt: skip
        made = self.lie(header, claims)
        if isinstance(made, str):
            return made
        return jwt.encode(header, claims, made or self.key, [header["alg"]])

    async def configuration(self, request: Request) -> Response:
        self.asked.append("discovery")
        return JSONResponse({
            "issuer": self.url, "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token", "jwks_uri": f"{self.url}/keys",
        } | self.discovery)  # fmt: skip

    async def keys(self, request: Request) -> Response:
        self.asked.append("keys")
        return JSONResponse({"keys": [self.key.as_dict(private=False)]})

    async def authorize(self, request: Request) -> Response:
        server = Server(self)
        form = Form("GET", str(request.url), dict(request.query_params))
        grant = server.get_consent_grant(form, end_user=self.user)
        return server.create_authorization_response(form, self.user, grant)

    async def token(self, request: Request) -> Response:
        self.asked.append("token")
        fields = dict(parse_qsl((await request.body()).decode()))
        return Server(self).create_token_response(Form("POST", str(request.url), fields))

    def app(self) -> Starlette:
        return Starlette(routes=[
            Route("/.well-known/openid-configuration", self.configuration),
            Route("/keys", self.keys), Route("/authorize", self.authorize),
            Route("/token", self.token, methods=["POST"]),
        ])  # fmt: skip


@asynccontextmanager
async def serving(provider: Provider) -> AsyncIterator[Provider]:
    """The provider on its port, in this event loop."""
    port = int(provider.url.rpartition(":")[2])
    config = uvicorn.Config(
        provider.app(), "127.0.0.1", port, log_config=None, lifespan="off", loop="none"
    )
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield provider
    server.should_exit = True
    await task


def at_free_port(back: str) -> Provider:
    return Provider(f"http://127.0.0.1:{free_port()}", back)
