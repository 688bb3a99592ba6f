"""The routes of Ollama's protocol, over the two loaded models.

Every route is a short function: parse the body, find the model, ask, shape the answer. Refusals
are ApiErrors and leave as `{"error": …}`.
"""

import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from deploy.embedded.model_server.answers import Answer, Event
from deploy.embedded.model_server.constrain import Constraint
from deploy.embedded.model_server.embedder import DIMENSIONS, Embedded, Embedder, unit
from deploy.embedded.model_server.engine import (
    SLOT_TOKENS,
    SLOTS,
    ChatEngine,
    Completion,
)
from deploy.embedded.model_server.errors import ApiError
from deploy.embedded.model_server.gate import Gate
from deploy.embedded.model_server.generation import Finished, generate
from deploy.embedded.model_server.journal import say
from deploy.embedded.model_server.prompting import (
    chat_question,
    constraint,
    generate_question,
    tool_message,
)
from deploy.embedded.model_server.requests import (
    ChatBody,
    EmbedBody,
    EmbeddingsBody,
    GenerateBody,
    Generating,
    Named,
    parse,
)
from deploy.embedded.model_server.weights import Weights, full_name

VERSION = "0.12.0"
"""The version of Ollama's protocol that is answered, as clients compare it."""
RESIDENT = timedelta(days=36_500)


class ModelServer:
    """The loaded models, their queues, and the routes over them."""

    def __init__(self, weights: tuple[Weights, ...], chat: ChatEngine, embedder: Embedder) -> None:
        self._weights = {one.model.name: one for one in weights}
        self._chat = chat
        self._embedder = embedder
        self._chat_gate = Gate("chat", SLOTS)
        self._embed_gate = Gate("embed", 1)

    def app(self) -> Starlette:
        """The ASGI application."""
        post = partial(Route, methods=["POST"])
        return Starlette(
            routes=[
                Route("/", _alive, methods=["GET"]),
                Route("/api/version", _version, methods=["GET"]),
                Route("/api/tags", self.tags, methods=["GET"]),
                Route("/api/ps", self.loaded, methods=["GET"]),
                post("/api/show", self.show),
                post("/api/pull", self.pull),
                post("/api/chat", self.chat),
                post("/api/generate", self.generate),
                post("/api/embed", self.embed),
                post("/api/embeddings", self.embeddings),
            ],
            exception_handlers={
                ApiError: _refused,
                HTTPException: _no_route,
                Exception: _failed,
            },
        )

    async def tags(self, _: Request) -> Response:
        """List the models."""
        return JSONResponse({"models": [_listing(one) for one in self._weights.values()]})

    async def loaded(self, _: Request) -> Response:
        """List the models in memory: all, always."""
        until = (datetime.now(UTC) + RESIDENT).isoformat()
        state = {"expires_at": until, "size_vram": 0}
        models = [
            {**_listing(one), **state, "context_length": _context_tokens(one)}
            for one in self._weights.values()
        ]
        return JSONResponse({"models": models})

    async def show(self, request: Request) -> Response:
        """Describe one model."""
        one = self._find(await parse(request, Named))
        return JSONResponse(
            {
                "modelfile": f"FROM {one.model.name}\n",
                "parameters": f"num_ctx {_context_tokens(one)}",
                "template": "{{ .Prompt }}",
                "license": one.model.licence,
                "details": one.model.details,
                "model_info": one.model.info,
                "capabilities": list(one.model.capabilities),
                "modified_at": one.modified_at,
            }
        )

    async def pull(self, request: Request) -> Response:
        """Confirm a model that is here; nothing is ever fetched."""
        body = await parse(request, Named)
        return Answer(self._pull_events(body), stream=body.stream is not False)

    async def chat(self, request: Request) -> Response:
        """Continue a conversation."""
        body = await parse(request, ChatBody)
        name = self._able(body, "completion")
        events = self._chat_events(name, body)
        return Answer(events, stream=body.stream is not False)

    async def generate(self, request: Request) -> Response:
        """Continue a prompt."""
        body = await parse(request, GenerateBody)
        name = self._able(body, "completion")
        _refuse_extras(body)
        return Answer(self._generate_events(name, body), stream=body.stream is not False)

    async def embed(self, request: Request) -> Response:
        """Embed one text or many."""
        body = await parse(request, EmbedBody)
        name = self._able(body, "embedding")
        events = self._embed_events(name, body)
        return Answer(events, stream=False)

    async def embeddings(self, request: Request) -> Response:
        """Embed one text, in the older form."""
        body = await parse(request, EmbeddingsBody)
        self._able(body, "embedding")
        return Answer(self._embedding_event(body.prompt), stream=False)

    def _find(self, body: Named) -> Weights:
        name = body.model_name()
        found = self._weights.get(full_name(name))
        if found is None:
            raise ApiError(404, f"model '{name}' not found")
        return found

    def _able(self, body: Named, capability: str) -> str:
        model = self._find(body).model
        if capability not in model.capabilities:
            raise ApiError(400, f'"{model.name}" does not support {capability}')
        if isinstance(body, Generating) and (body.think or body.logprobs):
            raise ApiError(400, f'"{model.name}" does not support think or logprobs')
        return model.name

    async def _pull_events(self, body: Named) -> AsyncGenerator[Event, None]:
        known = self._weights.get(full_name(body.model_name()))
        yield {"status": "pulling manifest"}
        if known is None:
            raise ApiError(500, "pull model manifest: file does not exist")
        yield {"status": "success"}

    async def _chat_events(self, name: str, body: ChatBody) -> AsyncGenerator[Event, None]:
        empty = {"role": "assistant", "content": ""}
        if not body.messages:
            yield {**_head(name), "message": empty, "done": True, "done_reason": "load"}
            return
        form = constraint(body, body.tools)
        async with aclosing(self._run(chat_question(body), form)) as parts:
            async for part in parts:
                if isinstance(part, Finished):
                    if body.tools:
                        said = tool_message(part.outcome.text)
                        yield {**_head(name), "message": said, "done": False}
                    yield {**_head(name), "message": empty, **_tail(part)}
                elif not body.tools:
                    yield {
                        **_head(name),
                        "message": {**empty, "content": part},
                        "done": False,
                    }

    async def _generate_events(self, name: str, body: GenerateBody) -> AsyncGenerator[Event, None]:
        if not body.prompt:
            yield {**_head(name), "response": "", "done": True, "done_reason": "load"}
            return
        async with aclosing(self._run(generate_question(body), constraint(body))) as parts:
            async for part in parts:
                if isinstance(part, Finished):
                    yield {**_head(name), "response": "", **_tail(part)}
                else:
                    yield {**_head(name), "response": part, "done": False}

    def _run(
        self, asked: Completion, form: Constraint | None
    ) -> AsyncGenerator[str | Finished, None]:
        return generate(self._chat_gate, self._chat, asked, form)

    async def _embed_events(self, name: str, body: EmbedBody) -> AsyncGenerator[Event, None]:
        begun = datetime.now(UTC)
        done = await self._embedded(body.input, truncate=body.truncate is not False)
        vectors = done.vectors
        if body.dimensions and body.dimensions < DIMENSIONS:
            vectors = unit(vectors[:, : body.dimensions])
        elapsed = datetime.now(UTC) - begun
        yield {
            "model": name,
            "embeddings": vectors.tolist(),
            "total_duration": elapsed // timedelta(microseconds=1) * 1000,
            "load_duration": 0,
            "prompt_eval_count": done.pieces,
        }

    async def _embedding_event(self, prompt: str) -> AsyncGenerator[Event, None]:
        done = await self._embedded([prompt] if prompt else [], truncate=True)
        yield {"embedding": done.vectors[0].tolist() if prompt else []}

    async def _embedded(self, texts: list[str], *, truncate: bool) -> Embedded:
        stop = threading.Event()
        work = partial(self._embedder.embed, texts, truncate=truncate, stop=stop)
        try:
            return await (await self._embed_gate.start(work))
        finally:
            stop.set()


async def _alive(_: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def _version(_: Request) -> Response:
    return JSONResponse({"version": VERSION})


async def _refused(_: Request, error: Exception) -> Response:
    refusal = error if isinstance(error, ApiError) else ApiError(500, "internal error")
    return JSONResponse({"error": refusal.message}, refusal.status)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return JSONResponse({"error": f"no {request.method} at {request.url.path}"}, status)


async def _failed(request: Request, error: Exception) -> Response:
    say("failed", path=request.url.path, error=f"{type(error).__name__}: {error}")
    return JSONResponse({"error": "internal error"}, 500)


def _refuse_extras(body: GenerateBody) -> None:
    for field in ("suffix", "template", "context", "images"):
        if getattr(body, field):
            raise ApiError(400, f"this model does not support {field}")


def _head(name: str) -> Event:
    return {"model": name, "created_at": datetime.now(UTC).isoformat()}


def _tail(finished: Finished) -> Event:
    outcome = finished.outcome
    return {
        "done": True,
        "done_reason": outcome.done_reason,
        "total_duration": finished.total_ns,
        "load_duration": finished.waited_ns,
        "prompt_eval_count": outcome.prompt_tokens,
        "prompt_eval_duration": outcome.prompt_ns,
        "eval_count": outcome.eval_tokens,
        "eval_duration": outcome.eval_ns,
    }


def _listing(one: Weights) -> Event:
    return {
        "name": one.model.name,
        "model": one.model.name,
        "modified_at": one.modified_at,
        "size": one.size_bytes,
        "digest": one.sha256,
        "details": one.model.details,
    }


def _context_tokens(one: Weights) -> int:
    trained = next(v for k, v in one.model.info.items() if k.endswith(".context_length"))
    return min(int(trained), SLOT_TOKENS)
