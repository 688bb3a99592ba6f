"""The adapter to a model server that speaks Ollama's protocol, through the unmodified client.

    at most 2 conversations at once --> chat, streamed --> Said, piece by piece

One provider for each event loop. Whatever the server or the connection does wrong becomes a
problem here, once: nobody there is `Unavailable`, a broken or silent stream `Upstream`. Leaving
a stream early closes its connection, which makes the server stop computing.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from ollama import AsyncClient, ResponseError
from pydantic import ValidationError

from bus import tls
from bus.settings import Settings
from handlers.models import forms, rules
from schemas.contract import Json, Problem
from schemas.models import ContextExceeded, GenerateText, Model, ModelUnknown
from schemas.problems import OutsideSchema, Unavailable, Upstream

CHATS_MAX = 2
CONNECT_S = 2.0
FIRST_CHUNK_S = 120.0
IDLE_S = 20.0
READ_S = 60.0
CONNECTIONS_MAX = 16
DESCRIBED_S = 10.0
DESCRIBE_S = 4.0
MODELS_MAX = 200
TEXTS_MAX = 32
COMPLAINT_CHARACTERS_MAX = 300
NOT_FOUND, BAD_REQUEST, BUSY = 404, 400, (429, 503)


@dataclass
class Said:
    """What one attempt has said so far; the counts come with its end."""

    text: str = ""
    calls: list[tuple[str, Json]] = field(default_factory=list)
    done_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@cache
def public_authorities() -> ssl.SSLContext:
    """Whom a client trusts that was told nothing; reading them takes tens of milliseconds."""
    return httpx.create_ssl_context()


class Provider:
    """One model server, as seen from one event loop."""

    def __init__(self, url: str, verify: ssl.SSLContext | None) -> None:
        self.url = url
        # No connection is kept: they are local and cheap, and a kept one may be dead.
        self._client = AsyncClient(
            url,
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=0),
            trust_env=False,
            verify=verify or public_authorities(),
        )
        self._chats = asyncio.Semaphore(CHATS_MAX)
        self._described: tuple[float, tuple[Model, ...]] = (0.0, ())
        self._describing = asyncio.Lock()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """One of the two places for a conversation; callers wait in order."""
        async with self._chats:
            yield

    async def chat(
        self, model: str, command: GenerateText, options: Json
    ) -> AsyncGenerator[Said, None]:
        """Ask once; yields after each chunk what was said so far, the last with its counts."""
        said = Said()
        with translated(model):
            async with aclosing(await self._ask(model, command, options)) as chunks:
                async for chunk in timed(chunks):
                    take(chunk, said)
                    yield said
        if said.done_reason is None:
            raise Upstream("The model server's stream ended in the middle of an answer.")

    async def _ask(
        self, model: str, command: GenerateText, options: Json
    ) -> AsyncGenerator[Any, None]:
        tools = [{"type": "function", "function": t.model_dump()} for t in command.tools]
        messages = [m.model_dump(exclude_none=True) for m in command.messages]
        try:
            chunks: Any = await self._client.chat(
                model, messages, tools=tools, stream=True, format=command.output_schema,
                options=options,
            )  # fmt: skip
        except ValidationError as bad:
            raise OutsideSchema(f"The tools cannot be offered: {bad.errors()[0]['msg']}") from None
        generator: AsyncGenerator[Any, None] = chunks
        return generator

    async def embed(self, model: str, texts: Sequence[str]) -> tuple[list[Sequence[float]], int]:
        """Native vectors of the texts, in order, and how many tokens were read."""
        vectors: list[Sequence[float]] = []
        tokens = 0
        for start in range(0, len(texts), TEXTS_MAX):
            batch = texts[start : start + TEXTS_MAX]
            with translated(model):
                answer = await self._client.embed(model, batch)
            if len(answer.embeddings) != len(batch):
                raise Upstream("The model server did not answer one vector for each text.")
            vectors += answer.embeddings
            tokens += answer.prompt_eval_count or 0
        return vectors, tokens

    async def models(self, chat_model: str, embedding_model: str) -> tuple[Model, ...]:
        """What the server has; asked again after ten seconds."""
        async with self._describing:
            asked, models = self._described
            if not models or time.monotonic() - asked > DESCRIBED_S:
                models = await in_time(self._describe(chat_model, embedding_model))
                self._described = (time.monotonic(), models)
        return models

    async def _describe(self, chat_model: str, embedding_model: str) -> tuple[Model, ...]:
        found = []
        with translated("any"):
            listed = (await self._client.list()).models[:MODELS_MAX]
        for one in listed:
            name = one.model or ""
            with suppress(ModelUnknown), translated(name):  # removed since it was listed
                shown = await self._client.show(name)
                model = Model(
                    name=name,
                    digest=one.digest or "",
                    purposes=rules.purposes_of(name, chat_model, embedding_model),
                    context=rules.context_of(shown.parameters, shown.modelinfo),
                    parameters=one.details.parameter_size if one.details else None,
                    size_bytes=int(one.size or 0),
                )
                found.append(model)
        return tuple(found)


_providers: WeakKeyDictionary[asyncio.AbstractEventLoop, Provider] = WeakKeyDictionary()


def provider(settings: Settings) -> Provider:
    """The provider of the running event loop."""
    url = settings.ollama_url
    loop = asyncio.get_running_loop()
    known = _providers.get(loop)
    if known is None or known.url != url:
        known = _providers[loop] = Provider(url, tls.asking(settings, public=True))
    return known


async def in_time(describing: Coroutine[Any, Any, tuple[Model, ...]]) -> tuple[Model, ...]:
    """The description, if it comes soon: everything else waits for it.

    Raises:
        Upstream: It did not come.
    """
    try:
        async with asyncio.timeout(DESCRIBE_S):
            return await describing
    except TimeoutError:
        raise Upstream(f"The model server said nothing for {DESCRIBE_S:g} s.") from None


async def timed(chunks: AsyncGenerator[Any, None]) -> AsyncIterator[Any]:
    """The same chunks, with a limit on the wait for each.

    The first one has longer: the model is loaded, the prompt is read and a constrained answer is
    made before it comes.

    Raises:
        Upstream: The next chunk did not come in time.
    """
    limit_s = FIRST_CHUNK_S
    while True:
        try:
            async with asyncio.timeout(limit_s):
                chunk = await anext(chunks)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Upstream(f"The model server said nothing for {limit_s:g} s.") from None
        yield chunk
        limit_s = IDLE_S


def take(chunk: Any, said: Said) -> None:
    """Add one chunk."""
    said.text += chunk.message.content or ""
    for call in chunk.message.tool_calls or ():
        said.calls.append((call.function.name, dict(call.function.arguments)))
    if chunk.done:
        said.done_reason = chunk.done_reason or "stop"
        said.prompt_tokens = chunk.prompt_eval_count or 0
        said.completion_tokens = chunk.eval_count or 0


@contextmanager
def translated(model: str) -> Iterator[None]:
    """Turn what the client raises into problems."""
    try:
        yield
    except ResponseError as refused:
        raise problem_of(refused, model) from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, ConnectionError):
        raise Unavailable("The model server is not reachable.") from None
    except httpx.HTTPError as broken:
        raise Upstream(f"The model server broke off: {type(broken).__name__}.") from broken
    except (ValueError, TypeError, AttributeError) as odd:
        raise Upstream("The model server's answer is not of its protocol.") from odd


def problem_of(refused: ResponseError, model: str) -> Exception:
    """What a refusal of the server means here."""
    said = str(refused.error)[:COMPLAINT_CHARACTERS_MAX]
    if refused.status_code == NOT_FOUND:
        return ModelUnknown(model=model)
    if refused.status_code in BUSY:
        return Unavailable(f"The model server takes no more: {said}")
    if "no valid answer" in said:
        return forms.OutsideForm(said)
    if refused.status_code != BAD_REQUEST:
        return Upstream(f"The model server failed: {said}")
    return refusal(said, model)


def refusal(said: str, model: str) -> Problem:
    """What a 400 of the server means here; its words are all that tells."""
    if "context length" in said:
        return ContextExceeded(said)
    if "format" in said:
        return OutsideSchema(said)
    if "does not support" in said:
        return ModelUnknown(f"The model cannot do this: {said}", model=model)
    return Upstream(f"The model server refused: {said}")
