"""A message is kept by whoever works on it: a beat every 3 s, until the work ends."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from bus.background import forever

BEAT_S = 3.0


class LeaseLost(Exception):
    """Another worker holds the job now, or it was cancelled."""


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
