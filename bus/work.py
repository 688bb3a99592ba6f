"""From a JetStream message to its acknowledgement: reactions to events, and jobs.

A reaction inserts an inbox row in the same transaction as its effect, so a redelivered event
changes nothing. A job is a row in `ops.jobs` under a lease: only the holder of the lease works on
it, so a message delivered twice, or to a worker thought dead, does no harm.

Both send `in_progress` every 3 s, so that a crashed worker's message comes back after 10 s while
a slow one keeps its own. Only failures of the work itself are counted; while a server is down
the message waits. What fails for good becomes a dead letter (`letters.py`), written in the
transaction that says the message is dealt with; only then is its delivery ended.
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

from bus import envelope, faults, letters, telemetry
from bus.beating import LeaseLost, beating
from bus.context import IDS, Boundary, Context, Platform
from bus.envelope import Origin
from bus.inbox import COUNT_FAILURE, AlreadyDone, Blocked, Inbox, mark
from bus.letters import Given, describe
from bus.statement import Statement
from schemas.contract import Event, Problem, Reaction, Schema
from schemas.principal import Principal
from schemas.problems import DependencyDown, TimedOut, Unavailable

LEASE_S = 10
FAILURES_MAX = 8
WAIT_FOR_SERVERS_S = 2.0
BACKOFF_S_MAX = 60.0
BACK_OFF_FOR: tuple[type[Problem], ...] = (DependencyDown, Unavailable)

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
    WITH finished AS (
        UPDATE ops.jobs SET status = $3, result = $4, error = $5, finished_at = now(),
            lease_until = NULL
        WHERE id = $1 AND worker = $2 AND status = 'running' RETURNING id, status
    ), letter AS (
        UPDATE ops.dead_letters SET state = 'done', settled_at = now()
        WHERE job_id = (SELECT id FROM finished WHERE status = 'succeeded') AND state = 'requeued'
    )
    SELECT id FROM finished
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


class Follower:
    """One reaction, as it consumes its events."""

    def __init__(self, reaction: Reaction, handler: Follow, platform: Platform) -> None:
        self.reaction = reaction
        self._handler = handler
        self._platform = platform
        self._domain = reaction.durable.split("-")[0]

    async def consume(self, message: Msg) -> None:
        """React to one event and acknowledge it; never raises."""
        what = letters.given(message, self.reaction.durable, event=self._kind(message))
        if what.letter_to not in (None, self.reaction.durable):
            await message.ack()
            return
        outcome = "ok"
        try:
            async with beating(message), asyncio.timeout(self.reaction.timeout_s):
                await self._react(what)
            faults.point("after-effect-before-ack")
            await message.ack()
        except AlreadyDone:
            await message.ack()
        except Exception as failure:
            outcome = await self._failed(message, what, failure)
        telemetry.reactions_total.labels(self.reaction.durable, outcome).inc()

    def _kind(self, message: Msg) -> type[Event] | None:
        try:
            return self.reaction.event_named((message.headers or {}).get("ce-type", ""))
        except KeyError:
            return None

    async def _react(self, what: Given) -> None:
        try:
            kind = self.reaction.event_named(what.headers.get("ce-type", ""))
            event = kind.model_validate_json(what.body, extra="ignore")
        except (KeyError, ValidationError) as odd:
            raise Unreadable(f"{type(odd).__name__}: {odd}") from odd
        await self._handle(event, self._context(what, Inbox(what)), what)

    def _context(self, what: Given, boundary: Boundary | None = None) -> Context:
        headers = what.headers
        origin = Origin(
            actor=headers.get("ce-actor", self._domain),
            roles=("admin",),
            request_id=headers.get(envelope.REQUEST_ID, ""),
            correlation_id=headers.get(envelope.CORRELATION_ID),
            causation_id=headers.get("ce-id", what.message_id),
            trace_parent=telemetry.child_of(headers),
        )
        principal = Principal(id=self._domain, kind="service", roles=("admin",), via="bus")
        return Context(self._platform, principal, origin, boundary=boundary)

    async def _handle(self, event: Event, context: Context, what: Given) -> None:
        try:
            await self._handler(event, context)
            if what.letter_id and context.transaction_open is None:
                async with context.transaction():
                    pass  # nothing had to be written, and the letter is done all the same
            transaction, context.transaction_open = context.transaction_open, None
            if transaction is not None:
                if what.letter_id:
                    await letters.settle(
                        transaction, what.letter_id, "done", what.consumer, what.aggregate_id
                    )
                await transaction.commit()
        finally:
            if context.transaction_open is not None:
                await context.transaction_open.roll_back()

    async def _failed(self, message: Msg, what: Given, failure: Exception) -> str:
        if isinstance(failure, BACK_OFF_FOR):
            await nak(message, WAIT_FOR_SERVERS_S)
            return "waiting"
        try:
            outcome, pause_s = await self._give_up_or_wait(what, failure)
        except AlreadyDone:
            outcome, pause_s = "ok", None
        except Exception as broken:
            telemetry.log().warning(
                "failure could not be kept", id=what.message_id, exc_info=broken
            )
            outcome, pause_s = "waiting", WAIT_FOR_SERVERS_S
        if pause_s is not None:
            await nak(message, pause_s)
        else:
            faults.point("after-letter-before-end")
            await (message.term if outcome == "dead" else message.ack)()
        return outcome

    async def _give_up_or_wait(self, what: Given, failure: Exception) -> tuple[str, float | None]:
        """What becomes of a message that failed, and the pause before its next try, if any."""
        if isinstance(failure, Blocked) or await self._is_blocked(what):
            return ("parked", None) if await self._park(what) else ("retry", 0)
        telemetry.log().warning(
            "reaction failed", durable=what.consumer, id=what.message_id, exc_info=failure
        )
        row = await self._platform.database.row(
            COUNT_FAILURE, what.consumer, what.message_id, letters.describe(failure)
        )
        failures = row["failures"] if row else 1
        if isinstance(failure, Unreadable) or failures >= FAILURES_MAX:
            return await self._bury(what, failure, failures), None
        return "retry", back_off(failures)

    async def _is_blocked(self, what: Given) -> bool:
        """A reaction may fail before it opens the transaction in which it would have been told."""
        found = await self._platform.database.row(letters.IN_QUEUE, what.consumer, what.queue)
        return found is not None

    async def _park(self, what: Given) -> bool:
        """Write that it waits, and that it is dealt with; false if it need not wait any more."""
        async with self._context(what).transaction() as tx:
            faults.point("before-letter")
            parked = await letters.park(tx, what, self._platform.clock.new_id())
            if parked:
                await mark(tx, what)
        return parked

    async def _bury(self, what: Given, failure: Exception, failures: int) -> str:
        """Write the letter, and that the message is dealt with; returns the letter's state."""
        async with self._context(what).transaction() as tx:
            faults.point("before-letter")
            new_id = self._platform.clock.new_id()
            state = await letters.bury(tx, what, failure, failures, new_id)
            await mark(tx, what)
        return state


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
        self._durable = name.replace(".", "-")

    async def consume(self, message: Msg) -> None:
        """Work on one job and acknowledge it; never raises but when cancelled."""
        job_id = (message.headers or {}).get(envelope.JOB_ID, "")
        try:
            if not IDS.fullmatch(job_id):
                await self._bury_nameless(message)
                return
            claim = await self._platform.database.row(CLAIM_JOB, job_id, self._worker, LEASE_S)
            if claim is None:
                await self._skip(message, job_id)
                return
            async with beating(message, lambda: self._renew(job_id)):
                await self._attempt(message, job_id, dict(claim))
        except BACK_OFF_FOR:
            await nak(message, WAIT_FOR_SERVERS_S)
        except LeaseLost:
            await nak(message, LEASE_S)
        except asyncio.CancelledError as cancelled:
            await nak(message, 0 if cancelled.args != ("lease lost",) else LEASE_S)
            if cancelled.args != ("lease lost",):
                raise
        except Exception as failure:
            telemetry.log().error("job could not be kept", job=self.name, exc_info=failure)
            await nak(message, WAIT_FOR_SERVERS_S)

    async def _skip(self, message: Msg, job_id: str) -> None:
        """Not ours: finished long ago, in another worker's hands, or given back in this moment."""
        row = await self._platform.database.row(JOB_STATE, job_id)
        status = row["status"] if row is not None else None
        if status == "running":
            await nak(message, LEASE_S)
        elif status == "queued":
            await nak(message, 0)  # this may be its only message
        else:
            await message.ack()

    async def _attempt(self, message: Msg, job_id: str, claim: dict[str, Any]) -> None:
        context = self._context(message, job_id, claim)
        started = time.perf_counter()
        try:
            command = self._read(message)
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
            await self._failed(message, context, failure)
        else:
            await self._finish(job_id, result)
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

    def _read(self, message: Msg) -> Schema:
        try:
            return self._request.model_validate_json(message.data, extra="ignore")
        except ValidationError as odd:
            raise Unreadable(f"{type(odd).__name__}: {odd}") from odd

    async def _failed(self, message: Msg, context: Context, failure: Exception) -> None:
        assert context.job_id is not None
        problem = failure if isinstance(failure, Problem) else None
        unreadable = isinstance(failure, Unreadable)
        final = context.attempt >= self._attempts or (problem and not problem.retryable)
        final = final or unreadable
        telemetry.log().warning(
            "job failed", job=self.name, id=context.job_id, attempt=context.attempt,
            final=bool(final), exc_info=None if problem else failure, problem=describe(failure),
        )  # fmt: skip
        if not final:
            await self._again(message, context.job_id, failure, back_off(context.attempt))
            return
        if self._give_up is not None and not unreadable:
            from_work = problem or TimedOut(describe(failure))
            await self._give_up(self._read(message), context, from_work)
        await self._bury(message, context, failure)
        await message.term()
        telemetry.jobs_total.labels(self.name, "failed").inc()

    async def _bury(self, message: Msg, context: Context, failure: Exception) -> None:
        """Write the letter in the transaction that fails the job, unless it is ours no more."""
        job_id = context.job_id
        what = letters.given(message, self._durable, job_id=job_id)
        async with context.transaction() as tx:
            faults.point("before-letter")
            values = (job_id, self._worker, "failed", None, describe(failure))
            if await tx.row(FINISH_JOB, *values) is None:
                raise LeaseLost
            await letters.bury(tx, what, failure, context.attempt, context.new_id())
        faults.point("after-letter-before-end")

    async def _bury_nameless(self, message: Msg) -> None:
        """A message that names no job can only be looked at; the inbox knows that it was."""
        what = letters.given(message, self._durable)
        odd = Unreadable("The message names no job.")
        origin = Origin(self.name, what.headers.get(envelope.REQUEST_ID, ""))
        principal = Principal(id=self.name.split(".")[0], kind="service", via="bus")
        with contextlib.suppress(AlreadyDone):
            context = Context(self._platform, principal, origin)
            async with context.transaction() as tx:
                faults.point("before-letter")
                await letters.bury(tx, what, odd, 1, context.new_id())
                await mark(tx, what)
        faults.point("after-letter-before-end")
        await message.term()

    async def _again(
        self, message: Msg, job_id: str, failure: Exception, after_s: float, uncounted: int = 0
    ) -> None:
        await self._platform.database.row(
            RETRY_JOB, job_id, self._worker, describe(failure), uncounted
        )
        await nak(message, after_s)
        telemetry.jobs_total.labels(self.name, "retried").inc()

    async def _finish(self, job_id: str, result: Schema | None) -> None:
        body = result.model_dump(mode="json") if result is not None else None
        await self._platform.database.row(FINISH_JOB, job_id, self._worker, "succeeded", body, None)

    async def _renew(self, job_id: str) -> None:
        row = await self._platform.database.row(RENEW_LEASE, job_id, self._worker, LEASE_S)
        if row is None:
            raise LeaseLost


def back_off(failures: int) -> float:
    """Seconds until the next try: doubling from one, with jitter."""
    return random.uniform(0.5, 1.0) * min(2.0**failures, BACKOFF_S_MAX)  # noqa: S311


async def nak(message: Msg, delay_s: float) -> None:
    """Give the message back; if that fails it comes back by itself."""
    with contextlib.suppress(NatsError):
        await message.nak(delay=delay_s)
