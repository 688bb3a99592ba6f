"""The permission table of one process: roles, and all grants as they are now.

Grants are read from identity when the process starts, and again at every event about one; each
half minute they are read anyway, should an event have been missed. Until they are known nothing
is decided: the answer is 503, neither yes nor no.
"""

import asyncio
from collections.abc import Callable

from nats.aio.msg import Msg

from bus import telemetry
from bus.background import forever
from bus.client import Client, for_itself, headers_of, read, request
from bus.clock import Clock
from bus.credentials import Signer
from schemas.contract import KNOWN, Problem
from schemas.identity import principals
from schemas.identity.grants import GrantGiven, GrantWithdrawn
from schemas.identity.principals import ListRules, Rules
from schemas.policy import PLAIN, Policy, Reach, Rule
from schemas.principal import Principal
from schemas.problems import Unavailable

READ_EVERY_S = 30.0
RETRY_S = 0.25
ASK_S = 3.0
EVENTS = (GrantGiven, GrantWithdrawn)


class Rights:
    """Decides for one process."""

    def __init__(self, client: Client, signer: Signer, clock: Clock, process: str) -> None:
        self._client, self._signer, self._clock = client, signer, clock
        self._principal = Principal(id=process, kind="service")
        self._policy: Policy | None = None
        self._stale = asyncio.Event()
        self._failing = False
        self._told: list[Callable[[], None]] = []

    async def ready(self) -> None:
        """Return if decisions can be made.

        Raises:
            Unavailable: Not yet.
        """
        _ = self.policy

    @property
    def policy(self) -> Policy:
        """All grants.

        Raises:
            Unavailable: They are not known yet.
        """
        if self._policy is None:
            raise Unavailable("Grants are not known yet.", retry_after_s=1)
        return self._policy

    def reach(self, principal: Principal, permission: str | None) -> Reach:
        """How far a permission goes; services act under their roles alone.

        Raises:
            Unavailable: Grants are not known yet.
        """
        if principal.kind == "service" or permission in (None, KNOWN):
            return PLAIN[principal.scope_of(permission)]
        return self.policy.reach(principal, permission)

    def on_change(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever grants were read again because one has changed."""
        self._told.append(tell)

    async def follow(self) -> "asyncio.Task[None]":
        """Hear of changes from now on; returns the task that reads them.

        Grants are there when this returns, unless identity does not answer.
        """
        for kind in EVENTS:
            await self._client.connection.subscribe(f"{kind.subject_root()}.*", cb=self._heard)
        await self.learn()
        return asyncio.create_task(forever("grants", self._keep, 0))

    async def learn(self) -> None:
        """Read them unless they are known; when identity does not answer they are read later."""
        if self._policy is not None:
            return
        try:
            await self._read()
        except Problem as unknown:
            telemetry.log().info("grants are not known yet", error=str(unknown))
            self._stale.set()

    async def _heard(self, _: Msg) -> None:
        self._stale.set()

    async def _keep(self) -> None:
        """Wait for a change, or half a minute, and read."""
        try:
            async with asyncio.timeout(READ_EVERY_S):
                await self._stale.wait()
        except TimeoutError:
            pass
        changed = self._stale.is_set()
        self._stale.clear()
        try:
            await self._read()
        except Problem as unknown:
            self._stale.set()
            if not self._failing:
                telemetry.log().warning("grants cannot be read", error=str(unknown))
            self._failing = True
            await asyncio.sleep(RETRY_S)
            return
        self._failing = False
        if changed:
            for tell in self._told:
                tell()

    async def _read(self) -> None:
        rules: list[Rule] = []
        after: str | None = None
        while True:
            page = await self._page(ListRules(after=after))
            rules += page.items
            after = page.next
            if after is None:
                break
        self._policy = Policy(rules)

    async def _page(self, command: ListRules) -> Rules:
        """Ask once, past the circuit breaker: what waits for identity must notice it at once."""
        ask = for_itself(self._principal, self._signer, self._clock)
        headers = headers_of(ask, self._clock.unix_ms() + int(ASK_S * 1000))
        body = command.model_dump_json().encode()
        connection, subject = self._client.connection, principals.rules.subject
        answer = read(await request(connection, subject, body, headers, ASK_S))
        return Rules.model_validate_json(answer.body)
