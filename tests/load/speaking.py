"""Models that answer at a steady pace: lanes of tokens, written through the API of `ctx.lane`.

Each token is its number and the moment it was said. Number 0 is said at once, so that readers find
the lane; the others once a line comes in.
"""

import asyncio
import sys
import time

import nats
import uvloop

from bus import subjects
from bus.live import Lane
from schemas.models import TokenChunk

IN_A_ROW = 3


async def speak(lane: Lane, began: float, per_s: float, tokens: int) -> None:
    """Every token at its time, three in a row as servers write them when they have them."""
    for number in range(1, tokens + 1):
        if number % IN_A_ROW == 1:
            await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
        lane.send(TokenChunk(text=f"{number} {time.perf_counter()}"))
    await lane.end(b'{"text":""}')


async def main(url: str, seed: str, per_s: float, tokens: int, ids: list[str]) -> None:
    """All lanes to their ends."""
    connection = await nats.connect(url, nkeys_seed=seed, inbox_prefix="_INBOX.models")
    lanes = [Lane(connection, subjects.live("models", one)) for one in ids]
    for lane in lanes:
        lane.send(TokenChunk(text="0 0"))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.perf_counter()
    spread_s = IN_A_ROW / per_s / len(lanes)
    await asyncio.gather(
        *(speak(lane, began + i * spread_s, per_s, tokens) for i, lane in enumerate(lanes))
    )
    await connection.flush()
    await connection.close()


if __name__ == "__main__":
    _, url, seed, per_s, tokens, *ids = sys.argv
    uvloop.run(main(url, seed, float(per_s), int(tokens), ids))
