"""Who asks: a credential becomes a principal, once, and is remembered for half a minute.

Only a hash of it is kept. What identity refused is remembered for a few seconds, so that guessing
costs the guesser's own limit and not the bus. An event about a user, key or session forgets what
was known of its owner. When identity cannot be asked the answer is 503: an unknown state is never
"no".
"""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from bus import telemetry
from bus.client import Client, for_itself
from bus.clock import Clock
from bus.credentials import Signer, hash_secret, read_credential
from edge.accesstokens import AccessTokens
from edge.exchange import Exchange
from edge.limits import Limiter
from edge.showing import Shown, require_own_site, shown
from schemas.contract import Operation, Problem, Schema
from schemas.identity import principals
from schemas.identity.principals import Resolved, ResolveKey, ResolveSession, ResolveToken
from schemas.principal import EDGE, Principal
from schemas.problems import Expired, Forged, TooManyRequests, Unauthenticated

KNOWN_S = 30.0
REFUSED_S = 5.0
ASK_AGAIN_S = 1.0
CACHE_MAX = 4096
BLOCKED_MAX = 4096
REFUSALS = (Unauthenticated, Expired, Forged)


@dataclass(frozen=True, slots=True)
class Known:
    """What identity said about a credential; None is a refusal."""

    principal: Principal | None
    until: float


class Authentication:
    """Turns credentials into principals."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        signer: Signer,
        limiter: Limiter,
        tokens: AccessTokens,
        origins: Collection[str],
    ) -> None:
        self._client, self._clock, self._signer, self._limiter = client, clock, signer, limiter
        self._tokens, self._origins = tokens, origins
        self._known: OrderedDict[bytes, Known] = OrderedDict()
        self._epoch = 0
        self._changed = asyncio.Event()
        self._asking: dict[bytes, asyncio.Task[Principal | None]] = {}
        self._blocked: OrderedDict[str, tuple[float, TooManyRequests]] = OrderedDict()

    async def of_request(self, exchange: Exchange) -> Principal:
        """The principal of a request.

        Raises:
            Unauthenticated: No credential, or not one of ours.
            CrossSite: A browser's session, used by a page that is not ours.
            TooManyRequests: This address has failed too often.
            Unavailable, TimedOut: Identity cannot be asked.
        """
        credential = shown(exchange)
        if credential is not None:
            require_own_site(exchange, credential, self._origins)
            known = self._remembered(digest_of(credential))
            if known is not None and known.principal is not None:
                if credential.kind == "token":
                    await self._tokens.verify(credential.text)  # from its own memory, if it has one
                return known.principal
        if credential is None or not self._was_good(credential):
            self._refuse_blocked(exchange.address)
        principal = await self.of_shown(credential) if credential else None
        if principal is None:
            await self._charge(exchange.address)
            raise Unauthenticated
        return principal

    async def of_shown(self, credential: Shown) -> Principal | None:
        """Whom a credential stands for, from memory or from identity; None for nobody."""
        digest = digest_of(credential)
        known = self._remembered(digest)
        if known is not None:
            return known.principal
        if digest not in self._asking:
            task = asyncio.create_task(self._resolve(digest, credential))
            self._asking[digest] = task
            task.add_done_callback(lambda _: self._asking.pop(digest, None))
        return await asyncio.shield(self._asking[digest])

    def forget(self, owner_id: str | None = None) -> None:
        """Rights of an owner, or of anybody, have changed: ask again, answers under way too.

        Who was known may still ask from an address that is blocked for others' guessing.
        """
        for digest, known in tuple(self._known.items()):
            if owner_id is None or touches(known.principal, owner_id):
                self._known[digest] = Known(known.principal, 0.0)
        self._epoch += 1
        self.tell_changed()

    def tell_changed(self) -> None:
        """Who waits for a change looks again."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until something about identities has changed."""
        await self._changed.wait()

    async def lost(self, exchange: Exchange, still: Callable[[Principal], bool]) -> None:
        """Wait until the request's credential stands for nobody, or for one who may not `still`."""
        credential = shown(exchange)
        while credential is not None:
            await self.changed()
            principal = await self._standing_for(credential)
            if principal is None or not still(principal):
                return

    async def _standing_for(self, credential: Shown) -> Principal | None:
        """Whom it stands for, asked until there is an answer: silence is not a no."""
        while True:
            try:
                return await self.of_shown(credential)
            except Problem as unknown:
                telemetry.log().warning("rights are not known", error=str(unknown))
                await asyncio.sleep(ASK_AGAIN_S)

    def _remembered(self, digest: bytes) -> Known | None:
        known = self._known.get(digest)
        return known if known and known.until > time.monotonic() else None

    def _was_good(self, credential: Shown) -> bool:
        known = self._known.get(digest_of(credential))
        return known is not None and known.principal is not None

    async def _resolve(self, digest: bytes, credential: Shown) -> Principal | None:
        """Ask identity; again when something has changed before its answer came."""
        while True:
            epoch = self._epoch
            try:
                resolved, left_s = await self._ask_about(credential)
            except REFUSALS:
                principal, left_s = None, REFUSED_S
            else:
                principal = resolved.principal
            if epoch == self._epoch:
                self._remember(digest, principal, left_s)
                return principal

    async def _ask_about(self, credential: Shown) -> tuple[Resolved, float]:
        """Whom identity names, and for how long that may be remembered."""
        left_s = KNOWN_S
        if credential.kind == "token":
            token = await self._tokens.verify(credential.text)
            left_s = min(left_s, token.expires_at - time.time())
            command = ResolveToken(session_id=token.session_id, scopes=token.scopes, run=token.run)
            resolved = await self._ask(principals.resolve_token, command)
        else:
            prefix, secret = read_credential(credential.kind, credential.text)
            if credential.kind == "key":
                key = ResolveKey(prefix=prefix, secret_hash=hash_secret(secret))
                resolved = await self._ask(principals.resolve_key, key)
            else:
                cookie = ResolveSession(prefix=prefix, secret_hash=hash_secret(secret))
                resolved = await self._ask(principals.resolve_session, cookie)
        if resolved.until is not None:
            left_s = min(left_s, (resolved.until - self._clock.now()).total_seconds())
        return resolved, left_s

    async def _ask(self, operation: Operation[Any, Resolved], command: Schema) -> Resolved:
        ask = for_itself(EDGE, self._signer, self._clock)
        return await self._client.ask(operation, command, ask)

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


def touches(known: Principal | None, owner_id: str) -> bool:
    """Whether a change of an owner may concern a credential; a client's owner is not known here."""
    return known is None or known.id == owner_id or known.kind == "client"


def digest_of(credential: Shown) -> bytes:
    """Under which a credential is remembered; a cookie's text elsewhere is another one."""
    return hashlib.sha256(f"{credential.kind} {credential.text}".encode()).digest()
