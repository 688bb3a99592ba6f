"""Tokens of models for those who watch `llm.stream`: seen as they pass, never kept.

One plain subscription on `live.models.*` while anybody watches. Tokens have no position here; a
reader that must not miss one reads `/streams/models/{id}`.
"""

from typing import Any

import orjson
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg

from bus.live import END
from edge import topics
from edge.feed import Watch
from edge.watching import Outbox

SUBJECT = "live.models.*"


class Tokens:
    """Who watches tokens in this process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watches: dict[Watch, Outbox] = {}
        self._subscription: Any = None

    async def add(self, watch: Watch, outbox: Outbox) -> None:
        """From now on."""
        self._watches[watch] = outbox
        if self._subscription is None:
            self._subscription = await self._connection.subscribe(SUBJECT, cb=self._take)

    def remove(self, watch: Watch) -> None:
        """No more."""
        self._watches.pop(watch, None)

    async def _take(self, message: Msg) -> None:
        if not self._watches:
            subscription, self._subscription = self._subscription, None
            await subscription.unsubscribe()
            return
        stream_id = message.subject.rpartition(".")[2]
        frame = frame_of(stream_id, message)
        for watch, outbox in self._watches.items():
            wanted = watch.wanted.get("stream_id", stream_id)
            if topics.TOKENS in watch.topics and wanted == stream_id:
                outbox.put(frame)


def frame_of(stream_id: str, message: Msg) -> str:
    """A few tokens, or the final answer, as a frame."""
    end = END in (message.headers or {})
    lines = [message.data] if end else message.data.split(b"\n")
    data = b"%s" % (lines[0] if end else b"[" + b",".join(lines) + b"]")
    head = {"op": "event", "topic": topics.TOKENS, "stream_id": stream_id, "end": end}
    return (orjson.dumps(head)[:-1] + b',"data":' + data + b"}").decode()
