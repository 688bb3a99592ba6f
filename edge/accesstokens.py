"""Access tokens: verified here with the public keys of the platform, and remembered.

Only a `kid` of our own set is known. What was verified is remembered under the hash of its text
until it expires, at most `cache` of them, and never longer than its key verifies; a change of the
key set forgets all. Whether a verified token's session is still good is asked of identity
(`authentication.py`).
"""

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from bus.accesstokens import claims_of, key_id_in, public_key
from bus.client import Client, for_itself
from bus.clock import Clock
from bus.credentials import Signer
from schemas.identity import signing
from schemas.identity.signing import GetKeySet, PublicKey
from schemas.principal import EDGE, RunRights
from schemas.problems import Expired, Forged

READ_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Verified:
    """What a good token says."""

    session_id: str
    scopes: tuple[str, ...]
    expires_at: float
    run: RunRights | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the set, and when it ends: whoever has it then may sign what he likes."""

    public: Ed25519PublicKey
    until: float


class AccessTokens:
    """Verifies the tokens that one edge process is shown."""

    def __init__(
        self, client: Client, clock: Clock, signer: Signer, issuer: str, cache: int
    ) -> None:
        self._client, self._clock, self._signer = client, clock, signer
        self._issuer, self._cache = issuer, cache
        self._keys: dict[str, Key] = {}
        self._epoch = 0
        self._read_at = -READ_AGAIN_S
        self._reading = asyncio.Lock()
        self._seen: OrderedDict[bytes, Verified] = OrderedDict()

    def forget_keys(self) -> None:
        """The key set has changed: verify everything anew."""
        self._seen.clear()
        self._keys.clear()
        self._epoch += 1
        self._read_at = -READ_AGAIN_S

    async def verify(self, text: str) -> Verified:
        """What the token says.

        Raises:
            Expired: It was good once.
            Forged: It is not a token of ours.
            Unavailable, TimedOut: The key set cannot be read.
        """
        digest = hashlib.sha256(text.encode()).digest()
        found = self._seen.get(digest)
        if found is None:
            key = await self._key_of(text)
            found = verified(claims_of(text, key.public, self._issuer))
            found = replace(found, expires_at=min(found.expires_at, key.until))
            if self._cache:
                self._seen[digest] = found
                if len(self._seen) > self._cache:
                    self._seen.popitem(last=False)
        if found.expires_at <= time.time():
            self._seen.pop(digest, None)
            raise Expired
        return found

    async def _key_of(self, text: str) -> Key:
        """The key that the token's header names."""
        kid = key_id_in(text)
        if kid not in self._keys:
            async with self._reading:
                if kid not in self._keys and time.monotonic() - self._read_at >= READ_AGAIN_S:
                    await self._read_keys()
        key = self._keys.get(kid)
        if key is None:
            raise Forged
        return key

    async def _read_keys(self) -> None:
        """Ask identity; again when the set has changed before its answer came."""
        while True:
            epoch = self._epoch
            ask = for_itself(EDGE, self._signer, self._clock)
            found = await self._client.ask(signing.key_set, GetKeySet(), ask)
            if epoch == self._epoch:
                self._keys = {key.kid: key_of(key) for key in found.keys}
                self._read_at = time.monotonic()
                return


def key_of(published: PublicKey) -> Key:
    """A published key, ready to verify."""
    return Key(public_key(published.x), math.inf if published.exp is None else published.exp)


def verified(claims: Mapping[str, Any]) -> Verified:
    """What the claims of a good token say.

    Raises:
        Forged: They are not of our form.
    """
    try:
        scopes = tuple(str(claims["scope"]).split())
        return Verified(claims["sid"], scopes, float(claims["exp"]), run_in(claims))
    except (KeyError, TypeError, ValueError):
        raise Forged from None


def run_in(claims: Mapping[str, Any]) -> RunRights | None:
    """The agent's run that a token is for, which ends with the token at the latest.

    Raises:
        KeyError, TypeError, ValueError: It is not of the form.
    """
    if "act" not in claims:
        return None
    return RunRights(
        run_id=claims["act"]["run"],
        tools=tuple(claims["tools"]),
        tokens=claims["tokens"],
        until=int(claims["exp"]),
    )
