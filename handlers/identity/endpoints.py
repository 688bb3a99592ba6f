"""Revocation (RFC 7009) and introspection (RFC 7662), decided by Authlib over one token."""

from typing import Any

from authlib.oauth2.rfc7009 import RevocationEndpoint
from authlib.oauth2.rfc7662 import IntrospectionEndpoint

from bus.accesstokens import AUDIENCE
from handlers.identity.authorization import METHODS, WITH_SECRET, Client, Request, Server, Token
from schemas.principal import Principal

SEES_ALL = "sessions:read"


class Revoking(RevocationEndpoint):  # type: ignore[misc]
    """A client gives a token back; the session ends with it."""

    CLIENT_AUTH_METHODS = METHODS

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        """The token that was read."""
        found: Token | None = self.server.token
        return found

    def revoke_token(self, token: Token, request: Request) -> None:
        """Remember whose session ends."""
        self.server.revoked = token


class Introspecting(IntrospectionEndpoint):  # type: ignore[misc]
    """A client asks about its own tokens; one that may see all sessions, about all."""

    CLIENT_AUTH_METHODS = WITH_SECRET

    def query_token(self, token_string: str, token_type_hint: str | None) -> Token | None:
        """The token that was read."""
        found: Token | None = self.server.token
        return found

    def check_permission(self, token: Token, client: Client, request: Request) -> bool:
        """Whether it may know."""
        entity = client.entity
        itself = Principal(id=entity.id, kind="client", roles=entity.roles, scopes=entity.scopes)
        return token.check_client(client) or itself.scope_of(SEES_ALL) == "all"

    def introspect_token(self, token: Token) -> dict[str, Any]:
        """What it is worth."""
        session = token.session
        return {
            "scope": token.get_scope(), "client_id": session.client_id or AUDIENCE,
            "username": self.server.username, "token_type": token.type,
            "exp": token.expires_at, "iat": int(session.created_at.timestamp()),
            "sub": session.owner_id, "aud": AUDIENCE, "iss": self.server.issuer,
        }  # fmt: skip


class AboutToken(Server):
    """The server of a request about one token."""

    def __init__(self, issuer: str, client: Client | None, token: Token | None) -> None:
        super().__init__(issuer, client)
        self.issuer, self.token = issuer, token
        self.revoked: Token | None = None
        self.username: str | None = None
        self.register_endpoint(Revoking)
        self.register_endpoint(Introspecting)
