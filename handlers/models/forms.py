"""What an answer must fit: schemas compiled, answers and tool calls held against them.

Pure. The protocol's own tools carry less than their schemas say, so a second attempt tells the
tools in words and asks for one JSON value in a form that carries all of it.
"""

from collections.abc import Mapping
from typing import Any

import jsonschema_rs
import orjson

from bus import json_schemas
from schemas.contract import Json
from schemas.models import GenerateText, Message, ToolCall
from schemas.problems import BadSchema, OutsideSchema

MESSAGE_CHARACTERS_MAX = 300
ANSWER_CHARACTERS_MAX = 600


class OutsideForm(Exception):
    """One attempt's answer does not fit; another seed may do better."""


def compiled(schema: Json) -> jsonschema_rs.Validator:
    """The validator of a schema.

    Raises:
        OutsideSchema: It is no JSON Schema, reaches outside of itself, or costs too much.
    """
    try:
        json_schemas.check(schema)
        return json_schemas.compiled(schema)
    except BadSchema as bad:
        raise OutsideSchema(bad.message) from None


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
