"""Stream operations over HTTP: tokens as server-sent events, resumable by `Last-Event-ID`.

    event: chunk   id: <sequence>.<n>   one piece, the n-th of its message
    event: end                          the operation's reply
    event: error                        the problem that ended it

The tokens come from the memory stream LIVE, so a reader that comes back, or a second one, reads
the same lane. A message of it holds several pieces; each has an id, so that whoever was cut off
between two of them gets the second next. A reader who leaves ends nothing: cancelling is an
operation.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from bus import live, subjects
from bus.client import Answer
from bus.live import Chunks
from bus.rights import Rights
from edge import answers, eventsource
from edge.asking import Asking
from edge.exchange import Call
from edge.rest import OperationDoor
from schemas.contract import KNOWN, Operation, Problem
from schemas.problems import Malformed, NotFound, Unavailable

EVENT_STREAM = b"text/event-stream"
LATE_TOKENS_S = 2.0
FAST_REFUSAL_S = 0.03
QUIET_S_MAX = 300.0
DIGITS_MAX = 18
NUMBERS_MAX = 2


class StreamDoor(OperationDoor):
    """A stream operation: plain JSON at its end, or its pieces as they come."""

    async def answer(self, call: Call) -> None:
        """`Accept: text/event-stream` asks for the pieces."""
        if EVENT_STREAM not in call.exchange.headers.get(b"accept", b""):
            await super().answer(call)
            return
        command = await self.read(call)
        stream_id = self._asking.clock.new_id()
        call.exchange.added = [
            *call.exchange.added,
            (b"x-stream-id", stream_id.encode()),
            (b"location", f"/api/v1/streams/{self.operation.domain}/{stream_id}".encode()),
        ]
        asked = asyncio.create_task(self._asking.ask(call, self.operation, command, stream_id))
        try:
            await asyncio.wait({asked}, timeout=FAST_REFUSAL_S)
            if asked.done() and asked.exception() is not None:
                asked.result()  # a refusal with its status, before any token
            await eventsource.send_all(call, self._events(call, asked, stream_id))
        finally:
            asked.cancel()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                await asked

    async def _events(
        self, call: Call, asked: "asyncio.Task[Answer]", stream_id: str
    ) -> AsyncIterator[bytes]:
        subject = subjects.live(self.operation.domain, stream_id)
        lane = live.read(self._asking.client.connection, subject)
        try:
            async for chunks in until_answered(lane, asked):
                for event in of_chunks(chunks):
                    yield event
            yield answers.sse("end", (await asked).body)
        except Problem as problem:
            yield of_problem(problem, call, self._asking)
        finally:
            await lane.aclose()  # type: ignore[attr-defined]


async def until_answered(
    lane: AsyncIterator[Chunks], asked: "asyncio.Task[Answer]"
) -> AsyncIterator[Chunks]:
    """The lane's messages until it ends, or until the operation has failed.

    When the answer is there and the lane has not ended, its rest may take 2 s more.
    """
    following: asyncio.Task[Chunks] | None = None
    waited_late = False
    try:
        while True:
            following = following or asyncio.ensure_future(anext(lane))
            late = asked.done()
            await asyncio.wait(
                {following} if late else {following, asked},
                timeout=LATE_TOKENS_S if late else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if following.done():
                chunks, following = following.result(), None
                if chunks.end:
                    return
                yield chunks
            elif waited_late or asked.exception() is not None:
                return
            waited_late = late
    finally:
        if following is not None:
            await eventsource.stop(following)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a reader has seen: so many pieces of this message, or all if none are counted."""

    sequence: int = 0
    pieces: int = 0

    @property
    def after(self) -> int:
        """The last message that is not wanted again."""
        return self.sequence - 1 if self.pieces else self.sequence

    def seen_of(self, chunks: Chunks) -> int:
        """How many pieces of this message are not wanted again."""
        return self.pieces if chunks.sequence == self.sequence else 0


def of_chunks(chunks: Chunks, seen: int = 0) -> list[bytes]:
    """The pieces of one message of a lane behind those that were seen."""
    return [
        answers.sse("chunk", line, f"{chunks.sequence}.{number}")
        for number, line in enumerate(chunks.lines, 1)
        if number > seen
    ]


def of_problem(problem: Problem, call: Call, asking: Asking) -> bytes:
    """The event that ends a stream badly."""
    body = problem.body(asking.clock.now())
    body["error"] |= {"path": call.exchange.path, "request_id": call.exchange.request_id}
    return answers.sse("error", orjson.dumps(body, default=str))


class ResumeDoor:
    """`GET /streams/{domain}/{id}`: a stream again, behind `Last-Event-ID`."""

    name = "streams.resume"
    open = False
    public = False

    def __init__(
        self, asking: Asking, streaming: tuple[Operation[Any, Any], ...], rights: Rights
    ) -> None:
        self._asking, self._rights = asking, rights
        self.permissions = {operation.domain: operation.may for operation in streaming}
        self.may: str | None = KNOWN

    async def answer(self, call: Call) -> None:
        """Whoever may start streams of this domain may read them."""
        domain, stream_id = call.parameters["domain"], call.parameters["id"]
        known = domain in self.permissions
        if not known or self._rights.reach(call.principal, self.permissions[domain]).nothing:
            raise NotFound
        subject = subjects.live(domain, stream_id)
        mark = last_event_id(call)
        await self._require(subject)
        await eventsource.send_all(call, self._events(subject, mark))

    async def _require(self, subject: str) -> None:
        try:
            info = await self._asking.client.connection.jetstream().stream_info(
                live.STREAM, subjects_filter=subject
            )
        except (NatsError, JetStreamError, TimeoutError, OSError) as broken:
            raise Unavailable("The bus is not reachable.") from broken
        if not info.state.subjects:
            raise NotFound("This stream is not there, or not any more.")

    async def _events(self, subject: str, mark: Mark) -> AsyncIterator[bytes]:
        lane = live.read(self._asking.client.connection, subject, mark.after)
        try:
            while True:
                async with asyncio.timeout(QUIET_S_MAX):
                    chunks = await anext(lane)
                if chunks.end:
                    name = "error" if chunks.failed else "end"
                    yield answers.sse(name, chunks.lines[0], str(chunks.sequence))
                    return
                for event in of_chunks(chunks, mark.seen_of(chunks)):
                    yield event
        except (StopAsyncIteration, TimeoutError):
            return
        finally:
            await lane.aclose()  # type: ignore[attr-defined]


def last_event_id(call: Call) -> Mark:
    """What the reader has seen.

    Raises:
        Malformed: It is no id of a stream.
    """
    text = call.exchange.header(b"last-event-id") or "0"
    numbers = text.split(".")
    if len(numbers) > NUMBERS_MAX or not all(map(is_number, numbers)):
        raise Malformed("Last-Event-ID is not one of this stream.")
    return Mark(*map(int, numbers))


def is_number(text: str) -> bool:
    """Of a length that a sequence can have."""
    return text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
