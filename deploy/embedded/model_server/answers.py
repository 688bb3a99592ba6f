"""How an answer leaves: one JSON body, or JSON lines while it is being made.

The status line waits for the first event, so a refusal still gets its own HTTP status; a failure
after that becomes an `{"error"}` line. A reader that goes away is noticed at once, streaming or
not, and the work behind the answer is cancelled with it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

import orjson
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from deploy.embedded.model_server.errors import ApiError

Event = dict[str, Any]


class Answer(Response):
    """Sends `events` as they come, or folded into one body."""

    def __init__(self, events: AsyncGenerator[Event, None], *, stream: bool) -> None:
        super().__init__(media_type="application/x-ndjson")
        self._events = events
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or stop when its client is gone."""
        work = asyncio.create_task(self._answer(scope, receive, send))
        gone = asyncio.create_task(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._events) as events:
            if self._stream:
                await self._send_lines(events, send)
            else:
                whole = fold([event async for event in events])
                await JSONResponse(whole)(scope, receive, send)

    async def _send_lines(self, events: AsyncGenerator[Event, None], send: Send) -> None:
        first = await anext(events)
        status = {
            "type": "http.response.start",
            "status": 200,
            "headers": self.raw_headers,
        }
        await send({**status, "headers": _without_length(self.raw_headers)})
        await _send_line(send, first)
        try:
            async for event in events:
                await _send_line(send, event)
        except ApiError as error:
            await _send_line(send, {"error": error.message})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def fold(events: list[Event]) -> Event:
    """One body from a stream: the last event, with the text and tool calls of all."""
    whole = dict(events[-1])
    if "response" in whole:
        whole["response"] = "".join(event["response"] for event in events)
    if "message" in whole:
        message = dict(whole["message"])
        message["content"] = "".join(event["message"]["content"] for event in events)
        calls = [call for event in events for call in event["message"].get("tool_calls", ())]
        whole["message"] = {**message, "tool_calls": calls} if calls else message
    return whole


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send_line(send: Send, event: Event) -> None:
    line = orjson.dumps(event) + b"\n"
    await send({"type": "http.response.body", "body": line, "more_body": True})


def _without_length(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [header for header in headers if header[0] != b"content-length"]
