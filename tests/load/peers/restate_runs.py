"""Restate's side that we would write: a service that its server calls for each run."""

import asyncio
import sys

import restate
from hypercorn.asyncio import serve
from hypercorn.config import Config

bench = restate.Service("Bench")


async def nothing() -> int:
    """A step."""
    return 1


@bench.handler()
async def run(ctx: restate.Context, n: int) -> int:
    """A run of three."""
    for step in "abc":
        n = await ctx.run_typed(step, nothing)
    return n


config = Config()
config.bind = [f"127.0.0.1:{sys.argv[1]}"]
config.loglevel = "ERROR"
asyncio.run(serve(restate.app([bench]), config))
