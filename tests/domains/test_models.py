"""Models: the real model server answers, and servers that misbehave harm nobody."""

import asyncio
import time
from types import SimpleNamespace

import orjson
import pytest

from bus import process
from bus.clock import Clock
from bus.lifecycle import Health
from handlers.__main__ import load_service
from handlers.models import ollama
from schemas import models
from schemas.models import (
    ContextExceeded,
    EmbedTexts,
    GetModel,
    ListModels,
    ModelUnknown,
    OutputOutsideSchema,
    ReportUsage,
)
from schemas.problems import (
    Denied,
    KeyReused,
    NotFound,
    OutsideSchema,
    Unavailable,
    Upstream,
)
from tests.domains.questions import FRUIT, LOOK_UP, asked, lane, usage_rows
from tests.servers import free_port


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
