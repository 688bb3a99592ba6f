"""The bus's own door: `api.<credential id>.<domain>.<verb>`, for NATS programs of others.

    integrator ─api.<id>.agents.list─► account INTEGRATORS ─► edge ─req.agents.list, signed─► layer

The NATS server lets a credential publish only below its own id, so the subject says who asks and
nothing in the message does. From there on it is the way of every request: find the principal,
count it, authorise on the operation, ask. Body and reply are those of the operation; errors are
the problem's body with the headers of the NATS service protocol.
"""

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from typing import Any

import orjson
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from bus import envelope, subjects, telemetry
from bus.audit import Auditor, refused
from bus.broker import Workers
from bus.client import Answer, Ask, Client, for_itself, refusal
from bus.clock import Clock
from bus.credentials import Signer
from bus.envelope import Origin
from bus.rights import Rights
from edge.asking import checked_key
from edge.limits import Limiter
from edge.uses import Uses
from schemas import catalogue, credentials
from schemas.contract import ID, Operation, Problem
from schemas.credentials import ResolveCredential
from schemas.principal import EDGE, Principal
from schemas.problems import Denied, Internal, Malformed, NotFound, TooLarge

SUBJECT = "api.*.*.*"
QUEUE = "api"
WORKERS = 256
KNOWN_S = 30.0
DRAIN_S = 5.0
CACHE_MAX = 4096


class BusDoor:
    """Answers what comes from the account INTEGRATORS."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        signer: Signer,
        limiter: Limiter,
        rights: Rights,
        uses: Uses,
        auditor: Auditor,
    ) -> None:
        self._client, self._clock, self._signer, self._limiter = client, clock, signer, limiter
        self._auditor = auditor
        self._rights, self._uses = rights, uses
        self._open = {o.name: o for o in catalogue.operations() if o.route and not o.public}
        self._known: OrderedDict[str, tuple[float, Principal]] = OrderedDict()
        self._epoch = 0
        self._pool = Workers(WORKERS, "bus-door")
        self._subscription: Any = None

    async def open(self, connection: Connection) -> None:
        """Subscribe, as one of the edge's processes."""
        self._subscription = await connection.subscribe(SUBJECT, queue=QUEUE, cb=self._take)

    async def close(self) -> None:
        """Take no more, and finish what has come."""
        with contextlib.suppress(NatsError, TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._subscription.drain()
        if self._pool.tasks:
            await asyncio.wait(self._pool.tasks, timeout=DRAIN_S)

    def forget(self) -> None:
        """Somebody's rights have changed: ask again for each."""
        self._known.clear()
        self._epoch += 1

    async def _take(self, message: Msg) -> None:
        await self._pool.slot()
        self._pool.run(self._answer(message))

    async def _answer(self, message: Msg) -> None:
        try:
            answer = await self._ask(message)
            body, headers = answer.body, headers_of(answer)
        except Problem as problem:
            body, headers = self._refusal(problem)
        except Exception as broken:
            telemetry.log().error("bus door failed", subject=message.subject, exc_info=broken)
            body, headers = self._refusal(Internal())
        if message.reply:
            await self._client.connection.publish(message.reply, body, headers=headers)

    async def _ask(self, message: Msg) -> Answer:
        _, credential_id, name = message.subject.split(".", maxsplit=2)
        principal = await self._principal(credential_id)
        self._uses.note(principal)
        await self._limiter.admit(self._limiter.of_principal(principal))
        operation = self._open.get(name)
        if operation is None:
            raise NotFound("There is no such operation.", operation=name)
        if self._rights.reach(principal, operation.may).nothing:
            denied = Denied(permission=operation.may)
            self._auditor.entry(refused(operation, denied, principal, self._clock.now(), None))
            raise denied
        check(operation, message.data)
        ask = self._how(principal, operation, message.headers or {}, credential_id)
        return await self._client.ask_raw(operation, message.data or b"{}", ask)

    async def _principal(self, credential_id: str) -> Principal:
        """Whom a credential stands for, from memory or from the domain that keeps it."""
        until, principal = self._known.get(credential_id, (0.0, EDGE))
        if until > time.monotonic():
            return principal
        if not re.fullmatch(ID, credential_id):
            raise NotFound("There is no such credential.")
        epoch, command = self._epoch, ResolveCredential(id=credential_id)
        ask = for_itself(EDGE, self._signer, self._clock)
        found = await self._client.ask(credentials.resolve, command, ask)
        life_s = KNOWN_S
        if found.until is not None:
            life_s = min(KNOWN_S, (found.until - self._clock.now()).total_seconds())
        if epoch == self._epoch:
            self._remember(credential_id, found.principal, life_s)
        return found.principal

    def _remember(self, credential_id: str, principal: Principal, life_s: float) -> None:
        self._known[credential_id] = (time.monotonic() + life_s, principal)
        if len(self._known) > CACHE_MAX:
            self._known.popitem(last=False)

    def _how(
        self,
        principal: Principal,
        operation: Operation[Any, Any],
        given: envelope.Headers,
        credential_id: str,
    ) -> Ask:
        """On whose behalf, under which key; of the headers that came only these are looked at."""
        origin = Origin(
            actor=principal.id,
            request_id=self._clock.new_id(),
            trace_parent=telemetry.child_of(given),
        )
        key, stream_id = (
            checked_key(given.get(envelope.IDEMPOTENCY_KEY)),
            given.get(envelope.STREAM_ID),
        )
        if stream_id is not None and not stream_id.startswith(f"{credential_id}-"):
            raise Malformed("The id of a stream begins with the credential's own id and '-'.")
        return Ask(
            self._signer.sign(principal), origin,
            key=key if operation.idempotent else None,
            stream_id=None if stream_id is None else subjects.token(stream_id),
        )  # fmt: skip

    def _refusal(self, problem: Problem) -> tuple[bytes, dict[str, str]]:
        return refusal(problem, self._clock.now())


def check(operation: Operation[Any, Any], body: bytes) -> None:
    """What the edge refuses before the bus sees it.

    Raises:
        TooLarge: The operation takes less.
        Malformed: It names a stored upload, which only the edge may.
    """
    if len(body) > operation.body_bytes_max:
        raise TooLarge(bytes_max=operation.body_bytes_max)
    if operation.upload is None:
        return
    try:
        given = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise Malformed("The body is not JSON.") from None
    if isinstance(given, dict) and operation.upload in given:
        raise Malformed("The edge itself fills in this field.", fields=[operation.upload])


def headers_of(answer: Answer) -> dict[str, str]:
    """What a reply tells besides its body."""
    headers = {envelope.VERSION: answer.version} if answer.version else {}
    return headers | ({envelope.REPLAYED: "1"} if answer.replayed else {})
