"""Who asks: an API key becomes a principal, once, and is remembered for half a minute.

Only a hash of the key is kept. A key that identity refused is remembered for a few seconds, so
that guessing costs the guesser's own limit and not the bus. When identity cannot be asked the
answer is 503: an unknown state is never "no".
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass

from bus import telemetry
from bus.client import Ask, Client
from bus.clock import Clock
from bus.credentials import Signer, hash_secret, read_api_key
from bus.envelope import Origin
from edge.exchange import Exchange
from edge.limits import Limiter
from schemas import identity
from schemas.contract import Problem
from schemas.identity import ResolveKey
from schemas.principal import Principal
from schemas.problems import TooManyRequests, Unauthenticated

KNOWN_S = 30.0
REFUSED_S = 5.0
ASK_AGAIN_S = 1.0
CACHE_MAX = 4096
KEY_BYTES_MAX = 200
BLOCKED_MAX = 4096
EDGE = Principal(id="edge", kind="service")


@dataclass(frozen=True, slots=True)
class Known:
    """What identity said about a key; None is a refusal."""

    principal: Principal | None
    until: float


class Authentication:
    """Turns credentials into principals."""

    def __init__(self, client: Client, clock: Clock, signer: Signer, limiter: Limiter) -> None:
        self._client, self._clock, self._signer, self._limiter = client, clock, signer, limiter
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._epoch = 0
        self._changed = asyncio.Event()
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._blocked: OrderedDict[str, tuple[float, TooManyRequests]] = OrderedDict()

    async def of_request(self, exchange: Exchange) -> Principal:
        """The principal of a request.

        Raises:
            Unauthenticated: No key, or not one of ours.
            TooManyRequests: This address has failed too often.
            Unavailable, TimedOut: Identity cannot be asked.
        """
        text = credential(exchange)
        known = self._remembered(text) if text else None
        if known is not None and known.principal is not None:
            return known.principal
        self._refuse_blocked(exchange.address)
        principal = None if known or not text else await self.of_key(text)
        if principal is None:
            await self._charge(exchange.address)
            raise Unauthenticated
        return principal

    async def of_key(self, text: str) -> Principal | None:
        """Whom a key stands for, from memory or from identity; None for nobody."""
        known = self._remembered(text)
        if known is not None:
            return known.principal
        try:
            prefix, secret = read_api_key(text)
        except Unauthenticated:
            return None
        digest = digest_of(text)
        if digest not in self._asking:
            task = asyncio.create_task(self._resolve(digest, prefix, hash_secret(secret)))
            self._asking[digest] = task
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(self._asking[digest])

    def forget(self) -> None:
        """Something about identities has changed: ask again for each, answers under way too."""
        self._known.clear()
        self._epoch += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until something about identities has changed."""
        await self._changed.wait()

    async def lost(self, exchange: Exchange) -> None:
        """Wait until the request's credential is no longer good."""
        text = credential(exchange)
        good = text is not None
        while good and text is not None:
            await self.changed()
            good = await self._still_good(text)

    async def _still_good(self, text: str) -> bool:
        """Whether a key stands for anybody, asked until there is an answer: silence is not a no."""
        while True:
            try:
                return await self.of_key(text) is not None
            except Problem as unknown:
                telemetry.log().warning("rights are not known", error=str(unknown))
                await asyncio.sleep(ASK_AGAIN_S)

    def _remembered(self, text: str) -> Known | None:
        known = self._known.get(digest_of(text))
        return known if known and known.until > time.monotonic() else None

    async def _resolve(self, digest: bytes, prefix: str, secret_hash: str) -> Principal | None:
        origin = Origin(actor=EDGE.id, request_id=self._clock.new_id())
        command = ResolveKey(prefix=prefix, secret_hash=secret_hash)
        ask, epoch = Ask(self._signer.sign(EDGE), origin), self._epoch
        try:
            resolved = await self._client.ask(identity.resolve_key, command, ask)
        except Unauthenticated:
            if epoch == self._epoch:
                self._remember(digest, None, REFUSED_S)
            return None
        if epoch != self._epoch:
            return await self._resolve(digest, prefix, secret_hash)
        left_s = KNOWN_S
        if resolved.until is not None:
            left_s = min(KNOWN_S, (resolved.until - self._clock.now()).total_seconds())
        self._remember(digest, resolved.principal, left_s)
        return resolved.principal

    def _remember(self, digest: bytes, principal: Principal | None, life_s: float) -> None:
        self._known[digest] = Known(principal, time.monotonic() + life_s)
        self._known.move_to_end(digest)
        if len(self._known) > CACHE_MAX:
            self._known.popitem(last=False)

    def _refuse_blocked(self, address: str) -> None:
        until, problem = self._blocked.get(address, (0.0, None))
        if problem is not None and until > time.monotonic():
            raise problem

    async def _charge(self, address: str) -> None:
        """A failed attempt uses up one of the address's anonymous requests."""
        try:
            await self._limiter.admit(self._limiter.of_address(address))
        except TooManyRequests as problem:
            wait_s = float(problem.details["retry_after_s"])
            self._blocked[address] = (time.monotonic() + wait_s, problem)
            if len(self._blocked) > BLOCKED_MAX:
                self._blocked.popitem(last=False)
            raise


def digest_of(text: str) -> bytes:
    """Under which a key is remembered."""
    return hashlib.sha256(text.encode()).digest()


def credential(exchange: Exchange) -> str | None:
    """The key in `Authorization: Bearer …` or `X-Api-Key`; two different ones are none."""
    bearer, plain = exchange.header(b"authorization"), exchange.header(b"x-api-key")
    if bearer is not None:
        scheme, _, bearer = bearer.partition(" ")
        bearer = bearer.strip()
        if scheme.lower() != "bearer" or (plain is not None and plain != bearer):
            return None
    text = bearer or plain
    return text if text and len(text) <= KEY_BYTES_MAX else None
