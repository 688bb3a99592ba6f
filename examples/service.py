"""A service to be registered: plain nats-py. NATS_URL=… NATS_NKEY=… python examples/service.py."""

import asyncio
import json
import os

import nats
from nats.aio.msg import Msg

FEET = 3.280839895


async def convert(request: Msg) -> None:
    metres = json.loads(request.data)["metres"]
    await request.respond(json.dumps({"feet": round(metres * FEET, 6)}).encode())


async def well(request: Msg) -> None:
    await request.respond(b"{}")


async def main() -> None:
    bus = await nats.connect(os.environ["NATS_URL"], nkeys_seed=os.environ.get("NATS_NKEY"))
    await bus.subscribe("tool.lengths.convert", queue="lengths", cb=convert)
    await bus.subscribe("tool.lengths.well", queue="lengths", cb=well)
    await asyncio.Event().wait()


asyncio.run(main())
