"""Work that a process repeats for as long as it lives, and that no failure may end.

A loop that dies of an exception nobody foresaw dies in silence: the process looks healthy and its
outbox fills. So every such loop is one call of `forever`, which logs, counts and goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import asyncpg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from bus import telemetry
from schemas.contract import Problem

CANCEL_AGAIN_S = 1.0
AWAY = (Problem, NatsError, JetStreamError, OSError, asyncpg.PostgresError)


async def forever(name: str, work: Callable[[], Awaitable[object]], every_s: float) -> None:
    """Do the work, pause, and begin again, until cancelled.

    A server that is away is a line in the log; anything else comes with its traceback.
    """
    while True:
        try:
            await work()
        except AWAY as away:
            failed(name, error=str(away))
        except Exception as failure:
            failed(name, exc_info=failure)
        await asyncio.sleep(every_s)


def failed(name: str, **why: object) -> None:
    """One round of the work was in vain."""
    telemetry.background_failures_total.labels(name).inc()
    telemetry.log().warning("background work failed", work=name, **why)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended.

    `asyncio.wait_for`, which the drivers use, swallows a cancellation that comes in the same
    moment as its result (until Python 3.12), so it is repeated.
    """
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=CANCEL_AGAIN_S)
        for task in done:
            if not task.cancelled() and (failure := task.exception()) is not None:
                telemetry.log().warning("background work ended badly", exc_info=failure)
