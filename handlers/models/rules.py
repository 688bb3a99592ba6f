"""Decisions about models: how long a conversation is, what an answer must fit, what to count.

Pure. The number of tokens is estimated from the text, because the protocol cannot count: the
estimate lies above the truth for prose, so a conversation that passes is not truncated in
silence. A provider that counts exactly refuses by itself, with the same problem.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import jsonschema_rs
import orjson

from schemas.contract import Json
from schemas.models import ContextExceeded, GenerateText, Message, ToolCall, Usage, UsageLine
from schemas.problems import OutsideSchema, Upstream

DIMENSIONS = 768
DECIMALS = 7
SEED_MAX = 2**31 - 1
RETRY_TEMPERATURE_MIN = 0.6
TURN_TOKENS = 8
LETTERS_PER_TOKEN = 4
CONTEXT_TOKENS_STEP = 4096
SCHEMA_BYTES_MAX = 32 * 1024
SCHEMA_NODES_MAX = 2_000
PATTERN_BYTES_MAX = 1024 * 1024
PIECE_CHARACTERS = 24
MESSAGE_CHARACTERS_MAX = 300
ANSWER_CHARACTERS_MAX = 600
WORD = re.compile(r"[A-Za-z]+|[^\x00-\x7f]+|[^\sA-Za-z]|\s+")
CORRELATION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class OutsideForm(Exception):
    """One attempt's answer does not fit; another seed may do better."""


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
    told += [orjson.dumps(t.model_dump()).decode() for t in command.tools]
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


def compiled(schema: Json) -> jsonschema_rs.Validator:
    """The validator of a schema.

    Raises:
        OutsideSchema: It is no JSON Schema, reaches outside of itself, or costs too much.
    """
    try:
        if len(orjson.dumps(schema)) > SCHEMA_BYTES_MAX or nodes(schema) > SCHEMA_NODES_MAX:
            raise OutsideSchema("The schema is too large, or refers to itself.")
        patterns = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX)
        return jsonschema_rs.validator_for(schema, pattern_options=patterns, offline=True)
    except (jsonschema_rs.ValidationError, ValueError, TypeError) as bad:
        message = getattr(bad, "message", None) or str(bad)
        raise OutsideSchema(
            f"Not a usable JSON Schema: {message[:MESSAGE_CHARACTERS_MAX]}"
        ) from None


def nodes(schema: Json) -> int:
    """Nodes of a schema with its references unfolded; stops counting behind the limit."""
    count, left = 0, [schema]
    while left and count <= SCHEMA_NODES_MAX:
        node: Any = left.pop()
        count += 1
        if isinstance(node, Mapping):
            left.extend(node.values())
            reference = node.get("$ref")
            if isinstance(reference, str) and reference.startswith("#"):
                left.append(target_of(reference, schema))
        elif isinstance(node, list):
            left.extend(node)
    return count


def target_of(reference: str, schema: Json) -> Any:
    """What a reference inside the schema points at, or None."""
    found: Any = schema
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def value_in(text: str, validator: jsonschema_rs.Validator) -> Any:
    """The text as JSON that fits.

    Raises:
        OutsideForm: It is not.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as bad:
        raise OutsideForm(f"The answer is not JSON: {bad}") from None
    require_fit(value, validator)
    return value


def require_fit(value: Any, validator: jsonschema_rs.Validator) -> None:
    """Refuse a value outside the schema.

    Raises:
        OutsideForm: It is.
    """
    try:
        error = next(validator.iter_errors(value), None)
    except ValueError as odd:
        raise OutsideForm(str(odd)[:MESSAGE_CHARACTERS_MAX]) from None
    if error is not None:
        raise OutsideForm(error.message[:MESSAGE_CHARACTERS_MAX])


def checked_call(
    name: str, arguments: Json, offered: Mapping[str, jsonschema_rs.Validator]
) -> ToolCall:
    """A tool call of an offered tool, with arguments that fit.

    Raises:
        OutsideForm: The tool was not offered, or its arguments do not fit.
    """
    if name not in offered:
        raise OutsideForm(f"The tool {name[:64]!r} was not offered.")
    require_fit(arguments, offered[name])
    return ToolCall(name=name, arguments=arguments)


def in_words(command: GenerateText) -> GenerateText:
    """The same request with the tools told in words and their calls as an output schema.

    The protocol's tools carry no lengths, ranges or patterns; an output schema carries all.
    """
    told = [
        f"- {t.name}: {t.description} args: {orjson.dumps(t.parameters).decode()}"
        for t in command.tools
    ]
    form = 'Answer with JSON: {"tool": name, "args": {...}} to use a tool, or {"answer": ...}.'
    words = Message(role="system", content="\n".join(["You can use these tools:", *told, form]))
    return command.model_copy(
        update={
            "messages": (words, *command.messages),
            "tools": (),
            "output_schema": form_of_calls(command),
        }
    )


def form_of_calls(command: GenerateText) -> Json:
    """One branch for each tool, and the last for an answer."""
    answer = command.output_schema or {"type": "string", "maxLength": ANSWER_CHARACTERS_MAX}
    calls = [
        closed(tool={"const": t.name}, args=rebased(t.parameters, f"#/oneOf/{n}/properties/args"))
        for n, t in enumerate(command.tools)
    ]
    place = f"#/oneOf/{len(calls)}/properties/answer"
    return {"oneOf": [*calls, closed(answer=rebased(answer, place))]}


def closed(**properties: Any) -> Json:
    """An object of exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def rebased(node: Any, place: str) -> Any:
    """A schema that stands at `place` of another one: its references follow it there."""
    if isinstance(node, list):
        return [rebased(item, place) for item in node]
    if not isinstance(node, Mapping):
        return node
    moved = {key: rebased(value, place) for key, value in node.items()}
    reference = node.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = place + reference[1:]
    return moved


def out_of_words(text: str) -> tuple[str, list[tuple[str, Json]]]:
    """The text and the tool calls in an answer to `in_words`.

    Raises:
        OutsideForm: It is neither.
    """
    try:
        value = orjson.loads(text)
        if "tool" in value:
            return "", [(str(value["tool"]), dict(value["args"]))]
        answer = value["answer"]
    except (ValueError, TypeError, KeyError) as bad:
        raise OutsideForm(f"The answer is no call and no answer: {bad}") from None
    return answer if isinstance(answer, str) else orjson.dumps(answer).decode(), []


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
