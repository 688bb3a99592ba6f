"""Asking the bus on behalf of an HTTP request: who, until when, under which key."""

import re
from typing import Any

from bus import telemetry
from bus.client import Answer, Ask, Client, for_itself, headers_of, request
from bus.clock import Clock
from bus.credentials import Signer
from bus.envelope import Origin
from edge.exchange import Call
from edge.limits import Limiter
from schemas.contract import Operation
from schemas.identity import principals
from schemas.principal import EDGE
from schemas.problems import Malformed

TRACE_PARENT = b"traceparent"
DIGITS_MAX = 9
_KEY = re.compile(r"[\x21-\x7e]{1,200}")


class Asking:
    """The edge's way to the bus."""

    def __init__(self, client: Client, clock: Clock, signer: Signer, limiter: Limiter) -> None:
        self.client = client
        self.clock = clock
        self._signer = signer
        self._limiter = limiter

    async def somebody_answers(self) -> None:
        """Ask who we are: any answer means that handlers are there.

        Raises:
            Problem: Nobody answers.
        """
        deadline_ms = self.clock.unix_ms() + 1000
        headers = headers_of(for_itself(EDGE, self._signer, self.clock), deadline_ms)
        await request(self.client.connection, principals.me.subject, b"{}", headers, 1.0)

    async def ask(
        self,
        call: Call,
        operation: Operation[Any, Any],
        body: bytes,
        stream_id: str | None = None,
    ) -> Answer:
        """Ask; the answer is not parsed. A guess at a secret is counted first, or not asked.

        Raises:
            TooManyRequests: The address has guessed too often.
            DependencyDown: Guesses cannot be counted.
            Problem: What the operation answers.
        """
        how = self.how(call, operation, stream_id)
        if operation.guesses:
            await self._limiter.admit_guess(call.exchange.address)
        return await self.client.ask_raw(operation, body, how)

    def how(self, call: Call, operation: Operation[Any, Any], stream_id: str | None) -> Ask:
        """On whose behalf, until when, under which key.

        Raises:
            Malformed: A header says something impossible.
        """
        exchange, principal = call.exchange, call.principal
        traceparent = exchange.header(TRACE_PARENT)
        origin = Origin(
            actor=principal.id,
            request_id=exchange.request_id,
            trace_parent=telemetry.child_of({"traceparent": traceparent} if traceparent else None),
        )
        key = checked_key(exchange.header(b"idempotency-key"))
        return Ask(
            self._signer.sign(principal), origin, self._deadline_ms(call, operation),
            key if operation.idempotent else None, stream_id,
        )  # fmt: skip

    def _deadline_ms(self, call: Call, operation: Operation[Any, Any]) -> int:
        limit_ms = int(operation.timeout_s * 1000)
        text = call.exchange.header(b"x-timeout-ms")
        if text is not None:
            if not text.isascii() or not text.isdigit() or len(text) > DIGITS_MAX or int(text) < 1:
                raise Malformed("X-Timeout-Ms is a whole number of milliseconds.")
            limit_ms = min(limit_ms, int(text))
        return self.clock.unix_ms() + limit_ms


def checked_key(key: str | None) -> str | None:
    """An idempotency key as a client may choose it.

    Raises:
        Malformed: It is empty, too long, or not of visible ASCII characters.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise Malformed("An Idempotency-Key has 1 to 200 visible ASCII characters.")
    return key
