"""Access tokens (RFC 9068) and refresh tokens.

The successor of a refresh token is computed from it with a key of this installation: of two that
are exchanged in the same moment, both get the same successor, and none has to be stored.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.utils import base64url_decode

from bus import credentials
from bus.context import Context
from bus.credentials import Credential
from schemas.identity.sessions import ACCESS_S, Session
from schemas.principal import RunRights

AUDIENCE = "story-portal"
TYPE = "at+jwt"
PURPOSE = "identity.refresh_tokens"


def access_token(session: Session, kid: str, private: bytes, issuer: str, ctx: Context) -> str:
    """A signed token of an hour, or until the session ends."""
    at = ctx.now()
    issued = int(at.timestamp())
    claims = {
        "iss": issuer, "aud": AUDIENCE, "sub": session.owner_id, "sid": session.id,
        "client_id": session.client_id or AUDIENCE, "scope": " ".join(session.scopes),
        "iat": issued, "nbf": issued, "exp": issued + lives_s(session, at), "jti": ctx.new_id(),
    }  # fmt: skip
    return jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": kid, "typ": TYPE})


def run_token(
    session: Session, run: RunRights, agent_id: str, kid: str, private: bytes, ctx: Context
) -> str:
    """A signed token for an agent's run, good until the rights end."""
    issued = int(ctx.now().timestamp())
    claims = {
        "iss": ctx.settings.public_url, "aud": AUDIENCE, "sub": session.owner_id,
        "sid": session.id, "client_id": AUDIENCE, "scope": " ".join(session.scopes),
        "iat": issued, "nbf": issued, "exp": run.until, "jti": ctx.new_id(),
        "act": {"run": run.run_id, "agent": agent_id}, "tools": run.tools, "tokens": run.tokens,
    }  # fmt: skip
    return jwt.encode(claims, private, algorithm="EdDSA", headers={"kid": kid, "typ": TYPE})


def lives_s(session: Session, at: datetime) -> int:
    """How long an access token of this session is good."""
    return min(ACCESS_S, int((session.expires_at - at).total_seconds()))


def successor(secret: str, ctx: Context) -> Credential:
    """The refresh token that follows the one with this secret."""
    digest = hmac.digest(ctx.platform.sealer.derive(PURPOSE), secret.encode(), hashlib.sha512)
    return credentials.of_bytes("refresh", digest)


def read_access_token(text: str, keys: Mapping[str, str], issuer: str) -> dict[str, Any] | None:
    """The claims of an access token of ours that has not expired; None for anything else.

    Args:
        text: The token.
        keys: Public halves by key id, as the key set shows them.
        issuer: Who must have given it.
    """
    try:
        header = jwt.get_unverified_header(text)
        public = keys.get(str(header.get("kid")))
        if public is None or header.get("typ") != TYPE:
            return None
        key = Ed25519PublicKey.from_public_bytes(base64url_decode(public))
        claims: dict[str, Any] = jwt.decode(
            text, key, algorithms=["EdDSA"], audience=AUDIENCE, issuer=issuer,
            options={"require": ["exp", "iat", "sid", "sub", "client_id"]},
        )  # fmt: skip
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        return None
    return claims
