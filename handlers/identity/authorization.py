"""The rules of OAuth 2, as Authlib knows them, over what was read before.

    read what the request names  ->  Authlib decides, without waiting  ->  write what it decided

Authlib's grants ask their server for clients and codes and tell it what to save. This server
answers from memory and remembers what it was told; the operation around it reads and writes, in
one transaction. Nothing here touches the database, and no thread is needed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    AuthorizationCodeMixin,
    AuthorizationServer,
    ClientMixin,
    OAuth2Request,
    TokenMixin,
)
from authlib.oauth2.rfc6749.errors import InvalidRequestError, InvalidScopeError
from authlib.oauth2.rfc6749.grants import (
    AuthorizationCodeGrant,
    ClientCredentialsGrant,
    RefreshTokenGrant,
)
from authlib.oauth2.rfc6749.requests import BasicOAuth2Payload
from authlib.oauth2.rfc7636 import CodeChallenge
from authlib.oauth2.rfc9207 import IssuerParameter

from bus.credentials import read_credential, same_secret
from handlers.identity.rules import clients as rules
from schemas.identity.clients import OAuthClient
from schemas.identity.oauth import ClientRefused, OAuthRefused
from schemas.identity.sessions import Session
from schemas.principal import permissions
from schemas.problems import Unauthenticated

WITH_SECRET = ["client_secret_basic", "client_secret_post"]
METHODS = [*WITH_SECRET, "none"]
OK = 200


class Request(OAuth2Request):  # type: ignore[misc]
    """A form, or the parameters of an address."""

    def __init__(
        self, method: str, uri: str, fields: Mapping[str, str], authorization: str | None = None
    ) -> None:
        super().__init__(method, uri, headers={"Authorization": authorization or ""})
        self.payload = BasicOAuth2Payload(dict(fields))

    @property
    def form(self) -> dict[str, str]:
        """What was sent."""
        fields: dict[str, str] = self.payload.data
        return fields


class Client(ClientMixin):  # type: ignore[misc]
    """A client as Authlib asks for it: its secrets, and the rights of the person it acts for."""

    def __init__(
        self,
        entity: OAuthClient,
        secrets: Sequence[tuple[str, str]] = (),
        within: Iterable[str] | None = None,
    ) -> None:
        self.entity, self._secrets = entity, secrets
        self._within = None if within is None else frozenset(within)

    def get_client_id(self) -> str:
        """Its id."""
        return self.entity.id

    def get_default_redirect_uri(self) -> str | None:
        """The address of a request that names none; only if there is just one."""
        uris = self.entity.redirect_uris
        return uris[0] if len(uris) == 1 else None

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """What of it may be given; None for nothing."""
        return rules.allowed(self.entity, scope, self._within)

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Whether people may be sent there."""
        return rules.comes_back_to(self.entity, redirect_uri)

    def check_client_secret(self, client_secret: str) -> bool:
        """Whether it is one of those that are good now."""
        try:
            prefix, secret = read_credential("client", client_secret)
        except Unauthenticated:
            return False
        return any(
            same_secret(secret, secret_hash)
            for name, secret_hash in self._secrets
            if name == prefix
        )

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """A confidential client proves itself, a public one has nothing to show."""
        return (method in WITH_SECRET) if self.entity.confidential else (method == "none")

    def check_response_type(self, response_type: str) -> bool:
        """Whether it may send people to us."""
        return response_type == "code" and "authorization_code" in self.entity.grants

    def check_grant_type(self, grant_type: str) -> bool:
        """Whether it was registered for that."""
        return grant_type in self.entity.grants


@dataclass
class Code(AuthorizationCodeMixin):  # type: ignore[misc]
    """An authorization code that is still good."""

    client_id: str
    user_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    code_challenge: str
    code_challenge_method: str = "S256"

    def get_redirect_uri(self) -> str:
        """Where it was sent."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """What was allowed."""
        return " ".join(self.scopes)


@dataclass
class Token(TokenMixin):  # type: ignore[misc]
    """A token of a session that is still good."""

    session: Session
    type: str
    scopes: tuple[str, ...]
    expires_at: int

    def check_client(self, client: Client) -> bool:
        """Whether it is that client's."""
        return self.session.client_id == client.entity.id

    def get_scope(self) -> str:
        """What it allows."""
        return " ".join(self.scopes)

    def is_expired(self) -> bool:
        """What has expired is not found."""
        return False

    def is_revoked(self) -> bool:
        """Nor is what was revoked."""
        return False


@dataclass
class Answer:
    """What Authlib would send."""

    status: int
    body: Any
    location: str | None


@dataclass(frozen=True)
class Granted:
    """The token that Authlib has decided to give."""

    grant_type: str
    scopes: tuple[str, ...]
    refresh: bool


class OnlyS256(CodeChallenge):  # type: ignore[misc]
    """PKCE, always and never in its plain form: nothing to downgrade to."""

    SUPPORTED_CODE_CHALLENGE_METHOD = ["S256"]

    def validate_code_challenge(self, grant: Any, redirect_uri: str) -> None:
        """Refuse an authorization request without a hashed challenge."""
        fields = grant.request.payload.data
        if not fields.get("code_challenge"):
            raise InvalidRequestError("Missing 'code_challenge'")
        if fields.get("code_challenge_method") != "S256":
            raise InvalidRequestError("Unsupported 'code_challenge_method'")
        super().validate_code_challenge(grant, redirect_uri)


class ByCode(AuthorizationCodeGrant):  # type: ignore[misc]
    """A person allows, a code comes back, and is exchanged."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS

    def save_authorization_code(self, code: str, request: Request) -> None:
        """Remember what is to be stored."""
        self.server.made_code = code

    def query_authorization_code(self, code: str, client: Client) -> Code | None:
        """The code that was read, if it is that client's."""
        found: Code | None = self.server.code
        return found if found is not None and found.client_id == client.entity.id else None

    def delete_authorization_code(self, authorization_code: Code) -> None:
        """It is marked as used when the token is written: a second use must be seen."""

    def authenticate_user(self, authorization_code: Code) -> str | None:
        """Whose it is, if the account is still open."""
        return authorization_code.user_id if self.server.user_is_active else None


class ByRefresh(RefreshTokenGrant):  # type: ignore[misc]
    """The next access token of a session, and its next refresh token."""

    TOKEN_ENDPOINT_AUTH_METHODS = METHODS
    INCLUDE_NEW_REFRESH_TOKEN = True

    def authenticate_refresh_token(self, refresh_token: str) -> Token | None:
        """The one that was read."""
        found: Token | None = self.server.refreshed
        return found

    def authenticate_user(self, refresh_token: Token) -> str | None:
        """Whose it is, if the account is still open."""
        return refresh_token.session.owner_id if self.server.user_is_active else None

    def revoke_old_credential(self, refresh_token: Token) -> None:
        """It was used up when it was read."""


class ForItself(ClientCredentialsGrant):  # type: ignore[misc]
    """A token of the client's own."""

    TOKEN_ENDPOINT_AUTH_METHODS = WITH_SECRET

    def validate_requested_scope(self) -> None:
        """Refuse what is beyond the client's own scopes."""
        super().validate_requested_scope()
        asked = (self.request.payload.scope or "").split()
        if not set(asked) <= set(self.request.client.entity.scopes):
            raise InvalidScopeError


class Issuer(IssuerParameter):  # type: ignore[misc]
    """Every answer to a client says who answers (RFC 9207)."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    def get_issuer(self) -> str:
        """We."""
        return self._issuer


class Server(AuthorizationServer):  # type: ignore[misc]
    """Authlib's server for one request."""

    def __init__(self, issuer: str, client: Client | None) -> None:
        super().__init__(scopes_supported=permissions())
        self.client = client
        self.code: Code | None = None
        self.refreshed: Token | None = None
        self.user_is_active = False
        self.made_code: str | None = None
        self.granted: Granted | None = None
        self.register_grant(ByCode, [OnlyS256(required=True)])
        self.register_grant(ByRefresh)
        self.register_grant(ForItself)
        self.register_extension(Issuer(issuer))

    def query_client(self, client_id: str) -> Client | None:
        """The client that was read, by whichever field names it."""
        return self.client if self.client and self.client.entity.id == client_id else None

    def generate_token(
        self,
        grant_type: str,
        client: Client,
        user: str | None = None,
        scope: str | None = None,
        expires_in: int | None = None,
        include_refresh_token: bool = True,
    ) -> dict[str, str]:
        """Remember what to make; it is made when the session is written."""
        scopes = tuple(scope.split()) if scope else client.entity.scopes
        self.granted = Granted(grant_type, scopes, include_refresh_token)
        return {}

    def save_token(self, token: object, request: Request) -> None:
        """It is written by the operation."""

    def send_signal(self, name: str, *_: object, **__: object) -> None:
        """Nobody listens."""

    def create_oauth2_request(self, request: Request) -> Request:
        """It is one."""
        return request

    def handle_response(self, status: int, body: Any, headers: Iterable[tuple[str, str]]) -> Answer:
        """Keep it for the operation."""
        return Answer(status, body, dict(headers).get("Location"))

    def refusal(self, request: Request, error: OAuth2Error) -> OAuthRefused | ClientRefused:
        """An error as a problem, with where to send a browser if that is safe."""
        error.state = request.payload.state
        answer = self.handle_error_response(request, error)
        self.execute_hook("after_create_authorization_response", answer)
        return refusal(error.error, error.description, answer.location)


def refusal(
    error: str, description: str | None, location: str | None = None
) -> OAuthRefused | ClientRefused:
    """The problem with the fields of RFC 6749 5.2."""
    details = {"error": error, "error_description": description or "", "location": location}
    details = {name: value for name, value in details.items() if value}
    if error == "invalid_client" and location is None:
        return ClientRefused(description or None, **details)
    return OAuthRefused(description or None, **details)


def in_answer(answer: Answer) -> OAuthRefused | ClientRefused:
    """The problem that Authlib would answer with."""
    return refusal(answer.body["error"], answer.body.get("error_description"))
