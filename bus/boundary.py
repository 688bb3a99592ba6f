"""From a request message to its reply: everything that every operation has in common.

    trace -> metrics -> problem to reply -> deadline -> principal and permission -> idempotency

Each step is a few lines below, in that order. A handler never sees a request that is late,
forged, denied, malformed or already answered, and whatever it raises becomes a coded reply.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from nats.aio.msg import Msg
from pydantic import ValidationError

from bus import audit, envelope, faults, recording, spans, stopping, subjects, telemetry
from bus.client import refusal
from bus.context import Boundary, Context, Platform
from bus.credentials import Verifier
from bus.database import Transaction
from bus.envelope import Origin
from bus.live import Lane
from bus.statement import Statement
from schemas.contract import Entity, Operation, Problem, Schema
from schemas.policy import NOTHING, Reach
from schemas.principal import Principal
from schemas.problems import (
    Denied,
    Expired,
    Internal,
    KeyReused,
    Malformed,
    NotFound,
    StillRunning,
    TimedOut,
    Unauthenticated,
    malformed,
)

KEY_BYTES_MAX = 200
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # the database cannot store it

Handler = Callable[[Any, Context], Awaitable[Schema]]

FIND_ANSWER = Statement(
    "SELECT fingerprint, reply, version FROM ops.idempotency WHERE actor = $1 AND key = $2"
)
CLAIM_KEY = Statement(
    """
    INSERT INTO ops.idempotency (actor, key, fingerprint) VALUES ($1, $2, $3)
    ON CONFLICT (actor, key) DO NOTHING RETURNING key
    """
)
KEEP_ANSWER = Statement(
    "UPDATE ops.idempotency SET reply = $3, version = $4 WHERE actor = $1 AND key = $2"
)


class Replay(Exception):
    """The request was answered before; here is that answer."""

    def __init__(self, body: bytes, version: str | None) -> None:
        self.body, self.version = body, version
        super().__init__()


class Once(Boundary):
    """Claims an idempotency key in the handler's own transaction and keeps the answer there."""

    def __init__(self, actor: str, key: str, fingerprint: str) -> None:
        self.actor, self.key, self.fingerprint = actor, key, fingerprint

    async def begun(self, transaction: Transaction) -> None:
        """Claim the key; waits for a request of the same key that is still running."""
        claimed = await transaction.row(CLAIM_KEY, self.actor, self.key, self.fingerprint)
        if claimed is None:
            self.replay(await transaction.row(FIND_ANSWER, self.actor, self.key))

    def replay(self, row: Any) -> None:
        """Answer as before.

        Raises:
            Replay: With the stored answer.
            KeyReused: The key stands for another request.
            StillRunning: The first request has no answer yet.
        """
        if row is None or row["reply"] is None:
            raise StillRunning
        if row["fingerprint"] != self.fingerprint:
            raise KeyReused
        raise Replay(row["reply"].encode(), row["version"])


class Endpoint:
    """One operation with its handler, as it answers on the bus."""

    def __init__(
        self,
        operation: Operation[Any, Any],
        handler: Handler,
        platform: Platform,
        verifier: Verifier,
    ) -> None:
        self.operation = operation
        self._handler = handler
        self._platform = platform
        self._verifier = verifier
        self._thing = thing_of(operation)
        self._seconds = telemetry.request_seconds.labels(operation.name)
        self._ok = telemetry.requests_total.labels(operation.name, "ok")

    async def answer(self, message: Msg) -> None:
        """Handle one request and send its reply; never raises."""
        if not spans.exporting():
            await self._answer(message)
            return
        parent = (message.headers or {}).get(envelope.TRACE_PARENT, "")
        with spans.span(self.operation.name, parent):
            await self._answer(message)

    async def _answer(self, message: Msg) -> None:
        started = time.perf_counter()
        trace_parent = telemetry.child_of(message.headers)
        try:
            reply = self._reply(message, trace_parent)
            call_id = (message.headers or {}).get(envelope.CALL)
            body, headers = await (stopping.stoppable(call_id, reply) if call_id else reply)
            self._ok.inc()
        except Problem as problem:
            telemetry.requests_total.labels(self.operation.name, problem.code).inc()
            body, headers = self._refuse(problem)
        except Exception as broken:
            self._log_failure(broken, message, trace_parent)
            telemetry.requests_total.labels(self.operation.name, Internal.code).inc()
            body, headers = self._refuse(Internal())
        faults.point("after-commit-before-reply")
        self._seconds.observe(time.perf_counter() - started)
        if message.reply:
            await self._platform.connection.publish(message.reply, body, headers=headers)

    async def _reply(self, message: Msg, trace_parent: str) -> tuple[bytes, dict[str, str]]:
        headers = message.headers or {}
        left_s, deadline_ms = self._time_left(headers)
        principal, reach = self._admit(headers)
        command = self._parse(message.data)
        try:
            reach = self._on_thing(reach, command)
        except NotFound as hidden:
            self._note_refusal(hidden, principal, headers)
            raise
        context = self._context(headers, principal, reach, deadline_ms, trace_parent)
        try:
            async with asyncio.timeout(left_s):
                return await self._run(context, command, message.data)
        except TimeoutError:
            raise TimedOut(operation=self.operation.name) from None
        except Replay as replay:
            return replay.body, versioned(replay.version) | {envelope.REPLAYED: "1"}
        except Problem as problem:
            if context.lane is not None:
                await context.lane.end(self._refuse(problem)[0], failed=True)
            if problem.status == HTTPStatus.FORBIDDEN:
                self._note_refusal(problem, principal, headers)
            raise
        finally:
            if context.transaction_open is not None:
                await context.transaction_open.roll_back()

    async def _run(
        self, context: Context, command: Schema, data: bytes
    ) -> tuple[bytes, dict[str, str]]:
        once = await self._once(context, data)
        telemetry.request.set(context.origin.request_id)  # the task is this request's own
        reply = await self._handler(command, context)
        if self._unweighed(context):
            raise Denied(permission=self.operation.may)
        body = reply.model_dump_json().encode()
        version = str(reply.version) if isinstance(reply, Entity) else None
        await commit(context, once, body, version)
        if context.lane is not None:
            await context.lane.end(body)
        return body, versioned(version)

    def _unweighed(self, context: Context) -> bool:
        """Whether single things are granted or denied, and nobody looked at which.

        Such a handler has answered more than was granted: its transaction must not commit. A
        denial on one thing does not concern what makes things, and was weighed where the path
        names the thing.
        """
        if context.weighed:
            return False
        shows_many = self.operation.reads and self._thing is None
        return context.reach.scope == "none" or (shows_many and context.reach.exceptions)

    def _time_left(self, headers: envelope.Headers) -> tuple[float, int]:
        now_ms = self._platform.clock.unix_ms()
        own_ms = now_ms + int(self.operation.timeout_s * 1000)
        try:
            deadline_ms = min(int(headers.get(envelope.DEADLINE, own_ms)), own_ms)
        except ValueError:
            raise Malformed("x-deadline is not a number of milliseconds.") from None
        if deadline_ms <= now_ms:
            raise TimedOut(operation=self.operation.name)
        return (deadline_ms - now_ms) / 1000, deadline_ms

    def _admit(self, headers: envelope.Headers) -> tuple[Principal, Reach]:
        """Who asks, and how far he may go; a refusal is noted, whoever it was that asked."""
        principal = None
        try:
            principal = self._verifier.read(headers.get(envelope.PRINCIPAL))
            return principal, self._permit(principal)
        except Problem as refusal:
            self._note_refusal(refusal, principal, headers)
            raise

    def _note_refusal(
        self, refusal: Problem, principal: Principal | None, headers: envelope.Headers
    ) -> None:
        at, request_id = self._platform.clock.now(), headers.get(envelope.REQUEST_ID)
        noted = audit.refused(self.operation, refusal, principal, at, request_id)
        self._platform.auditor.entry(noted)

    def _permit(self, principal: Principal) -> Reach:
        if principal.kind == "anonymous" and not self.operation.public:
            raise Unauthenticated
        if self.operation.internal and principal.kind != "service":
            raise Denied("Only the platform itself asks this.")
        self._permit_run(principal)
        reach = self._platform.rights.reach(principal, self.operation.may)
        if reach.nothing:
            raise Denied(permission=self.operation.may)
        return reach

    def _permit_run(self, principal: Principal) -> None:
        """An agent's run calls little, and nothing after its time."""
        run, runs = principal.run, self.operation.runs
        if run is None:
            return
        if run.until * 1000 <= self._platform.clock.unix_ms():
            raise Expired("The time of the agent's run is over.", run_id=run.run_id)
        if runs == "no" or (runs == "within" and principal.via is None):
            raise Denied("An agent's run may not call this.", operation=self.operation.name)

    def _on_thing(self, reach: Reach, command: Schema) -> Reach:
        """The reach on the thing that the request's path names."""
        if not reach.exceptions or self._thing is None:
            return reach
        narrowed = reach.on(getattr(command, self._thing))
        if narrowed is NOTHING:
            raise NotFound
        return narrowed

    def _parse(self, data: bytes) -> Schema:
        if b"\\u0000" in data and NUL.search(data):  # the plain search first: 1000 times as fast
            raise Malformed("A text may not hold the character NUL.", fields=[])
        try:
            command: Schema = self.operation.request.model_validate_json(data or b"{}", strict=True)
        except ValidationError as bad:
            raise malformed(bad) from None
        return command

    def _context(
        self,
        headers: envelope.Headers,
        principal: Principal,
        reach: Reach,
        deadline_ms: int,
        trace_parent: str,
    ) -> Context:
        origin = Origin(
            actor=principal.id,
            roles=principal.roles,
            scopes=principal.scopes,
            credential=principal.credential,
            kind=principal.kind,
            request_id=headers.get(envelope.REQUEST_ID) or self._platform.clock.new_id(),
            correlation_id=headers.get(envelope.CORRELATION_ID),
            trace_parent=trace_parent,
        )
        lane = None
        if self.operation.kind == "stream":
            stream_id = headers.get(envelope.STREAM_ID) or self._platform.clock.new_id()
            subject = subjects.live(self.operation.domain, stream_id)
            lane = Lane(self._platform.connection, subject)
        return Context(
            self._platform, principal, origin, reach=reach, deadline_ms=deadline_ms, lane=lane,
            boundary=None if self.operation.commits_itself else Boundary(),
            key=key_in(headers) if self.operation.idempotent else None,
        )  # fmt: skip

    async def _once(self, context: Context, data: bytes) -> Once | None:
        if context.key is None or self.operation.commits_itself:
            return None
        digest = hashlib.sha256(self.operation.name.encode() + b"\0" + data).hexdigest()
        once = Once(context.principal.id, context.key, digest)
        before = await context.database.row(FIND_ANSWER, once.actor, once.key)
        if before is not None:
            once.replay(before)
        context.use(once)
        return once

    def _refuse(self, problem: Problem) -> tuple[bytes, dict[str, str]]:
        return refusal(problem, self._platform.clock.now())

    def _log_failure(self, broken: Exception, message: Msg, trace_parent: str) -> None:
        telemetry.log().error(
            "operation failed",
            operation=self.operation.name,
            request_id=(message.headers or {}).get(envelope.REQUEST_ID),
            trace=telemetry.trace_id(trace_parent),
            exc_info=broken,
        )


def thing_of(operation: Operation[Any, Any]) -> str | None:
    """The field of the request that names its thing: the one parameter of the path."""
    parameters = operation.route.parameters if operation.route else ()
    return parameters[0] if len(parameters) == 1 else None


async def commit(context: Context, once: Once | None, body: bytes, version: str | None) -> None:
    """Commit the handler's transaction, if it opened one, together with its answer."""
    transaction = context.transaction_open
    if transaction is None:
        return
    if once is not None:
        await transaction.execute(KEEP_ANSWER, once.actor, once.key, body.decode(), version)
    faults.point("before-commit")
    context.transaction_open = None
    await transaction.commit()


def queued(operation: Operation[Any, Any]) -> Handler:
    """The handler of a task operation's request: queue the work, answer with the job."""

    async def queue(command: Schema, context: Context) -> Schema:
        job_id = context.new_id()
        async with context.transaction() as tx:
            await tx.enqueue(recording.Task(operation, command), job_id=job_id)
            row = await tx.row(recording.JOB, job_id)
        assert row is not None
        work: Schema = operation.reply.model_validate(dict(row))
        return work

    return queue


def key_in(headers: envelope.Headers) -> str | None:
    """The idempotency key of a request, if it has one.

    Raises:
        Malformed: It is empty or too long.
    """
    key = headers.get(envelope.IDEMPOTENCY_KEY)
    if key is not None and not 0 < len(key) <= KEY_BYTES_MAX:
        raise Malformed(f"An Idempotency-Key has 1 to {KEY_BYTES_MAX} characters.")
    return key


def versioned(version: str | None) -> dict[str, str]:
    """The header that becomes an ETag."""
    return {envelope.VERSION: version} if version else {}
