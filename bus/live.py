"""The lane of tokens: short-lived, in memory, resumable, and never waited for.

Facts are events. What flows between two facts (model tokens, log lines, progress) goes to
`live.<domain>.<id>` in the memory stream LIVE, several chunks to a message, so that any number of
readers can join late or come back with the sequence that they have seen. The last message carries
the header `x-end` and the final answer.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from nats.aio.client import Client as Connection
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, DeliverPolicy

from schemas.contract import Schema

COALESCE_S = 0.03
CHUNKS_MAX = 200
STREAM = "LIVE"
END = "x-end"
FAILED = "failed"


class Lane:
    """One stream being written. `send` only remembers; a timer writes every 30 ms."""

    def __init__(self, connection: Connection, subject: str) -> None:
        self._connection = connection
        self.subject = subject
        self._chunks: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: set[asyncio.Task[None]] = set()

    def send(self, chunk: Schema) -> None:
        """Queue one chunk."""
        self._chunks.append(chunk.model_dump_json().encode())
        if len(self._chunks) >= CHUNKS_MAX:
            self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(COALESCE_S, self._write)

    def _write(self) -> None:
        self._stop_timer()
        if self._chunks:
            body, self._chunks = b"\n".join(self._chunks), []
            task = asyncio.create_task(self._publish(body, {}))
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def end(self, reply: bytes, *, failed: bool = False) -> None:
        """Write what is left, then the final answer, or the problem that ended it."""
        self._write()
        if self._writing:
            await asyncio.wait(self._writing)
        await self._publish(reply, {END: FAILED if failed else "1"})

    async def _publish(self, body: bytes, headers: dict[str, str]) -> None:
        try:
            await self._connection.publish(self.subject, body, headers=headers)
        except NatsError:
            return  # a lost token is a gap in a preview; the fact follows as an event

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@dataclass(frozen=True, slots=True)
class Chunks:
    """One message of a lane: JSON chunks, or the final answer when `end` is set.

    `failed` says that the answer is a problem.
    """

    sequence: int
    lines: tuple[bytes, ...]
    end: bool
    failed: bool = False


async def read(connection: Connection, subject: str, after: int = 0) -> AsyncIterator[Chunks]:
    """Every message of a lane behind sequence `after`, until its end."""
    queue: asyncio.Queue[Chunks] = asyncio.Queue(maxsize=1000)

    async def put(message: object) -> None:
        await queue.put(chunks_of(message))

    subscription = await connection.jetstream().subscribe(
        subject,
        stream=STREAM,
        ordered_consumer=True,
        cb=put,
        config=ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=after + 1
        ),
    )
    try:
        while True:
            chunks = await queue.get()
            yield chunks
            if chunks.end:
                return
    finally:
        await subscription.unsubscribe()


def chunks_of(message: object) -> Chunks:
    """Read a message of the stream LIVE."""
    headers = getattr(message, "headers", None) or {}
    data: bytes = message.data  # type: ignore[attr-defined]
    sequence: int = message.metadata.sequence.stream  # type: ignore[attr-defined]
    if headers.get(END):
        return Chunks(sequence, (data,), end=True, failed=headers[END] == FAILED)
    return Chunks(sequence, tuple(data.split(b"\n")), end=False)
