"""Decisions about models: how long a conversation is, how to sample, what to count.

Pure. The number of tokens is estimated from the text, because the protocol cannot count: the
estimate lies above the truth for prose, so a conversation that passes is not truncated in
silence. A provider that counts exactly refuses by itself, with the same problem.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from schemas.contract import Json
from schemas.models import ContextExceeded, GenerateText, Usage, UsageLine
from schemas.problems import Upstream

DIMENSIONS = 768
DECIMALS = 7
SEED_MAX = 2**31 - 1
RETRY_TEMPERATURE_MIN = 0.6
TURN_TOKENS = 8
LETTERS_PER_TOKEN = 4
CONTEXT_TOKENS_STEP = 4096
PIECE_CHARACTERS = 24
WORD = re.compile(r"[A-Za-z]+|[^\x00-\x7f]+|[^\sA-Za-z]|\s+")
CORRELATION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def tokens_of(text: str) -> int:
    """About how many tokens a text has, rather more than fewer."""
    total = 0
    for match in WORD.finditer(text):
        run = match[0]
        if not run.isascii():
            total += len(run.encode())
        elif run.isspace():
            total += math.ceil(len(run) / LETTERS_PER_TOKEN) if len(run) > 1 else run == "\n"
        else:
            total += math.ceil(len(run) / LETTERS_PER_TOKEN)
    return total


def prompt_tokens(command: GenerateText) -> int:
    """About how many tokens the model will have to read, tools and schema included."""
    told = [m.content for m in command.messages]
    told += [t.model_dump_json() for t in command.tools]
    return sum(TURN_TOKENS + tokens_of(text) for text in told)


def window(command: GenerateText, context: int | None) -> tuple[int | None, int]:
    """The context to ask for and the longest answer, in tokens, for a model that reads `context`.

    Steps of a power of two, because a provider loads a model anew for every other size.

    Raises:
        ContextExceeded: The conversation leaves no room for an answer.
    """
    if context is None:
        return None, command.tokens_max
    needed = prompt_tokens(command)
    if needed >= context:
        raise ContextExceeded(tokens=needed, context=context)
    wanted = max(CONTEXT_TOKENS_STEP, needed + command.tokens_max)
    size = min(context, 2 ** math.ceil(math.log2(wanted)))
    return size, min(command.tokens_max, size - needed)


def context_of(parameters: str | None, info: Mapping[str, Any] | None) -> int | None:
    """The context of a model in tokens, as its provider describes it."""
    match = re.search(r"^num_ctx\s+(\d+)", parameters or "", re.MULTILINE)
    trained = [v for k, v in (info or {}).items() if k.endswith(".context_length")]
    known = [int(match[1])] if match else []
    known += [int(value) for value in trained if isinstance(value, int) and value > 0]
    return min(known) if known else None


def full_name(name: str) -> str:
    """A model's name with its tag: without one it is `latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def purposes_of(name: str, chat_model: str, embedding_model: str) -> tuple[str, ...]:
    """What a model is used for unless a request names another."""
    uses = {"chat": chat_model, "embedding": embedding_model}
    return tuple(use for use, model in uses.items() if full_name(model) == full_name(name))


def sampling(command: GenerateText, attempt: int) -> Json:
    """Seed and temperature of an attempt, the first being 0; no two are alike."""
    options: Json = {"temperature": command.temperature}
    if attempt:
        options["temperature"] = max(command.temperature, RETRY_TEMPERATURE_MIN)
    if command.seed is not None:
        options["seed"] = (command.seed + attempt) % (SEED_MAX + 1)
    return options


def pieces(text: str) -> Iterable[str]:
    """A checked text in the pieces in which it is streamed."""
    for start in range(0, len(text), PIECE_CHARACTERS):
        yield text[start : start + PIECE_CHARACTERS]


def padded(vectors: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    """Vectors of 768 numbers; zeros leave the cosine as it was.

    Raises:
        Upstream: They are longer, or not numbers.
    """
    if any(not vector or len(vector) > DIMENSIONS for vector in vectors):
        raise Upstream(f"The model's vectors do not have 1 to {DIMENSIONS} numbers.")
    if not all(math.isfinite(sum(vector)) for vector in vectors):
        raise Upstream("The model's vectors are not finite.")
    return tuple(
        (*(round(number, DECIMALS) for number in v), *(0.0,) * (DIMENSIONS - len(v)))
        for v in vectors
    )


def goal_of(correlation_id: str | None) -> str | None:
    """The goal that the work belongs to: goals correlate what is done for them."""
    matches = correlation_id is not None and CORRELATION.fullmatch(correlation_id)
    return correlation_id if matches else None


def usage_since(at: datetime, hours: int, rows: Iterable[Mapping[str, Any]]) -> Usage:
    """The report of the last hours."""
    return Usage(
        since=at - timedelta(hours=hours),
        lines=tuple(UsageLine.model_validate(dict(row)) for row in rows),
    )
