"""A bounded queue in front of a model.

    request --> [ waiting, at most 32 ] --> [ slots ] --> a worker thread

A full queue refuses at once (503), so that load shows as an error and not as a growing delay. A
slot is given back when the thread has really ended, not when the client went away: an abandoned
computation still occupies its core.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from deploy.embedded.model_server.errors import ApiError

WAITING_MAX = 32

T = TypeVar("T")


class Gate:
    """`slots` worker threads and a bounded number of requests that wait for one."""

    def __init__(self, name: str, slots: int) -> None:
        self._free = asyncio.Semaphore(slots)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix=name)
        self._waiting = 0

    async def start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Wait for a slot and run `work` in its thread; raises ApiError 503 if too many wait."""
        if self._waiting >= WAITING_MAX:
            raise ApiError(503, f"server busy: {WAITING_MAX} requests are already waiting")
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        running.add_done_callback(self._release)
        return running

    def _release(self, done: asyncio.Future[T]) -> None:
        self._free.release()
        if not done.cancelled():
            done.exception()  # Marks it as seen: nobody may be left to ask for it.
