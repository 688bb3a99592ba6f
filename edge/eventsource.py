"""Server-sent events over ASGI: keep-alive comments, and noticing that the reader has gone."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive

from edge import answers
from edge.exchange import Call

KEEP_ALIVE_S = 15.0
KEEP_ALIVE = b": keep-alive\n\n"


async def send_all(call: Call, events: AsyncIterator[bytes]) -> None:
    """Send events until they end, the reader leaves or may read no more."""
    headers, seen = answers.SSE_HEADERS, call.exchange
    seen.noticed(seen, "stream.open", "allow", path=seen.shown)
    await call.send({"type": "http.response.start", "status": 200, "headers": headers})
    left = asyncio.create_task(ended(call))
    following: asyncio.Task[bytes] | None = None
    try:
        while not left.done():
            following = following or asyncio.ensure_future(anext(events))
            await asyncio.wait(
                {left, following}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED
            )
            if following.done():
                try:
                    piece = following.result()
                except StopAsyncIteration:
                    break
                following = None
                await send(call, piece)
            elif not left.done():
                await send(call, KEEP_ALIVE)
        await call.send({"type": "http.response.body", "body": b""})
    finally:
        await stop(left, following)
        await events.aclose()  # type: ignore[attr-defined]


async def send(call: Call, piece: bytes) -> None:
    """One piece of the body."""
    await call.send({"type": "http.response.body", "body": piece, "more_body": True})


async def stop(*tasks: "asyncio.Task[bytes] | asyncio.Task[None] | None") -> None:
    """Cancel and wait."""
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def ended(call: Call) -> None:
    """Returns when the client has closed the connection or its credential is no longer good."""
    assert call.lost is not None
    gone, lost = asyncio.create_task(reader_left(call.receive)), asyncio.ensure_future(call.lost())
    try:
        await asyncio.wait({gone, lost}, return_when=asyncio.FIRST_COMPLETED)
        if lost.done():
            seen = call.exchange
            seen.noticed(seen, "stream.close", "deny", path=seen.shown)
    finally:
        await stop(gone, lost)


async def reader_left(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
