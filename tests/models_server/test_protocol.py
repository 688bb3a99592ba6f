"""The unmodified `ollama` client against the real server: names, refusals, embeddings."""

from collections.abc import Sequence

import httpx
import ollama
import pytest
from model_process import Running

CHAT = "smollm2:135m"
EMBED = "all-minilm"


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(left, right, strict=True))


def test_both_models_are_listed_with_size_and_digest(client: ollama.Client) -> None:
    models = {one.model: one for one in client.list().models}
    assert set(models) == {CHAT, "all-minilm:latest"}
    assert all(
        (one.size or 0) > 10_000_000 and len(one.digest or "") == 64 for one in models.values()
    )


def test_both_models_are_in_memory_from_the_start(client: ollama.Client) -> None:
    contexts = {one.model: one.context_length for one in client.ps().models}
    assert contexts == {CHAT: 4096, "all-minilm:latest": 256}


def test_show_tells_what_a_model_can_do(client: ollama.Client) -> None:
    assert client.show(CHAT).capabilities == ["completion", "tools"]
    assert client.show(EMBED).capabilities == ["embedding"]
    assert (client.show(EMBED).modelinfo or {})["bert.embedding_length"] == 384


def test_the_root_and_the_version_answer(server: Running) -> None:
    assert httpx.get(server.url, timeout=5).text == "Ollama is running"
    assert httpx.get(f"{server.url}/api/version", timeout=5).json()["version"]


def test_pulling_a_model_that_is_here_succeeds(client: ollama.Client) -> None:
    assert client.pull(CHAT).status == "success"
    assert [step.status for step in client.pull(CHAT, stream=True)][-1] == "success"


def test_pulling_an_unknown_model_is_an_error(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="does not exist"):
        client.pull("nobody/knows")
    with pytest.raises(ollama.ResponseError, match="does not exist"):
        list(client.pull("nobody/knows", stream=True))


@pytest.mark.parametrize("call", ["chat", "generate", "embed", "show", "embeddings"])
def test_an_unknown_model_is_404_by_name(client: ollama.Client, call: str) -> None:
    with pytest.raises(ollama.ResponseError, match="model 'nobody' not found") as refusal:
        getattr(client, call)("nobody")
    assert refusal.value.status_code == 404


def test_a_model_is_not_asked_for_what_it_cannot_do(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match="does not support completion"):
        client.chat(EMBED, [{"role": "user", "content": "hi"}])
    with pytest.raises(ollama.ResponseError, match="does not support embedding"):
        client.embed(CHAT, "hi")
    with pytest.raises(ollama.ResponseError, match="does not support think"):
        client.generate(CHAT, "hi", think=True)
    with pytest.raises(ollama.ResponseError, match="does not support suffix"):
        client.generate(CHAT, "hi", suffix="x")


MALFORMED = {
    "no JSON": b"{",
    "not an object": b"[]",
    "no model": b'{"messages": []}',
    "text for a number": b'{"model":"smollm2:135m","options":{"temperature":"hot"}}',
    "a bound crossed": b'{"model":"smollm2:135m","options":{"top_p":2}}',
    "nesting": b'{"model":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "not UTF-8": b'{"model":"\xff\xfe"}',
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("path", ["chat", "generate"])
def test_a_malformed_body_is_400_with_a_reason(server: Running, path: str, body: bytes) -> None:
    answer = httpx.post(f"{server.url}/api/{path}", content=body, timeout=5)
    assert answer.status_code == 400
    assert answer.json()["error"]


def test_a_message_of_an_unknown_role_is_400(client: ollama.Client) -> None:
    with pytest.raises(ollama.ResponseError, match=r"messages\.0\.role") as refusal:
        client.chat(CHAT, [{"role": "boss", "content": "x"}])
    assert refusal.value.status_code == 400


def test_a_body_over_the_limit_is_413(server: Running) -> None:
    body = b'{"model":"smollm2:135m","prompt":"' + b"x" * (5 * 1024 * 1024) + b'"}'
    answer = httpx.post(f"{server.url}/api/generate", content=body, timeout=10)
    assert answer.status_code == 413
    assert "limit" in answer.json()["error"]


def test_an_unknown_route_and_method_answer_with_an_error(server: Running) -> None:
    assert httpx.get(f"{server.url}/api/nothing", timeout=5).status_code == 404
    assert httpx.get(f"{server.url}/api/chat", timeout=5).json() == {"error": "no GET at /api/chat"}


def test_an_embedding_separates_meanings(client: ollama.Client) -> None:
    cat, feline, stock = client.embed(EMBED, ["cat", "feline", "stock market"]).embeddings
    assert cosine(cat, feline) > 0.4 > cosine(cat, stock)
    assert all(len(one) == 384 and cosine(one, one) == pytest.approx(1) for one in (cat, stock))


def test_a_batch_gives_what_its_texts_give_alone(client: ollama.Client) -> None:
    texts = [f"text {n} " + "about whales and ships " * (n % 7) for n in range(40)] + [""]
    together = client.embed(EMBED, texts).embeddings
    for text, vector in list(zip(texts, together, strict=True))[::10]:
        alone = client.embed(EMBED, text).embeddings[0]
        assert cosine(alone, vector) > 0.98


def test_the_old_embeddings_call_agrees_with_the_new(client: ollama.Client) -> None:
    old = client.embeddings(EMBED, "a ship").embedding
    new = client.embed("all-minilm:latest", "a ship").embeddings[0]
    assert cosine(old, new) == pytest.approx(1, abs=1e-4)


def test_a_long_text_is_cut_at_256_pieces_or_refused(client: ollama.Client) -> None:
    long = "whale " * 254
    assert client.embed(EMBED, long).prompt_eval_count == 256
    assert client.embed(EMBED, long, truncate=False).prompt_eval_count == 256
    assert client.embed(EMBED, long + "tail").prompt_eval_count == 256
    with pytest.raises(ollama.ResponseError, match="context length") as refusal:
        client.embed(EMBED, ["short", long + "tail"], truncate=False)
    assert refusal.value.status_code == 400


def test_an_embedding_can_be_shortened(client: ollama.Client) -> None:
    (short,) = client.embed(EMBED, "a ship", dimensions=64).embeddings
    assert len(short) == 64
    assert cosine(short, short) == pytest.approx(1, abs=1e-4)


async def test_the_asynchronous_client_is_served_alike(aclient: ollama.AsyncClient) -> None:
    assert len((await aclient.list()).models) == 2
    assert len((await aclient.embed(EMBED, ["a", "b"])).embeddings) == 2
    with pytest.raises(ollama.ResponseError, match="not found"):
        await aclient.show("nobody")
