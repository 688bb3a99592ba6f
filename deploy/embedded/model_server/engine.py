"""The chat model: llama.cpp in this process, by xllamacpp.

`complete` blocks its thread and hands over each piece of text as it comes. The engine calls back
after every token and, because the prompt is evaluated in small batches, about ten times a second
before the first one; that callback is the only place where a generation can be ended, so the
batch size bounds how long an abandoned prompt goes on, and how long the other slot waits for its
next token.

The engine insists on a listener of its own; it gets a socket file in a private folder that is
removed at once, so the only way to the model is this server. Constrained output is
`constrain.py`'s task.
"""

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xllamacpp

from deploy.embedded.model_server.errors import ApiError

SLOTS = 2
SLOT_TOKENS = 4096
PROMPT_BATCH_TOKENS = 8
PROMPT_CACHE_MIB = 128
GENERATION_S_MAX = 600.0
_NS_PER_MS = 1_000_000
_llama: Any = xllamacpp  # A compiled module without types.


@dataclass(frozen=True)
class Completion:
    """What the engine is asked: messages, or for `/api/generate` with `raw` a bare prompt."""

    messages: tuple[dict[str, str], ...]
    sampling: dict[str, Any]
    seed: int
    tokens_max: int | None = None
    context_tokens: int = SLOT_TOKENS
    raw_prompt: str | None = None
    grammar: str | None = None

    def reseeded(self, attempt: int) -> "Completion":
        """The same question with the luck of another attempt; at temperature 0 a little warmer."""
        if attempt == 0:
            return self
        warm = max(float(self.sampling["temperature"]), 0.5)
        seed = (self.seed + attempt) % 2**32
        return replace(self, seed=seed, sampling={**self.sampling, "temperature": warm})


@dataclass(frozen=True)
class Outcome:
    """What came of a completion; `done_reason` is `stop` or `length`."""

    text: str
    done_reason: str
    prompt_tokens: int
    prompt_ns: int
    eval_tokens: int
    eval_ns: int


class ChatEngine:
    """The loaded chat model. `complete` may run in as many threads at once as there are slots."""

    def __init__(self, path: Path) -> None:
        params = _llama.CommonParams()
        params.model.path = str(path)
        params.n_ctx = SLOTS * SLOT_TOKENS
        params.n_parallel = SLOTS
        params.n_batch = params.n_ubatch = PROMPT_BATCH_TOKENS
        # One thread: ggml's spinning barrier collapses when another process takes one of two cores.
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.n_threads_http = 1
        params.cache_ram_mib = PROMPT_CACHE_MIB
        params.warmup = params.fit_params = params.ui = params.endpoint_slots = False
        params.verbosity = 1
        with tempfile.TemporaryDirectory(prefix="llama-") as folder:
            params.hostnames = [f"{folder}/llama.sock"]
            self._server = _llama.Server(params)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End all running generations within a token; later ones are refused."""
        self._stopping.set()

    def complete(
        self,
        asked: Completion,
        on_piece: Callable[[str], None],
        cancelled: threading.Event,
    ) -> Outcome:
        """Generate; raises ApiError if the prompt does not fit, on a cancel or a failure."""
        listener = _Listener(asked, on_piece, (cancelled, self._stopping))
        if not listener.ended():
            if asked.raw_prompt is None:
                self._server.handle_chat_completions(_chat_request(asked), listener)
            else:
                self._server.handle_completions(_raw_request(asked), listener)
        return listener.outcome()


@dataclass
class _Listener:
    """Receives the engine's chunks. It must never raise: the engine would go on unheard."""

    asked: Completion
    on_piece: Callable[[str], None]
    enders: tuple[threading.Event, ...]
    failure: ApiError | None = None
    done_reason: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    timings: dict[str, Any] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    deadline: float = field(default_factory=lambda: time.monotonic() + GENERATION_S_MAX)

    def __call__(self, chunk: dict[str, Any]) -> bool:
        """Take one chunk; True tells the engine to stop."""
        if self.ended():
            return True
        if "error" in chunk:
            self.failure = _refusal(chunk["error"])
            return True
        prompt_tokens = chunk.get("prompt_progress", {}).get("total", 0)
        if prompt_tokens >= self.asked.context_tokens:
            self.failure = _too_long(prompt_tokens, self.asked.context_tokens)
            return True
        self.usage = chunk.get("usage") or self.usage
        self.timings = chunk.get("timings") or self.timings
        for choice in chunk.get("choices", ()):
            self._take(choice)
        return False

    def ended(self) -> bool:
        """Whether somebody or the clock has ended this generation; remembers why."""
        if self.failure is None and any(event.is_set() for event in self.enders):
            self.failure = ApiError(503, "the server is stopping")
        if self.failure is None and time.monotonic() > self.deadline:
            self.failure = ApiError(500, f"generation took over {GENERATION_S_MAX:.0f} s")
        return self.failure is not None

    def outcome(self) -> Outcome:
        """What was generated; raises the reason if it was not brought to its end."""
        if self.failure is not None:
            raise self.failure
        if not self.done_reason:
            raise ApiError(500, "the engine ended without an answer")
        return Outcome(
            text="".join(self.text),
            done_reason=self.done_reason,
            prompt_tokens=int(self.usage.get("prompt_tokens", 0)),
            prompt_ns=int(self.timings.get("prompt_ms", 0) * _NS_PER_MS),
            eval_tokens=int(self.usage.get("completion_tokens", 0)),
            eval_ns=int(self.timings.get("predicted_ms", 0) * _NS_PER_MS),
        )

    def _take(self, choice: dict[str, Any]) -> None:
        piece = choice.get("text") or choice.get("delta", {}).get("content")
        if piece:
            self.text.append(piece)
            self.on_piece(piece)
        self.done_reason = choice.get("finish_reason") or self.done_reason


def _chat_request(asked: Completion) -> dict[str, Any]:
    return {"messages": list(asked.messages), **_common(asked)}


def _raw_request(asked: Completion) -> dict[str, Any]:
    return {"prompt": asked.raw_prompt, **_common(asked)}


def _common(asked: Completion) -> dict[str, Any]:
    request = {
        **asked.sampling,
        "seed": asked.seed,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
    }
    if asked.tokens_max is not None:
        request["max_tokens"] = asked.tokens_max
    if asked.grammar is not None:
        request["grammar"] = asked.grammar
    return request


def _refusal(error: dict[str, Any]) -> ApiError:
    if error.get("type") == "exceed_context_size_error":
        return _too_long(error.get("n_prompt_tokens", 0), error.get("n_ctx", SLOT_TOKENS))
    return ApiError(500, f"the engine refused: {error.get('message', 'no reason given')}")


def _too_long(tokens: int, context_tokens: int) -> ApiError:
    return ApiError(
        400,
        f"the prompt of {tokens} tokens exceeds the context length of {context_tokens} tokens",
    )
