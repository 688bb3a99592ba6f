"""Work that a process repeats for as long as it lives, and that no failure may end.

A loop that dies of an exception nobody foresaw dies in silence: the process looks healthy and its
outbox fills. So every such loop is one call of `forever`, which logs, counts and goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from bus import telemetry
from schemas.contract import Problem

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
