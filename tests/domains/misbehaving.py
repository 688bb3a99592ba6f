"""Model servers that misbehave: each speaks just enough of Ollama's protocol to do its harm."""

import asyncio
import contextlib

import orjson


def line(text="", **fields):
    """One line of a chat stream."""
    message = {"role": "assistant", "content": text, **fields.pop("message", {})}
    return orjson.dumps({"model": "m", "message": message, "done": False, **fields}) + b"\n"


END = line(done=True, done_reason="stop", prompt_eval_count=2, eval_count=3)


class Misbehaving:
    """An HTTP server whose chat answers are written by `chat(writer, body)`."""

    def __init__(self, chat):
        self.chat = chat
        self.bodies, self.now, self.most, self.left = [], 0, 0, 0

    async def serve(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length: ")[2].split("\r\n")[0] or 0)
            body = orjson.loads(await reader.readexactly(length) or b"{}")
            await self.answer(head.split()[1], body, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def answer(self, path, body, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        if path == "/api/tags":
            writer.write(orjson.dumps({"models": [{"model": "m:latest", "digest": "d"}]}))
        elif path == "/api/show":
            writer.write(orjson.dumps({"model_info": {"x.context_length": 4096}}))
        else:
            await self.said(body, reader, writer)

    async def said(self, body, reader, writer):
        self.bodies.append(body)
        self.now += 1
        self.most = max(self.most, self.now)
        gone = asyncio.create_task(reader.read())
        talk = asyncio.create_task(self.chat(writer, len(self.bodies)))
        await asyncio.wait({gone, talk}, return_when=asyncio.FIRST_COMPLETED)
        self.left += not talk.done()
        self.now -= 1
        for task in (gone, talk):
            task.cancel()
        await asyncio.gather(gone, talk, return_exceptions=True)
