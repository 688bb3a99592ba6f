"""Access tokens (RFC 9068) and refresh tokens.

The successor of a refresh token is computed from it with a key of this installation: of two that
are exchanged in the same moment, both get the same successor, and none has to be stored.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bus import accesstokens, credentials
from bus.accesstokens import AUDIENCE
from bus.context import Context
from bus.credentials import Credential
from schemas.identity.sessions import ACCESS_S, Session
from schemas.principal import RunRights
from schemas.problems import Expired, Forged

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
    return accesstokens.written(claims, kid, private)


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
    return accesstokens.written(claims, kid, private)


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
        public = keys[accesstokens.key_id_in(text)]
        return accesstokens.claims_of(text, accesstokens.public_key(public), issuer)
    except (KeyError, Expired, Forged):
        return None
