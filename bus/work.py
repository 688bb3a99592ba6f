"""From a JetStream message to its acknowledgement: reactions to events, and jobs.

A reaction inserts an inbox row in the same transaction as its effect, so a redelivered event
changes nothing. A job is a row in `ops.jobs` under a lease: only the holder of the lease works on
it, so a message delivered twice, or to a worker thought dead, does no harm.

Both send `in_progress` every 3 s, so that a crashed worker's message comes back after 10 s while
a slow one keeps its own. Only failures of the work itself are counted; while a server is down
the message waits.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from pydantic import ValidationError

from bus import envelope, faults, subjects, telemetry
from bus.background import forever
from bus.context import Boundary, Context, Platform
from bus.database import Transaction
from bus.envelope import Origin
from bus.statement import Statement
from schemas.contract import Event, Problem, Reaction, Schema
from schemas.principal import Principal
from schemas.problems import DependencyDown, TimedOut, Unavailable

BEAT_S = 3.0
LEASE_S = 10
FAILURES_MAX = 8
WAIT_FOR_SERVERS_S = 2.0
BACKOFF_S_MAX = 60.0
BACK_OFF_FOR: tuple[type[Problem], ...] = (DependencyDown, Unavailable)

MARK_SEEN = Statement(
    """
    INSERT INTO ops.inbox (consumer, message_id, done) VALUES ($1, $2, true)
    ON CONFLICT (consumer, message_id) DO UPDATE SET done = true WHERE NOT ops.inbox.done
    RETURNING consumer
    """
)
COUNT_FAILURE = Statement(
    """
    INSERT INTO ops.inbox (consumer, message_id, failures, error) VALUES ($1, $2, 1, $3)
    ON CONFLICT (consumer, message_id)
    DO UPDATE SET failures = ops.inbox.failures + 1, error = excluded.error
    RETURNING failures
    """
)
CLAIM_JOB = Statement(
    """
    UPDATE ops.jobs SET status = 'running', attempts = attempts + 1, worker = $2,
        lease_until = now() + make_interval(secs => $3), started_at = coalesce(started_at, now())
    WHERE id = $1 AND (status = 'queued' OR (status = 'running' AND lease_until < now()))
    RETURNING attempts, actor, actor_kind, roles, scopes, credential, request_id, correlation_id
    """
)
JOB_STATE = Statement("SELECT status, lease_until FROM ops.jobs WHERE id = $1")
RENEW_LEASE = Statement(
    """
    UPDATE ops.jobs SET lease_until = now() + make_interval(secs => $3)
    WHERE id = $1 AND worker = $2 AND status = 'running' RETURNING id
    """
)
FINISH_JOB = Statement(
    """
    UPDATE ops.jobs SET status = $3, result = $4, error = $5, finished_at = now(),
        lease_until = NULL
    WHERE id = $1 AND worker = $2 AND status = 'running' RETURNING id
    """
)
RETRY_JOB = Statement(
    """
    UPDATE ops.jobs SET status = 'queued', error = $3, attempts = attempts - $4,
        lease_until = NULL
    WHERE id = $1 AND worker = $2 AND status = 'running' RETURNING id
    """
)

Follow = Callable[[Any, Context], Awaitable[None]]
Perform = Callable[[Any, Context], Awaitable[Schema | None]]
GiveUp = Callable[[Any, Context, Problem], Awaitable[None]]


class Unreadable(Exception):
    """The message is of no form that its reaction knows, and never will be."""


class AlreadyDone(Exception):
    """The event's effect was committed before; only the acknowledgement was lost."""


class Inbox(Boundary):
    """Marks an event as seen in the transaction of its effect."""

    def __init__(self, durable: str, message_id: str) -> None:
        self._durable, self._message_id = durable, message_id

    async def begun(self, transaction: Transaction) -> None:
        """Mark the event as seen.

        Raises:
            AlreadyDone: It was seen before.
        """
        if await transaction.row(MARK_SEEN, self._durable, self._message_id) is None:
            raise AlreadyDone


@contextlib.asynccontextmanager
async def beating(message: Msg, renew: Callable[[], Awaitable[None]] | None = None) -> Any:
    """Keep the message ours while the block runs; `renew` may cancel the block by raising."""
    worker = asyncio.current_task()

    async def beat() -> None:
        await asyncio.sleep(BEAT_S)
        with contextlib.suppress(NatsError):
            await message.in_progress()
        try:
            if renew is not None:
                await renew()
        except LeaseLost:
            assert worker is not None
            worker.cancel("lease lost")
            await asyncio.Event().wait()  # said once; the end of the block ends this too

    beats = asyncio.create_task(forever("beat", beat, 0))
    try:
        yield
    finally:
        beats.cancel()


class LeaseLost(Exception):
    """Another worker holds the job now, or it was cancelled."""


class Follower:
    """One reaction, as it consumes its events."""

    def __init__(self, reaction: Reaction, handler: Follow, platform: Platform) -> None:
        self.reaction = reaction
        self._handler = handler
        self._platform = platform
        self._domain = reaction.durable.split("-")[0]

    async def consume(self, message: Msg) -> None:
        """React to one event and acknowledge it; never raises."""
        message_id = (message.headers or {}).get("ce-id", "")
        outcome = "ok"
        try:
            async with beating(message), asyncio.timeout(self.reaction.timeout_s):
                await self._react(message, message_id)
            faults.point("after-effect-before-ack")
            await message.ack()
        except AlreadyDone:
            await message.ack()
        except Exception as failure:
            outcome = await self._failed(message, message_id, failure)
        telemetry.reactions_total.labels(self.reaction.durable, outcome).inc()

    async def _react(self, message: Msg, message_id: str) -> None:
        headers = message.headers or {}
        try:
            kind = self.reaction.event_named(headers.get("ce-type", ""))
            event = kind.model_validate_json(message.data, extra="ignore")
        except (KeyError, ValidationError) as odd:
            raise Unreadable(f"{type(odd).__name__}: {odd}") from odd
        origin = Origin(
            actor=headers.get("ce-actor", self._domain),
            roles=("admin",),
            request_id=headers.get(envelope.REQUEST_ID, ""),
            correlation_id=headers.get(envelope.CORRELATION_ID),
            causation_id=message_id,
            trace_parent=telemetry.child_of(headers),
        )
        principal = Principal(id=self._domain, kind="service", roles=("admin",), via="bus")
        inbox = Inbox(self.reaction.durable, message_id)
        context = Context(self._platform, principal, origin, boundary=inbox)
        await self._handle(event, context)

    async def _handle(self, event: Event, context: Context) -> None:
        try:
            await self._handler(event, context)
            transaction, context.transaction_open = context.transaction_open, None
            if transaction is not None:
                await transaction.commit()
        finally:
            if context.transaction_open is not None:
                await context.transaction_open.roll_back()

    async def _failed(self, message: Msg, message_id: str, failure: Exception) -> str:
        if isinstance(failure, BACK_OFF_FOR):
            await nak(message, WAIT_FOR_SERVERS_S)
            return "waiting"
        poison = isinstance(failure, Unreadable)
        telemetry.log().warning(
            "reaction failed", durable=self.reaction.durable, id=message_id, exc_info=failure
        )
        try:
            row = await self._platform.database.row(
                COUNT_FAILURE, self.reaction.durable, message_id, describe(failure)
            )
        except Problem:
            await nak(message, WAIT_FOR_SERVERS_S)
            return "waiting"
        failures = row["failures"] if row else 1
        if poison or failures >= FAILURES_MAX:
            await bury(self._platform, message, "events", self.reaction.durable, failure)
            return "dead"
        await nak(message, back_off(failures))
        return "retry"


class Worker:
    """One kind of job, as it is worked on."""

    def __init__(
        self,
        name: str,
        request: type[Schema],
        perform: Perform,
        platform: Platform,
        *,
        attempts: int,
        timeout_s: float,
        give_up: GiveUp | None = None,
    ) -> None:
        self.name = name
        self._request = request
        self._perform = perform
        self._platform = platform
        self._attempts = attempts
        self._timeout_s = timeout_s
        self._give_up = give_up
        self._worker = platform.clock.new_id()

    async def consume(self, message: Msg) -> None:
        """Work on one job and acknowledge it; never raises but when cancelled."""
        job_id = (message.headers or {}).get(envelope.JOB_ID, "")
        try:
            claim = await self._platform.database.row(CLAIM_JOB, job_id, self._worker, LEASE_S)
            if claim is None:
                await self._skip(message, job_id)
                return
            async with beating(message, lambda: self._renew(job_id)):
                await self._attempt(message, job_id, dict(claim))
        except BACK_OFF_FOR:
            await nak(message, WAIT_FOR_SERVERS_S)
        except asyncio.CancelledError as cancelled:
            await nak(message, 0 if cancelled.args != ("lease lost",) else LEASE_S)
            if cancelled.args != ("lease lost",):
                raise
        except Exception as failure:
            telemetry.log().error("job could not be kept", job=self.name, exc_info=failure)
            await nak(message, WAIT_FOR_SERVERS_S)

    async def _skip(self, message: Msg, job_id: str) -> None:
        """Not ours: finished long ago, or in another worker's hands."""
        row = await self._platform.database.row(JOB_STATE, job_id)
        if row is not None and row["status"] == "running":
            await nak(message, LEASE_S)
        else:
            await message.ack()

    async def _attempt(self, message: Msg, job_id: str, claim: dict[str, Any]) -> None:
        context = self._context(message, job_id, claim)
        command = self._request.model_validate_json(message.data, extra="ignore")
        started = time.perf_counter()
        try:
            if claim["attempts"] > self._attempts:
                raise TimedOut("The job was started too often without ever ending.")
            with structlog.contextvars.bound_contextvars(job=job_id, kind=self.name):
                async with asyncio.timeout(self._timeout_s):
                    result = await self._perform(command, context)
        except LeaseLost:
            await nak(message, LEASE_S)
        except BACK_OFF_FOR as waiting:
            await self._again(message, job_id, waiting, WAIT_FOR_SERVERS_S, uncounted=1)
        except Exception as failure:
            await self._failed(message, context, command, failure)
        else:
            await self._finish(job_id, "succeeded", result, None)
            faults.point("after-effect-before-ack")
            await message.ack()
            telemetry.jobs_total.labels(self.name, "succeeded").inc()
            telemetry.request_seconds.labels(self.name).observe(time.perf_counter() - started)

    def _context(self, message: Msg, job_id: str, claim: dict[str, Any]) -> Context:
        origin = Origin(
            actor=claim["actor"],
            roles=tuple(claim["roles"]),
            request_id=claim["request_id"],
            correlation_id=claim["correlation_id"],
            causation_id=job_id,
            trace_parent=telemetry.child_of(message.headers),
            scopes=tuple(claim["scopes"]),
            credential=claim["credential"],
            kind=claim["actor_kind"],
        )
        principal = Principal(
            id=origin.actor, kind="service" if origin.kind == "service" else "agent",
            roles=tuple(claim["roles"]), scopes=origin.scopes, via="bus",
            credential=origin.credential,
        )  # fmt: skip
        return Context(self._platform, principal, origin, job_id=job_id, attempt=claim["attempts"])

    async def _failed(
        self, message: Msg, context: Context, command: Schema, failure: Exception
    ) -> None:
        assert context.job_id is not None
        problem = failure if isinstance(failure, Problem) else None
        final = context.attempt >= self._attempts or (problem and not problem.retryable)
        telemetry.log().warning(
            "job failed", job=self.name, id=context.job_id, attempt=context.attempt,
            final=bool(final), exc_info=None if problem else failure, problem=describe(failure),
        )  # fmt: skip
        if not final:
            await self._again(message, context.job_id, failure, back_off(context.attempt))
            return
        if self._give_up is not None:
            from_work = problem or TimedOut(describe(failure))
            await self._give_up(command, context, from_work)
        await self._finish(context.job_id, "failed", None, describe(failure))
        await bury(self._platform, message, "jobs", self.name.replace(".", "-"), failure)
        telemetry.jobs_total.labels(self.name, "failed").inc()

    async def _again(
        self, message: Msg, job_id: str, failure: Exception, after_s: float, uncounted: int = 0
    ) -> None:
        await self._platform.database.row(
            RETRY_JOB, job_id, self._worker, describe(failure), uncounted
        )
        await nak(message, after_s)
        telemetry.jobs_total.labels(self.name, "retried").inc()

    async def _finish(
        self, job_id: str, status: str, result: Schema | None, error: str | None
    ) -> None:
        body = result.model_dump(mode="json") if result is not None else None
        await self._platform.database.row(FINISH_JOB, job_id, self._worker, status, body, error)

    async def _renew(self, job_id: str) -> None:
        row = await self._platform.database.row(RENEW_LEASE, job_id, self._worker, LEASE_S)
        if row is None:
            raise LeaseLost


def describe(failure: Exception) -> str:
    """One line for the job's or the inbox row."""
    if isinstance(failure, Problem):
        return f"{failure.code} {failure.message}"[:500]
    return f"{type(failure).__name__}: {failure}"[:500]


def back_off(failures: int) -> float:
    """Seconds until the next try: doubling from one, with jitter."""
    return random.uniform(0.5, 1.0) * min(2.0**failures, BACKOFF_S_MAX)  # noqa: S311


async def nak(message: Msg, delay_s: float) -> None:
    """Give the message back; if that fails it comes back by itself."""
    with contextlib.suppress(NatsError):
        await message.nak(delay=delay_s)


async def bury(
    platform: Platform, message: Msg, stream: str, consumer: str, failure: Exception
) -> None:
    """Move a message that cannot be handled to the dead letters, then end its delivery."""
    headers = dict(message.headers or {}) | {
        "x-dead-subject": message.subject,
        "x-dead-consumer": consumer,
        "x-dead-reason": describe(failure).replace("\n", " "),
        envelope.MESSAGE_ID: f"dead-{consumer}-{message.metadata.sequence.stream}",
    }
    jetstream = platform.connection.jetstream()
    await jetstream.publish(subjects.dead(stream, consumer), message.data, headers=headers)
    await message.term()
