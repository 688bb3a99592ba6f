"""The bounded queue between the feed and one reader, and what to do when it is full.

The feed never waits: a reader whose queue is full is told the last position that it was sent and
is let go; it comes back with that position and loses nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from edge.feed import Feed, Gap, Happened, Watch

QUEUE_MAX = 256


class Overflow(Exception):
    """The reader is too slow."""


class Outbox:
    """Frames for one reader, at most 256 waiting."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, str | None]] = deque()
        self._wake, self._taken = asyncio.Event(), asyncio.Event()
        self.overflowed = False
        self.sent = ""
        self._broken: Exception | None = None

    def put(self, frame: str, position: str | None = None) -> None:
        """Queue a frame without waiting; from the first that does not fit on, nothing is taken."""
        if self.overflowed or len(self._waiting) >= QUEUE_MAX:
            self.overflowed = True
        else:
            self._waiting.append((frame, position))
        self._wake.set()

    def event(self, topic: str, happened: Happened) -> None:
        """Queue an event."""
        self.put(happened.frame(topic), happened.position)

    def fail(self, broken: Exception) -> None:
        """No more will come; the reader is told why after everything that was taken."""
        self._broken = broken
        self._wake.set()

    async def next(self) -> tuple[str, str | None]:
        """The next frame and its position.

        Raises:
            Overflow: Everything that was taken is sent, and something was not taken.
            Exception: Everything that was taken is sent, and whoever wrote has failed.
        """
        while not self._waiting:
            if self.overflowed:
                raise Overflow
            if self._broken is not None:
                raise self._broken
            self._wake.clear()
            await self._wake.wait()
        self._taken.set()
        return self._waiting.popleft()

    async def room(self) -> None:
        """Wait until at most half of the queue is used: how a replay is slowed to its reader."""
        while len(self._waiting) > QUEUE_MAX // 2 and not self.overflowed:
            self._taken.clear()
            await self._taken.wait()


async def join(feed: Feed, watch: Watch, outbox: Outbox, since: str) -> None:
    """Bring a watch up to date from `since` and add it to the feed, without loss or double.

    Raises:
        Gap: Not everything behind `since` is there; the watch is not added.
    """

    def put(happened: Happened) -> None:
        topic = watch.topic_for(happened)
        if topic is not None:
            watch.put(topic, happened)

    at = since
    async for happened in feed.catch_up(since):
        put(happened)
        at = happened.position
        await outbox.room()
    for happened in feed.rest(at):  # from here to `add` nothing is awaited
        put(happened)
    feed.add(watch)


async def join_or_tell(
    feed: Feed, watch: Watch, outbox: Outbox, since: str, tell: Callable[[Gap], Any]
) -> None:
    """Join; after a gap the reader is told and goes on with what happens from now."""
    try:
        await join(feed, watch, outbox, since)
    except Gap as gap:
        tell(gap)
        feed.add(watch)
