"""Time that jumps to what is due next, and processes that die in the middle of anything."""

import asyncio
import random
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

BEGAN = datetime(2026, 11, 23, tzinfo=UTC)
LATENCY_S = 0.01


class Dead(BaseException):
    """This process is no more; nothing that it still wants to do happens."""


class Stuck(Exception):
    """Nothing is due and nothing will be."""


class Clockwork(asyncio.BaseEventLoop):
    """An event loop without a wait: when nothing can be done now, it is later."""

    def __init__(self) -> None:
        super().__init__()
        self.at = 0.0
        self._selector = self
        self.set_exception_handler(lambda loop, context: None)

    def time(self) -> float:
        return self.at

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Stuck
        self.at += timeout
        return []

    def _process_events(self, events: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


class SimulatedClock:
    """Time and ids of one schedule."""

    def __init__(self, loop: Clockwork, draw: random.Random) -> None:
        self._loop, self._draw = loop, draw

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self._loop.at)

    def unix_ms(self) -> int:
        return int(self.now().timestamp() * 1000)

    def new_id(self) -> str:
        return str(UUID(int=self._draw.getrandbits(128)))


class Node:
    """One process: everything it starts ends with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.asleep_until = 0.0
        self.tasks: dict[asyncio.Task[Any], None] = {}  # in their order: a seed repeats it

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        context = copy_context()
        context.run(NODE.set, self)
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
        return task


NODE: ContextVar[Node | None] = ContextVar("NODE", default=None)
"""Whose code runs; None outside of every process."""
