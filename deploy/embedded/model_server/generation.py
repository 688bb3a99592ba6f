"""A generation as a stream of events: the bridge from the engine's thread to the event loop.

Free text is passed on piece by piece. Constrained text arrives whole, because it is only known to
be valid at its end; it is then cut into small pieces, so that readers of a stream see no
difference. The pieces in flight are bounded by the context: at most one a token.
"""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from deploy.embedded.model_server.constrain import Constraint, constrained
from deploy.embedded.model_server.engine import ChatEngine, Completion, Outcome
from deploy.embedded.model_server.gate import Gate
from deploy.embedded.model_server.journal import say

PIECE_CHARS = 16


@dataclass(frozen=True)
class Finished:
    """The end of a generation; `waited_ns` is the time in the queue, `total_ns` includes it."""

    outcome: Outcome
    waited_ns: int
    total_ns: int


async def generate(
    gate: Gate, engine: ChatEngine, asked: Completion, constraint: Constraint | None
) -> AsyncGenerator[str | Finished, None]:
    """Yield pieces of text and last a Finished; raises ApiError. Closing it cancels the engine."""
    begun = time.monotonic_ns()
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    cancelled = threading.Event()

    def put(piece: str | None) -> None:
        loop.call_soon_threadsafe(pieces.put_nowait, piece)

    def work() -> Outcome:
        try:
            if constraint is None:
                return engine.complete(asked, put, cancelled)
            return constrained(engine, asked, constraint, cancelled)
        finally:
            put(None)
            _note(begun, cancelled)

    try:
        running = await gate.start(work)
        waited_ns = time.monotonic_ns() - begun
        while (piece := await pieces.get()) is not None:
            yield piece
        outcome = await running
    finally:
        cancelled.set()
    if constraint is not None:
        for start in range(0, len(outcome.text), PIECE_CHARS):
            yield outcome.text[start : start + PIECE_CHARS]
    yield Finished(outcome, waited_ns, time.monotonic_ns() - begun)


def _note(begun: int, cancelled: threading.Event) -> None:
    seconds = (time.monotonic_ns() - begun) / 1e9
    say("generation ended", seconds=round(seconds, 3), cancelled=cancelled.is_set())
