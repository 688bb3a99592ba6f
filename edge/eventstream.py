"""`GET /events/stream`: the event feed as server-sent events, with the same frames as a socket.

    id: <position>    event: event | hello | gap | error    data: one JSON object

`?type=&goal_id=…` filter it as a socket's filter does; `Last-Event-ID` (or `?since=`) resumes.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import orjson
from pydantic import ValidationError

from bus.rights import Rights
from edge import answers, eventsource, topics
from edge.command import parameters
from edge.exchange import Call
from edge.feed import Feed, Gap, Watch
from edge.sight import sees
from edge.topics import Filter
from edge.watching import Outbox, Overflow, join_or_tell
from schemas.contract import Json
from schemas.problems import Malformed, malformed


class EventStreamDoor:
    """All events, filtered, as they happen."""

    name = "events.stream"
    open = False
    public = False
    may: str | None = topics.PERMISSIONS[topics.ALL]

    def __init__(self, feed: Feed, rights: Rights) -> None:
        self._feed, self._rights = feed, rights

    async def answer(self, call: Call) -> None:
        """Send events until the reader leaves or is too slow."""
        pairs = parameters(call.scope["query_string"])
        query = dict(pairs)
        if len(query) != len(pairs):
            raise Malformed("The query names a field twice.")
        since = query.pop("since", None) or call.exchange.header(b"last-event-id")
        try:
            wanted = Filter.model_validate(query, strict=True).wanted()
        except ValidationError as bad:
            raise malformed(bad) from None
        if since is not None:
            since = self._checked(since)
        await eventsource.send_all(call, self._events(call, wanted, since))

    def _checked(self, since: str) -> str:
        try:
            self._feed.parse(since)
        except Gap:
            return since  # told in the stream itself
        return since

    async def _events(
        self, call: Call, wanted: dict[str, str], since: str | None
    ) -> AsyncIterator[bytes]:
        outbox, sight = Outbox(), partial(sees, self._rights, call.principal)
        watch = Watch({topics.ALL}, wanted, outbox.event, sight)
        hello = {"op": "hello", "position": self._feed.position}
        yield answers.sse("hello", orjson.dumps(hello))
        joining = asyncio.create_task(self._join(watch, outbox, since))
        try:
            while True:
                frame, position = await outbox.next()
                yield answers.sse(op_of(frame), frame.encode(), position)
        except Overflow:
            yield answers.sse("error", b'{"op":"error","code":"ERR_400","message":"too slow"}')
        finally:
            joining.cancel()
            self._feed.remove(watch)

    async def _join(self, watch: Watch, outbox: Outbox, since: str | None) -> None:
        """Beside the sending: what is replayed waits for room in the outbox."""

        def tell(gap: Gap) -> None:
            outbox.put(orjson.dumps(gap_frame(gap)).decode(), gap.now)

        try:
            if since is None:
                self._feed.add(watch)
            else:
                await join_or_tell(self._feed, watch, outbox, since, tell)
        except Exception as broken:
            outbox.fail(broken)


def op_of(frame: str) -> str:
    """What a frame says first of itself; the name of its server-sent event."""
    return frame.split('"', 4)[3]


def gap_frame(gap: Gap) -> Json:
    """What a reader is told whose position cannot be resumed from."""
    return {"op": "gap", "from": gap.since, "to": gap.now, "position": gap.now}
