"""Models: servers that misbehave, each in its own way, are told apart and survived."""

import asyncio
import contextlib
import time

import orjson
import pytest

from bus import process
from bus.clock import Clock
from bus.lifecycle import Health
from handlers.__main__ import load_service
from handlers.models import ollama
from schemas import models
from schemas.models import (
    OutputOutsideSchema,
)
from schemas.problems import (
    TimedOut,
    Upstream,
)
from tests.conftest import eventually
from tests.domains.questions import FRUIT, LOOK_UP, asked, lane

# Servers that misbehave: each speaks just enough of the protocol to do its harm.


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


@pytest.fixture
async def misbehave(settings, bus_ready, ask):
    """Start models over a server of this behaviour; gives that server."""
    async with contextlib.AsyncExitStack() as open_things:

        async def start(chat):
            server = Misbehaving(chat)
            listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
            open_things.callback(listening.close)
            port = listening.sockets[0].getsockname()[1]
            chosen = {"ollama_url": f"http://127.0.0.1:{port}", "chat_model": "m"}
            await open_things.enter_async_context(
                process.answering(
                    settings.model_copy(update=chosen), [load_service("models")], Health("test")
                )
            )
            return server

        yield start


async def test_a_stream_that_breaks_off_is_an_upstream_error(misbehave, ask):
    async def breaks(writer, _):
        writer.write(line("half a"))

    await misbehave(breaks)
    with pytest.raises(Upstream):
        await ask(models.generate, asked())


async def test_a_model_that_falls_silent_is_given_up(misbehave, ask, monkeypatch):
    monkeypatch.setattr(ollama, "IDLE_S", 0.3)

    async def falls_silent(writer, _):
        writer.write(line("half a"))
        await asyncio.sleep(30)

    server = await misbehave(falls_silent)
    began = time.monotonic()
    with pytest.raises(Upstream):
        await ask(models.generate, asked())
    assert time.monotonic() - began < 5

    async def left():
        return server.left == 1

    await eventually(left)


async def test_an_answer_that_is_not_of_the_protocol_is_an_upstream_error(misbehave, ask):
    async def mumbles(writer, number):
        writer.write([b"what?\n", b"[1]\n", b'{"message": 3}\n'][number - 1])

    await misbehave(mumbles)
    for _ in range(3):
        with pytest.raises(Upstream):
            await ask(models.generate, asked())


async def test_an_error_in_mid_stream_is_an_upstream_error(misbehave, ask):
    async def fails(writer, _):
        writer.write(line("half a") + b'{"error": "out of memory"}\n')

    await misbehave(fails)
    with pytest.raises(Upstream) as caught:
        await ask(models.generate, asked())
    assert "out of memory" in caught.value.message


async def test_a_text_outside_the_schema_is_asked_again_with_another_seed(misbehave, ask, client):
    async def third_time_lucky(writer, number):
        text = ["no JSON", '{"fruit": 1}', '{"fruit": "fig", "price": 2}'][number - 1]
        writer.write(line(text) + END)

    server = await misbehave(third_time_lucky)
    stream_id = Clock().new_id()
    said = await ask(models.generate, asked(output_schema=FRUIT), stream_id=stream_id)
    assert said.value == {"fruit": "fig", "price": 2}
    assert (said.prompt_tokens, said.completion_tokens) == (6, 9)
    assert len({body["options"]["seed"] for body in server.bodies}) == 3
    assert "".join(await asyncio.wait_for(lane(client, stream_id), 10)) == said.text


async def test_calls_of_foreign_tools_are_never_passed_on(misbehave, ask):
    async def steals(writer, _):
        call = {"function": {"name": "shop.steal", "arguments": {}}}
        writer.write(line(message={"tool_calls": [call]}) + END)

    server = await misbehave(steals)
    with pytest.raises(OutputOutsideSchema):
        await ask(models.generate, asked(tools=(LOOK_UP,)))
    assert len(server.bodies) == 3


async def test_the_window_is_asked_for_in_tokens(misbehave, ask):
    async def answers(writer, _):
        writer.write(line("yes") + END)

    server = await misbehave(answers)
    assert (await ask(models.generate, asked(tokens_max=8))).text == "yes"
    [body] = server.bodies
    assert (body["options"]["num_ctx"], body["options"]["num_predict"]) == (4096, 8)


async def test_only_two_conversations_are_held_at_once_and_waiting_counts(misbehave, ask):
    release = asyncio.Event()

    async def slow(writer, _):
        await release.wait()
        writer.write(line("done") + END)

    server = await misbehave(slow)
    running = [asyncio.create_task(ask(models.generate, asked())) for _ in range(3)]

    async def two_are_there():
        return server.now == 2

    await eventually(two_are_there)
    with pytest.raises(TimedOut):
        await ask(models.generate, asked(), deadline_ms=Clock().unix_ms() + 300)
    release.set()
    assert [said.text for said in await asyncio.gather(*running)] == ["done"] * 3
    assert server.most == 2
    assert len(server.bodies) == 3


async def test_a_caller_that_runs_out_of_time_frees_the_model_server(misbehave, ask):
    async def never(writer, _):
        await asyncio.sleep(30)

    server = await misbehave(never)
    with pytest.raises(TimedOut):
        await ask(models.generate, asked(), deadline_ms=Clock().unix_ms() + 500)

    async def left():
        return server.left == 1

    await eventually(left)
