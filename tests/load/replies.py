"""A responder as plain as nats-py can be: what our request-reply is compared with."""

import asyncio
import sys

import nats
import uvloop

SUBJECT = "bench.raw"
BODY = b'{"id":"admin","kind":"key","roles":["admin"],"scopes":[],"via":null}'


async def main(url: str, seed: str) -> None:
    """Answer until killed."""
    connection = await nats.connect(url, nkeys_seed=seed)

    async def answer(message: object) -> None:
        await message.respond(BODY)  # type: ignore[attr-defined]

    await connection.subscribe(SUBJECT, cb=answer)
    await connection.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
