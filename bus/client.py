"""Asking an operation: one core-NATS request with an absolute deadline.

Nobody there is known at once (`Unavailable`), no answer is known at the deadline (`TimedOut`), and
an operation that keeps failing is not asked for a while (`BreakerOpen`). Only operations that are
idempotent or only read are retried, with jitter, inside the same deadline and with the same key.

A server of the bus that dies or sleeps takes requests and answers with it, and nobody is told. Who
waits for a long call that can be repeated asks now and then whether anybody is at it, and repeats
it if not, instead of waiting for a deadline that is minutes away.
"""

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import (
    ConnectionClosedError,
    ConnectionReconnectingError,
    MaxPayloadError,
    NoRespondersError,
    OutboundBufferLimitError,
)
from nats.errors import Error as NatsError

from bus import envelope, telemetry
from bus.breaker import Breaker
from bus.clock import Clock
from bus.credentials import Signer
from bus.envelope import Origin
from bus.stopping import is_being_done
from schemas.contract import Operation, Problem, Schema
from schemas.principal import Principal
from schemas.problems import BreakerOpen, Internal, TimedOut, TooLarge, Unavailable

TRIES = 3
BACKOFF_S = 0.1
LOOK_EVERY_S = 5.0
R = TypeVar("R", bound=Schema)
C = TypeVar("C", bound=Schema)


@dataclass(frozen=True, slots=True)
class Answer:
    """A reply as it came: the body is JSON, `version` the entity's for an ETag."""

    body: bytes
    version: str | None
    replayed: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """How to ask: on whose behalf, until when, and as part of what.

    Args:
        principal: The signed header.
        origin: Where the request comes from.
        deadline_ms: Unix milliseconds; None gives the operation's own timeout.
        key: Idempotency key.
        stream_id: Where the tokens of a stream operation shall go.
        call_id: What to say to stop it (`stopping.py`).
    """

    principal: str
    origin: Origin
    deadline_ms: int | None = None
    key: str | None = None
    stream_id: str | None = None
    call_id: str | None = None


def for_itself(principal: Principal, signer: Signer, clock: Clock, key: str | None = None) -> Ask:
    """How a process of the platform asks on nobody's behalf but its own."""
    return Ask(signer.sign(principal), Origin(principal.id, key or clock.new_id()), key=key)


class Client:
    """Asks operations over one connection."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock
        self._breakers: dict[str, Breaker] = {}

    async def ask(self, operation: Operation[C, R], command: C, ask: Ask) -> R:
        """Ask and read the answer.

        Raises:
            Problem: The one that the operation answered, or why there was no answer.
        """
        answer = await self.ask_raw(operation, command.model_dump_json().encode(), ask)
        return operation.reply.model_validate_json(answer.body, extra="ignore")

    async def ask_raw(self, operation: Operation[Any, Any], body: bytes, ask: Ask) -> Answer:
        """Ask with a body that is already JSON; the answer is not parsed."""
        now_ms = self._clock.unix_ms()
        deadline_ms = ask.deadline_ms or now_ms + int(operation.timeout_s * 1000)
        headers = headers_of(ask, deadline_ms)
        repeatable = operation.reads or (operation.idempotent and ask.key is not None)
        for attempt in range(1, TRIES + 1):
            left_s = (deadline_ms - self._clock.unix_ms()) / 1000
            try:
                if repeatable and ask.call_id is not None:
                    message = await self._looked_after(operation, body, headers, deadline_ms)
                else:
                    message = await self._request(operation, body, headers, left_s)
            except (Unavailable, TimedOut) as failure:
                pause_s = random.uniform(0.5, 1.0) * BACKOFF_S * 2**attempt  # noqa: S311
                if not repeatable or attempt == TRIES or isinstance(failure, BreakerOpen):
                    raise
                if left_s <= pause_s:
                    raise
                await asyncio.sleep(pause_s)
            else:
                return read(message)  # whatever it says, it was answered
        raise AssertionError("unreachable")

    async def _request(
        self, operation: Operation[Any, Any], body: bytes, headers: dict[str, str], left_s: float
    ) -> Msg:
        if left_s <= 0:
            raise TimedOut(operation=operation.name)
        breaker = self._breakers.get(operation.name)
        if breaker is not None and not breaker.allows():
            raise BreakerOpen(operation=operation.name)
        try:
            message = await request(self.connection, operation.subject, body, headers, left_s)
        except (Unavailable, TimedOut):
            if breaker is None:
                breaker = self._breakers[operation.name] = Breaker(time.monotonic)
            breaker.failed()
            raise
        if breaker is not None:
            breaker.succeeded()
        return message

    async def _looked_after(
        self, operation: Operation[Any, Any], body: bytes, headers: dict[str, str], deadline_ms: int
    ) -> Msg:
        """The answer of a call; it is asked again whenever nobody is at it."""
        while True:
            left_s = (deadline_ms - self._clock.unix_ms()) / 1000
            answer = asyncio.ensure_future(self._request(operation, body, headers, left_s))
            try:
                while not await self._is_lost(answer, operation, headers[envelope.CALL]):
                    if answer.done():
                        return answer.result()
            finally:
                answer.cancel()
            telemetry.log().warning("call was lost", operation=operation.name)

    async def _is_lost(
        self, answer: asyncio.Future[Msg], operation: Operation[Any, Any], call_id: str
    ) -> bool:
        """Whether there is still no answer after a while, and nobody who would give one."""
        await asyncio.wait({answer}, timeout=LOOK_EVERY_S)
        if answer.done() or await is_being_done(self.connection, operation, call_id):
            return False
        return not answer.done()

    def breakers(self) -> dict[str, str]:
        """State of every breaker that has seen a failure."""
        return {name: breaker.state for name, breaker in self._breakers.items()}


async def request(
    connection: Connection, subject: str, body: bytes, headers: dict[str, str], timeout_s: float
) -> Msg:
    """One request on the bus, with what can go wrong named as problems."""
    try:
        return await connection.request(subject, body, timeout=timeout_s, headers=headers)
    except NoRespondersError:
        raise Unavailable(subject=subject) from None
    except TimeoutError:
        raise TimedOut(subject=subject) from None
    except MaxPayloadError:
        raise TooLarge("The message is larger than the bus carries.", subject=subject) from None
    except (OutboundBufferLimitError, ConnectionClosedError, ConnectionReconnectingError):
        raise Unavailable("The bus is not reachable.", subject=subject) from None
    except (NatsError, OSError) as broken:
        raise Unavailable("The bus is not reachable.", subject=subject) from broken


def headers_of(ask: Ask, deadline_ms: int) -> dict[str, str]:
    """The request's headers."""
    headers = envelope.of_origin(ask.origin)
    headers[envelope.PRINCIPAL] = ask.principal
    headers[envelope.DEADLINE] = str(deadline_ms)
    if ask.key is not None:
        headers[envelope.IDEMPOTENCY_KEY] = ask.key
    if ask.stream_id is not None:
        headers[envelope.STREAM_ID] = ask.stream_id
    if ask.call_id is not None:
        headers[envelope.CALL] = ask.call_id
    return headers


def read(message: Msg) -> Answer:
    """The answer in a reply.

    Raises:
        Problem: What the reply reports.
    """
    headers = message.headers or {}
    if envelope.ERROR in headers:
        raise problem_in(headers[envelope.ERROR], message.data)
    return Answer(
        message.data, headers.get(envelope.VERSION), headers.get(envelope.REPLAYED) == "1"
    )


def refusal(problem: Problem, at: datetime) -> tuple[bytes, dict[str, str]]:
    """Body and headers of an error reply: what `problem_in` reads."""
    headers = {envelope.ERROR: problem.code, envelope.ERROR_CODE: str(problem.status)}
    return orjson.dumps(problem.body(at), default=str), headers


def problem_in(code: str, body: bytes) -> Problem:
    """The problem that an error reply carries; an unknown code is an internal error."""
    try:
        error = orjson.loads(body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        error = {}
    problem = Problem.by_code.get(code, Internal)
    details = error.get("details") or {}
    return problem(error.get("message"), **{str(k): v for k, v in details.items()})
