"""Requests over HTTP, and the doors of the operations, derived from the catalogue.

    match -> authenticate -> limit -> authorise on the route -> read -> ask the bus -> answer

The reply's bytes are passed through unparsed. Whoever has no valid key gets 401 for everything but
the few open and public doors, so nobody learns without one which paths exist.
"""

from functools import partial
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from bus import faults
from bus.client import Answer
from bus.clock import Clock
from bus.lifecycle import Health
from bus.rights import Rights
from edge import answers, exchange
from edge.asking import Asking
from edge.authentication import Authentication
from edge.command import Reader, discard
from edge.exchange import Call, RawHeaders
from edge.limits import Limiter
from edge.routes import Door, Routes
from edge.uses import Uses
from schemas.contract import Operation, Problem
from schemas.principal import ANONYMOUS, Principal
from schemas.problems import (
    Denied,
    Draining,
    Malformed,
    MethodNotAllowed,
    NotFound,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
)

PREFIX = "/api/v1"
EVENT_STREAM = "text/event-stream"


class Front:
    """The ASGI application behind `Access`: every path over HTTP."""

    def __init__(
        self,
        routes: Routes,
        authentication: Authentication,
        limiter: Limiter,
        rights: Rights,
        uses: Uses,
        clock: Clock,
        health: Health,
    ) -> None:
        self._routes = routes
        self._rights = rights
        self._uses = uses
        self._authentication = authentication
        self._limiter = limiter
        self._clock = clock
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        seen = exchange.of(scope)
        call = Call(scope, receive, send, seen)
        try:
            await self._answer(call)
        except Problem as problem:
            if seen.status:
                raise  # the response has begun: all that is left is to break it off
            if isinstance(problem, TooLarge | UnsupportedMediaType):
                await discard(call)
            await answers.refuse(send, problem, seen, self._clock.now())

    async def _answer(self, call: Call) -> None:
        found = self._match(call)
        if isinstance(found, Problem) or not (found.open or found.public):
            await self._identify(call)
        if isinstance(found, Problem):
            if call.scope["method"] != "OPTIONS" or not isinstance(found, MethodNotAllowed):
                raise found
            allow = ", ".join(found.details["allow"]).encode()
            await answers.bodiless(call.send, 204, [(b"allow", allow)])
            return
        if found.public:
            await self._admit_anybody(call)
        elif not found.open:
            if self._health.draining and EVENT_STREAM in (call.exchange.header(b"accept") or ""):
                raise Draining  # what would last is better begun elsewhere
            self._authorise(call, found)
            still = partial(self._may_still, call, found)
            call.lost = partial(self._authentication.lost, call.exchange, still)
        call.exchange.decision = "allow"
        await found.answer(call)

    def _match(self, call: Call) -> Door | Problem:
        """The door, or the problem that is told only to those who are known."""
        path: bytes = call.scope["raw_path"]
        try:
            door, call.parameters, place = self._routes.match(call.scope["method"], path[1:])
        except (NotFound, MethodNotAllowed) as problem:
            return problem
        seen = call.exchange
        seen.operation, seen.route, seen.permission = door.name, place, door.may
        seen.resource_id = call.parameters.get("id", "")
        return door

    async def _identify(self, call: Call) -> None:
        seen = call.exchange
        call.known = principal = await self._authentication.of_request(seen)
        seen.actor, seen.via = principal.id, principal.via
        seen.credential = principal.credential or "-"
        self._uses.note(principal)
        seen.added = await self._limiter.admit(self._limiter.of_principal(principal, seen.address))

    async def _admit_anybody(self, call: Call) -> None:
        """Whoever it is counts as unknown: a public door looks at no credential."""
        seen = call.exchange
        call.known = ANONYMOUS
        seen.actor = ANONYMOUS.id
        seen.added = await self._limiter.admit(self._limiter.of_address(seen.address))

    def _authorise(self, call: Call, door: Door) -> None:
        """Raises Denied unless the caller may pass this door for one thing at least."""
        if call.principal.run is not None and not for_runs(door):
            raise Denied("An agent's run may not call this.")
        if self._rights.reach(call.principal, door.may).nothing:
            raise Denied(permission=door.may)

    def _may_still(self, call: Call, door: Door, principal: Principal) -> bool:
        """Whether what was begun may go on; other rights than at its beginning are a new one's."""
        return principal == call.known and not self._rights.reach(principal, door.may).nothing


def for_runs(door: Door) -> bool:
    """Whether the door opens for an agent in its run."""
    return isinstance(door, OperationDoor) and door.operation.runs == "directly"


class OperationDoor:
    """One operation of the catalogue."""

    open = False

    def __init__(self, operation: Operation[Any, Any], asking: Asking) -> None:
        assert operation.route is not None
        self.operation = operation
        self.name = operation.name
        self.may = operation.may
        self.public = operation.public
        self._asking = asking
        self._reader = Reader(operation)
        self._status = operation.route.status
        self._versioned = "version" in operation.request.model_fields

    async def answer(self, call: Call) -> None:
        """Read, ask, pass the answer on."""
        command = await self.read(call)
        faults.point("before-asking")
        answer = await self.ask(call, command)
        faults.point("after-answer-before-response")
        await self.pass_on(call, answer)

    async def read(self, call: Call) -> bytes:
        """The command of a JSON request."""
        values = await self._reader.read(call)
        self._match_version(call, values)
        return self._reader.command(values)

    def _match_version(self, call: Call, values: dict[str, Any]) -> None:
        text = call.exchange.header(b"if-match")
        if text is None:
            return
        if not self._versioned:
            raise Malformed("This operation does not take If-Match.")
        version = text.strip().strip('"')
        if not version.isdigit():
            raise PreconditionFailed("If-Match does not name a version.")
        if values.setdefault("version", int(version)) != int(version):
            raise PreconditionFailed("If-Match and the body name different versions.")

    async def ask(self, call: Call, command: bytes) -> Answer:
        """Ask the bus; a lost race under If-Match is a failed precondition."""
        try:
            return await self._asking.ask(call, self.operation, command)
        except Problem as problem:
            if problem.code == "ERR_111" and b"if-match" in call.exchange.headers:
                raise PreconditionFailed(**dict(problem.details)) from None
            raise

    async def pass_on(self, call: Call, answer: Answer) -> None:
        """Send the reply with what HTTP adds to it."""
        headers: RawHeaders = [*answers.JSON]
        if answer.version is not None:
            tag = answers.etag(answer.version)
            headers.append((b"etag", tag))
            if call.scope["method"] in ("GET", "HEAD") and matches(call, tag):
                await answers.bodiless(call.send, 304, [(b"etag", tag)])
                return
        if answer.replayed:
            headers.append((b"idempotency-replayed", b"true"))
        if self.operation.kind == "task":
            job_id = orjson.loads(answer.body)["id"]
            headers.append((b"location", f"{PREFIX}/jobs/{job_id}".encode()))
        await answers.reply(call.send, self._status, answer.body, headers)


def matches(call: Call, tag: bytes) -> bool:
    """Whether If-None-Match names the current version."""
    wanted = call.exchange.headers.get(b"if-none-match")
    if wanted is None:
        return False
    tags = [t.strip().removeprefix(b"W/") for t in wanted.split(b",")]
    return tag in tags or b"*" in tags
