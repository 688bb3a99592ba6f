"""Models: the real model server answers, and servers that misbehave harm nobody."""

import asyncio
import contextlib
import time
from types import SimpleNamespace

import orjson
import pytest

from bus import live, process
from bus.clock import Clock
from bus.lifecycle import Health
from handlers.__main__ import load_service
from handlers.models import ollama
from schemas import models
from schemas.models import (
    ContextExceeded,
    EmbedTexts,
    GenerateText,
    GetModel,
    ListModels,
    Message,
    ModelUnknown,
    OutputOutsideSchema,
    ReportUsage,
    ToolOffer,
)
from schemas.problems import (
    Denied,
    KeyReused,
    NotFound,
    OutsideSchema,
    TimedOut,
    Unavailable,
    Upstream,
)
from tests.conftest import eventually
from tests.servers import free_port

FRUIT = {
    "type": "object",
    "properties": {
        "fruit": {"type": "string", "maxLength": 20},
        "price": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["fruit", "price"],
    "additionalProperties": False,
}
LOOK_UP = ToolOffer(
    name="shop.look_up",
    description="Look up a price",
    parameters={
        "type": "object",
        "properties": {"fruit": {"type": "string", "minLength": 1, "maxLength": 20}},
        "required": ["fruit"],
        "additionalProperties": False,
    },
)


def asked(content="Say hello", **fields):
    fields = {"tokens_max": 12, "seed": 1} | fields
    return GenerateText(messages=(Message(role="user", content=content),), **fields)


async def lane(client, stream_id):
    """The texts that went to the lane."""
    lines = []
    async for chunks in live.read(client.connection, f"live.models.{stream_id}"):
        if chunks.end:
            return lines
        lines += [orjson.loads(line)["text"] for line in chunks.lines]
    return None


async def usage_rows(platform):
    return await platform.database.pool.fetch("SELECT * FROM models.llm_usage")


async def test_tokens_stream_while_the_text_is_made_and_add_up_to_it(platform, ask, client):
    stream_id = Clock().new_id()
    said = await ask(models.generate, asked("Write about the sea", tokens_max=40),
                     stream_id=stream_id)  # fmt: skip
    shown = await asyncio.wait_for(lane(client, stream_id), 10)
    assert "".join(shown) == said.text != ""
    assert len(shown) > 3
    assert said.prompt_tokens > 0
    assert said.completion_tokens > 0
    assert said.finish in ("stop", "length")


async def test_text_under_a_schema_fits_it_and_streams_only_when_checked(platform, ask, client):
    stream_id = Clock().new_id()
    command = asked("Name a fruit and its price", output_schema=FRUIT, tokens_max=80)
    said = await ask(models.generate, command, stream_id=stream_id)
    assert set(said.value) == {"fruit", "price"}
    assert orjson.loads(said.text) == said.value
    assert "".join(await asyncio.wait_for(lane(client, stream_id), 10)) == said.text


async def test_a_tool_call_names_an_offered_tool_with_arguments_that_fit(platform, ask):
    command = asked("Use the tool: what does an apple cost?", tools=(LOOK_UP,), tokens_max=120)
    said = await ask(models.generate, command)
    assert said.finish in ("tool_calls", "stop", "length")
    for call in said.tool_calls:
        assert call.name == LOOK_UP.name
        assert set(call.arguments) == {"fruit"}
    assert said.tool_calls or said.text


async def test_the_same_key_answers_the_same_text_and_bills_once(platform, ask):
    first = await ask(models.generate, asked(purpose="once"), key="k")
    assert await ask(models.generate, asked(purpose="once"), key="k") == first
    [row] = await usage_rows(platform)
    assert (str(row["id"]), row["key"], row["actor"]) == (first.id, "k", "admin")
    with pytest.raises(KeyReused):
        await ask(models.generate, asked("Something else"), key="k")


async def test_usage_is_summed_by_model_and_purpose_and_only_ones_own_is_seen(
    platform, ask, ask_as
):
    said = await ask(models.generate, asked(purpose="test"))
    vectors = await ask(models.embed, EmbedTexts(texts=("a", "b")))
    lines = {line.purpose: line for line in (await ask(models.usage, ReportUsage())).lines}
    assert set(lines) == {"test", "embedding"}
    assert (lines["test"].calls, lines["test"].completion_tokens) == (1, said.completion_tokens)
    assert lines["embedding"].model == vectors.model
    assert (await ask_as("developer")(models.usage, ReportUsage())).lines == ()
    other_goal = ReportUsage(goal_id=Clock().new_id())
    assert (await ask(models.usage, other_goal)).lines == ()


async def test_vectors_have_768_numbers_and_near_meanings_lie_near(platform, ask):
    texts = ("The cat sleeps", "A kitten naps", "Quarterly tax report", "")
    answer = await ask(models.embed, EmbedTexts(texts=texts))
    assert {len(vector) for vector in answer.vectors} == {768}

    def cosine(a, b):
        return sum(x * y for x, y in zip(answer.vectors[a], answer.vectors[b], strict=True))

    assert cosine(0, 0) == pytest.approx(1, abs=1e-4)
    assert cosine(0, 1) > cosine(0, 2) + 0.2


async def test_sixty_four_texts_fit_one_answer(platform, ask):
    texts = tuple(f"text {n}" for n in range(64))
    assert len((await ask(models.embed, EmbedTexts(texts=texts))).vectors) == 64


async def test_the_models_of_the_server_are_listed_with_purpose_and_digest(platform, ask):
    listed = {model.name: model for model in (await ask(models.listing, ListModels())).items}
    assert listed["smollm2:135m"].purposes == ("chat",)
    assert listed["all-minilm:latest"].purposes == ("embedding",)
    assert all(len(model.digest) == 64 and model.context for model in listed.values())
    assert (await ask(models.get, GetModel(name="all-minilm"))).name == "all-minilm:latest"
    with pytest.raises(NotFound):
        await ask(models.get, GetModel(name="nobody"))


async def test_an_unknown_model_is_refused(platform, ask):
    with pytest.raises(ModelUnknown):
        await ask(models.generate, asked(model="nobody"))
    with pytest.raises(ModelUnknown):
        await ask(models.embed, EmbedTexts(texts=("a",), model="nobody"))


async def test_a_model_is_refused_for_what_it_cannot_do(platform, ask):
    with pytest.raises(ModelUnknown):
        await ask(models.embed, EmbedTexts(texts=("a",), model="smollm2:135m"))
    with pytest.raises(ModelUnknown):
        await ask(models.generate, asked(model="all-minilm:latest"))


async def test_a_conversation_that_is_too_long_is_refused_and_not_truncated(platform, ask):
    with pytest.raises(ContextExceeded):
        await ask(models.generate, asked("word " * 6000))
    assert await usage_rows(platform) == []


async def test_a_bad_schema_is_refused_before_the_model_is_asked(platform, ask):
    with pytest.raises(OutsideSchema):
        await ask(models.generate, asked(output_schema={"type": "strin"}))


async def test_a_schema_that_the_answer_cannot_reach_ends_after_three_attempts(platform, ask):
    command = asked(output_schema={"type": "string", "minLength": 200}, tokens_max=3)
    with pytest.raises(OutputOutsideSchema):
        await ask(models.generate, command)


async def test_a_viewer_may_not_ask_a_model(platform, ask_as):
    with pytest.raises(Denied):
        await ask_as("viewer")(models.generate, asked())


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


async def test_a_server_that_is_down_is_said_at_once(settings, bus_ready, ask):
    chosen = settings.model_copy(update={"ollama_url": f"http://127.0.0.1:{free_port()}"})
    async with process.answering(chosen, [load_service("models")], Health("test")):
        began = time.monotonic()
        for operation, command in (
            (models.generate, asked()),
            (models.embed, EmbedTexts(texts=("a",))),
            (models.listing, ListModels()),
        ):
            with pytest.raises(Unavailable):
                await ask(operation, command)
        assert time.monotonic() - began < 5


def test_refusals_of_the_server_are_told_apart():
    def refused(status, said):
        return ollama.problem_of(SimpleNamespace(status_code=status, error=said), "m")

    assert isinstance(refused(404, "no"), ModelUnknown)
    assert isinstance(refused(503, "busy"), Unavailable)
    assert isinstance(refused(500, "boom"), Upstream)
    assert isinstance(refused(400, "the prompt exceeds the context length"), ContextExceeded)
    assert isinstance(refused(400, "invalid format: x"), OutsideSchema)
    assert isinstance(refused(400, "?"), Upstream)
