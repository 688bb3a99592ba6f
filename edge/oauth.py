"""The doors of OAuth 2, in the forms that its RFCs prescribe; behind each is an operation.

GET  /oauth/authorize    not signed in ─► /sign-in and back; a bad request ─► back to its client,
                         or told on the page; else ─► /consent, where the person decides
POST /oauth/token        RFC 6749      POST /oauth/revoke      RFC 7009
POST /oauth/introspect   RFC 7662      GET  /.well-known/…     RFC 8414, RFC 9728
"""

from typing import Any
from urllib.parse import quote, urlencode

import orjson

from edge import answers
from edge.asking import Asking
from edge.authentication import Authentication
from edge.command import parameters, require_no_encoding, whole_body
from edge.exchange import Call, RawHeaders
from schemas.contract import Json, Operation, Problem
from schemas.identity import oauth
from schemas.identity.oauth import (
    FIELD_CHARACTERS_MAX,
    FIELDS_MAX,
    AuthorizationRequest,
    ClientRefused,
    OAuthRefused,
)
from schemas.principal import permissions
from schemas.problems import Malformed, TooLarge, Unauthenticated, UnsupportedMediaType

FORM = "application/x-www-form-urlencoded"
FORM_BYTES_MAX = 16 * 1024
AUTHORIZE, TOKEN = "/oauth/authorize", "/oauth/token"
REVOKE, INTROSPECT = "/oauth/revoke", "/oauth/introspect"
SIGN_IN, CONSENT = "/sign-in", "/consent"
KNOWN = tuple(AuthorizationRequest.model_fields)
NO_STORE: RawHeaders = [*answers.JSON, (b"pragma", b"no-cache")]
PROVES: RawHeaders = [(b"www-authenticate", b'Basic realm="story-portal"')]
SEE_OTHER = 303


async def go_to(call: Call, location: str) -> None:
    """Send the browser elsewhere."""
    await answers.bodiless(call.send, SEE_OTHER, [(b"location", location.encode("ascii"))])


class AuthorizeDoor:
    """`GET /oauth/authorize`: where a client sends people to."""

    name = "identity.authorization"
    may: str | None = None
    open = False
    public = True

    def __init__(self, asking: Asking, authentication: Authentication) -> None:
        self._asking, self._authentication = asking, authentication

    async def answer(self, call: Call) -> None:
        """To the sign-in, to the consent page, or back to the client."""
        query = urlencode(asked(call.scope["query_string"]))
        try:
            call.known = await self._authentication.of_request(call.exchange)
        except Unauthenticated:
            await go_to(call, f"{SIGN_IN}?next={quote(f'{AUTHORIZE}?{query}', safe='')}")
            return
        await go_to(call, await self._refused(call) or f"{CONSENT}?{query}")

    async def _refused(self, call: Call) -> str | None:
        """Where to send somebody with a request that is wrong; None if the page tells it."""
        body = orjson.dumps(dict(asked(call.scope["query_string"])))
        try:
            await self._asking.ask(call, oauth.authorization, body)
        except OAuthRefused as refused:
            location: str | None = refused.details.get("location")
            return location
        except Problem as other:
            if other.status >= 500:  # noqa: PLR2004 - nothing that the page could explain
                raise
        return None


def asked(query: bytes) -> list[tuple[str, str]]:
    """The parameters of an authorization request; others are ignored, as RFC 6749 demands.

    Raises:
        Malformed: One of them stands there twice.
    """
    found = [(name, value) for name, value in parameters(query) if name in KNOWN]
    if len({name for name, _ in found}) != len(found):
        raise Malformed("A parameter stands there twice.")
    return found


class FormDoor:
    """A door that takes a form and answers as the RFCs say."""

    may: str | None = None
    open = False
    public = True

    def __init__(self, operation: Operation[Any, Any], asking: Asking) -> None:
        self.name = operation.name
        self._operation, self._asking = operation, asking

    async def answer(self, call: Call) -> None:
        """Read, ask, answer; problems of OAuth become its errors."""
        try:
            body = await command_of(call)
            answer = await self._asking.ask(call, self._operation, body)
        except (OAuthRefused, ClientRefused) as refused:
            proves = PROVES if isinstance(refused, ClientRefused) else []
            error = {"error": refused.details.get("error", "invalid_request")}
            error["error_description"] = refused.message
            await self._reply(call, refused.status, error, proves)
        except Malformed as malformed:
            error = {"error": "invalid_request", "error_description": malformed.message}
            await self._reply(call, malformed.status, error, [])
        else:
            await self._reply(call, 200, self.shown(orjson.loads(answer.body)), [])

    def shown(self, reply: Json) -> Json:
        """What the client sees of a reply."""
        return {name: value for name, value in reply.items() if value is not None}

    async def _reply(self, call: Call, status: int, body: Json, more: RawHeaders) -> None:
        await answers.reply(call.send, status, orjson.dumps(body), [*NO_STORE, *more])


class RevokeDoor(FormDoor):
    """`POST /oauth/revoke`: whether there was something to end is not told."""

    def shown(self, _: Json) -> Json:
        """Nothing."""
        return {}


async def command_of(call: Call) -> bytes:
    """A form and the `Authorization` header as the command of an operation.

    Raises:
        UnsupportedMediaType: It is not a form.
        Malformed: A field stands there twice or is too long, or there are too many.
    """
    media_type = (call.exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != FORM:
        raise UnsupportedMediaType(f"Send {FORM}.", content_type=media_type[:80])
    require_no_encoding(call)
    pairs = parameters(await whole_body(call, FORM_BYTES_MAX))
    form = dict(pairs)
    header = call.exchange.header(b"authorization")
    if len(form) != len(pairs):
        raise Malformed("A field stands there twice.")
    if len(form) > FIELDS_MAX or "" in form:
        raise Malformed("The form has too many fields, or one without a name.")
    if any(len(text) > FIELD_CHARACTERS_MAX for text in [*form, *form.values(), header or ""]):
        raise TooLarge("A field is too long.")
    return orjson.dumps({"form": form, "authorization": header})


def server_metadata(issuer: str) -> Json:
    """The authorization server, for clients (RFC 8414)."""
    with_secret = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "authorization_endpoint": issuer + AUTHORIZE,
        "token_endpoint": issuer + TOKEN,
        "revocation_endpoint": issuer + REVOKE,
        "introspection_endpoint": issuer + INTROSPECT,
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "service_documentation": f"{issuer}/docs",
        "scopes_supported": list(permissions()),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*with_secret, "none"],
        "revocation_endpoint_auth_methods_supported": [*with_secret, "none"],
        "introspection_endpoint_auth_methods_supported": with_secret,
        "authorization_response_iss_parameter_supported": True,
    }


def resource_metadata(issuer: str) -> Json:
    """The interface that the tokens open (RFC 9728)."""
    return {
        "resource": issuer,
        "resource_name": "Story Portal",
        "authorization_servers": [issuer],
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "scopes_supported": list(permissions()),
        "bearer_methods_supported": ["header"],
        "resource_documentation": f"{issuer}/docs",
    }
