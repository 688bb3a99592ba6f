"""A tool for agents in plain nats-py. NATS_URL=… NATS_NKEY=… python examples/tool.py."""

import asyncio
import datetime as dt
import json
import os

import nats
import nats.micro

ABOUT = {
    "tool": "dates.weekday",
    "description": "Tell on which weekday a date such as 2026-11-23 falls.",
    "input_schema": json.dumps(
        {"type": "object", "required": ["date"], "properties": {"date": {"type": "string"}}}
    ),
    "repeatable": "true",
}


async def weekday(request: nats.micro.Request) -> None:
    try:
        date = dt.date.fromisoformat(json.loads(request.data)["date"])
        await request.respond(json.dumps({"weekday": f"{date:%A}"}).encode())
    except (KeyError, ValueError) as bad:
        await request.respond_error("400", str(bad))


async def main() -> None:
    bus = await nats.connect(os.environ["NATS_URL"], nkeys_seed=os.environ.get("NATS_NKEY"))
    service = await nats.micro.add_service(bus, name="dates", version="1.0.1")
    await service.add_endpoint(
        name="weekday", subject="tool.dates.weekday", handler=weekday, metadata=ABOUT
    )
    await service.stopped.wait()


asyncio.run(main())
