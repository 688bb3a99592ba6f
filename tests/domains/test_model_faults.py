"""Models: servers that misbehave, each in its own way, are told apart and survived."""

import asyncio
import contextlib
import time

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
from tests.domains.misbehaving import END, Misbehaving, line
from tests.domains.questions import FRUIT, LOOK_UP, asked, lane


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
                    settings.model_copy(update=chosen),
                    [load_service("identity"), load_service("models")],
                    Health("test"),
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
