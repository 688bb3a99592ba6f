"""Access tokens that nobody was given, some of them signed with the platform's own key."""

import time
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bus.accesstokens import AUDIENCE, TYPE
from handlers.identity.signing import about
from schemas.identity.sessions import Session
from tests.conftest import look
from tests.security.world import World


@dataclass(frozen=True)
class SigningPair:
    """The key that signs now, as only the handlers have it."""

    kid: str
    private: Ed25519PrivateKey


async def signing_pair(world: World) -> SigningPair:
    """The key that signs now, opened as identity opens it."""
    return await pair_where(world, "signs_from <= now()")


async def newest_pair(world: World) -> SigningPair:
    """The newest key, though it may not sign yet."""
    return await pair_where(world, "true")


async def pair_where(world: World, condition: str) -> SigningPair:
    """The newest key of those for which a condition holds."""
    rows = await look(
        world.platform,
        "SELECT id, sealed FROM identity.signing_keys JOIN identity.signing_secrets USING (id)"
        f" WHERE {condition} ORDER BY signs_from DESC, id DESC LIMIT 1",
    )
    kid = str(rows[0]["id"])
    pem = world.platform.sealer.open_sealed(rows[0]["sealed"], about(kid))
    private = load_pem_private_key(pem, None)
    assert isinstance(private, Ed25519PrivateKey)
    return SigningPair(kid, private)


def claims_of(world: World, session: Session, **changed: Any) -> dict[str, Any]:
    """What a good token of this session says, but for what is changed; None leaves one out."""
    now = int(time.time())
    claims = {
        "iss": world.settings.public_url, "aud": AUDIENCE, "sub": session.owner_id,
        "sid": session.id, "client_id": AUDIENCE, "scope": "", "iat": now, "nbf": now,
        "exp": now + 3600, "jti": "jti",
    }  # fmt: skip
    return {name: value for name, value in (claims | changed).items() if value is not None}


def token_of(pair: SigningPair, claims: dict[str, Any], **header: Any) -> str:
    """A token that is rightly signed, whatever it says."""
    shown = {"kid": pair.kid, "typ": TYPE} | header
    return jwt.encode(claims, pair.private, algorithm="EdDSA", headers=shown)
