"""What an access token of ours is (RFC 9068), and how one is read: the same for every reader.

Only EdDSA, only the header fields below, no claim that stands twice. Nothing in a token is ever
fetched. A token that reads well is not yet a principal: its session may have ended.
"""

import json
import re
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from jwt.utils import base64url_decode

from schemas.contract import ID
from schemas.problems import Expired, Forged

AUDIENCE = "story-portal"
TYPE = "at+jwt"
ALGORITHM = "EdDSA"
SKEW_S = 30
HEADER_FIELDS = {"alg", "typ", "kid"}
REQUIRED = ["iss", "aud", "sub", "sid", "iat", "nbf", "exp", "jti", "client_id", "scope"]


def written(claims: dict[str, Any], kid: str, private: bytes) -> str:
    """A token with these claims, signed."""
    return jwt.encode(claims, private, ALGORITHM, headers={"kid": kid, "typ": TYPE})


def public_key(x: str) -> Ed25519PublicKey:
    """A key of the key set, from its `x` (RFC 8037)."""
    return Ed25519PublicKey.from_public_bytes(base64url_decode(x))


def key_id_in(text: str) -> str:
    """The key that a token names, if its header is of our form and nothing more.

    Raises:
        Forged: It is not.
    """
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.InvalidTokenError, ValueError, RecursionError):
        raise Forged from None
    kid = header.get("kid")
    ours = header.get("alg") == ALGORITHM and header.get("typ") == TYPE
    if not ours or not isinstance(kid, str) or not set(header) <= HEADER_FIELDS:
        raise Forged
    return kid


def claims_of(text: str, key: Ed25519PublicKey, issuer: str) -> dict[str, Any]:
    """The claims of a token that this key has signed for this issuer.

    Raises:
        Expired: Only its time is over.
        Forged: Anything else is wrong.
    """
    try:
        claims: dict[str, Any] = jwt.decode(
            text, key, algorithms=[ALGORITHM], audience=AUDIENCE, issuer=issuer, leeway=SKEW_S,
            options={"require": REQUIRED, "strict_aud": True},
        )  # fmt: skip
        json.loads(base64url_decode(text.split(".")[1]), object_pairs_hook=without_doubles)
        over = float(claims["exp"]) <= time.time()  # clocks may differ about its begin, not its end
    except jwt.ExpiredSignatureError:
        raise Expired from None
    except (jwt.InvalidTokenError, KeyError, TypeError, ValueError, RecursionError):
        raise Forged from None
    if not isinstance(claims["sid"], str) or not re.fullmatch(ID, claims["sid"]):
        raise Forged
    if over:
        raise Expired
    return claims


def without_doubles(pairs: list[tuple[str, Any]]) -> None:
    """Refuse claims that say two things at once: another reader may believe the other one.

    Raises:
        Forged: A name stands twice.
    """
    if len(dict(pairs)) != len(pairs):
        raise Forged
