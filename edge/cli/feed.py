"""Events as they happen: server-sent events that survive broken connections and restarts.

    hello  the edge is listening for us   ─► what happened before is read from the log, if wanted
    gap    it cannot go on where we were  ─► the same
    event  with a position: coming back with it as `Last-Event-ID`, the edge goes on behind it

An event that comes both ways, or twice, is given once.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from edge.cli.derived import items
from edge.cli.door import Door, Refusal
from edge.cli.place import NotRunning
from schemas import events

STREAM = "/events/stream"
SILENCE_S_MAX = 60.0
BACKOFF_S = 0.3
BACKOFF_S_MAX = 5.0
SEEN_MAX = 50_000

ARRIVING_MAX = 10_000

Happened = dict[str, Any]
OPENED: Happened = {}


def of_log(stored: Mapping[str, Any]) -> Happened:
    """An entry of the log in the form of the feed; its place there is `log_seq`."""
    return {
        "log_seq": stored["seq"], "id": stored["event_id"], "type": stored["type"],
        "ts": stored["occurred_at"], "category": stored["category"], "actor": stored["actor"],
        "entity_id": stored["aggregate_id"], "correlation_id": stored["correlation_id"],
        "data": stored["payload"],
    }  # fmt: skip


def of_frame(text: str) -> Happened:
    """An event of the feed, without what only a socket needs."""
    frame: Happened = json.loads(text)
    return {name: value for name, value in frame.items() if name not in ("op", "topic")}


class Feed:
    """The events that fit `filters`, each once, over as many connections as it takes.

    `from_log` names what the log is asked for at every connection: with it nothing is missed
    even when the edge has forgotten the position.
    """

    def __init__(
        self, door: Door, filters: Mapping[str, Any], *, since: str | None = None,
        from_log: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self._door = door
        self._filters = dict(filters)
        self._position = since
        self._from_log = from_log
        self._seen: dict[str, None] = {}
        self.connected = False
        self.reason = ""

    async def events(self) -> AsyncGenerator[Happened, None]:
        """Events for ever.

        Raises:
            Refusal: The edge does not allow it.
            NotRunning: Nobody answered at the very first attempt.
        """
        failures, ever = 0, False
        while True:
            try:
                async for event in self._once():
                    failures, ever = 0, True
                    yield event
                self.reason = "the edge ended the stream"
            except NotRunning as broken:
                if not ever and not self.connected:
                    raise
                self.reason = str(broken)
            except Refusal as refusal:
                if not refusal.retryable:
                    raise
                self.reason = str(refusal)
            self.connected, ever = False, True
            failures += 1
            await asyncio.sleep(min(BACKOFF_S * failures, BACKOFF_S_MAX))

    async def _once(self) -> AsyncGenerator[Happened, None]:
        """One connection; when it is open, first what may have been missed before."""
        arriving: asyncio.Queue[Happened | None] = asyncio.Queue(ARRIVING_MAX)
        reading = asyncio.create_task(self._read(arriving))
        try:
            while (event := await arriving.get()) is not None:
                if event is OPENED and self._from_log is not None:
                    async for stored in items(self._door, events.query, self._from_log):
                        if self._is_new(missed := of_log(stored)):
                            yield missed
                elif event is not OPENED and self._is_new(event):
                    yield event
            await reading
        finally:
            reading.cancel()

    async def _read(self, arriving: asyncio.Queue[Happened | None]) -> None:
        headers = {"last-event-id": self._position} if self._position else {}
        source = self._door.sse(
            "GET", STREAM, query=self._filters, headers=headers, silence_s=SILENCE_S_MAX
        )
        try:
            async for event in source:
                self.connected = True
                self._position = event.id or self._position
                if event.event in ("hello", "gap"):
                    self._position = self._position or json.loads(event.data).get("position")
                    await arriving.put(OPENED)
                elif event.event == "event":
                    await arriving.put(of_frame(event.data))
        finally:
            with contextlib.suppress(asyncio.QueueFull):
                arriving.put_nowait(None)

    def _is_new(self, event: Happened) -> bool:
        mark = str(event.get("id"))
        if mark in self._seen:
            return False
        self._seen[mark] = None
        if len(self._seen) > SEEN_MAX:
            del self._seen[next(iter(self._seen))]
        return True
