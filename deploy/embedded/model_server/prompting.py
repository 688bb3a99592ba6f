"""From a request to a question for the engine, and from constrained text back to tool calls.

The model's chat template knows neither tools nor tool results, so both are told in words: the
offered tools in the system message, a result as a user's turn. The form of the answer does not
rest on those words but on a schema: one `{"tool", "args"}` for each tool, or `{"answer"}`.
"""

import secrets
from typing import Any

import orjson

from deploy.embedded.model_server.constrain import Constraint, free_object
from deploy.embedded.model_server.engine import SLOT_TOKENS, Completion
from deploy.embedded.model_server.errors import ApiError
from deploy.embedded.model_server.requests import (
    ChatBody,
    GenerateBody,
    Generating,
    Message,
    Options,
    Tool,
)

ANSWER_CHARS = 600
_FREE_DEPTH = 2
_CONTROL = "<|im_"
_DEFUSED = "<|\u200bim_"

Turn = dict[str, str]


def chat_question(body: ChatBody) -> Completion:
    """The engine's question for `/api/chat`."""
    turns = [_turn(message) for message in body.messages or ()]
    if body.tools:
        turns = _with_instructions(turns, _tool_words(body.tools))
    return _question(body, tuple(turns))


def generate_question(body: GenerateBody) -> Completion:
    """The engine's question for `/api/generate`; with `raw` the template is left out."""
    if body.raw:
        return _question(body, (), body.prompt)
    system = [_plain("system", body.system)] if body.system else []
    return _question(body, (*system, _plain("user", body.prompt)))


def constraint(body: Generating, tools: list[Tool] | None = None) -> Constraint | None:
    """What the answer must fit, or None for free text."""
    wanted = free_object(_FREE_DEPTH) if body.format == "json" else body.format
    if tools:
        return Constraint(_tool_schema(tools, wanted if isinstance(wanted, dict) else None))
    return Constraint(wanted) if isinstance(wanted, dict) else None


def tool_message(text: str) -> dict[str, Any]:
    """The assistant's message for valid constrained text of a request with tools."""
    value = orjson.loads(text)
    if "tool" in value:
        called = {"name": value["tool"], "arguments": value["args"]}
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": called}],
        }
    answer = value["answer"]
    content = answer if isinstance(answer, str) else orjson.dumps(answer).decode()
    return {"role": "assistant", "content": content}


def _question(
    body: Generating, messages: tuple[Turn, ...], raw_prompt: str | None = None
) -> Completion:
    options = body.options or Options()
    if options.num_ctx > SLOT_TOKENS:
        raise ApiError(400, f"num_ctx {options.num_ctx} is over this server's {SLOT_TOKENS}")
    limit = options.num_predict
    return Completion(
        messages=messages,
        sampling=options.model_dump(exclude={"num_predict", "num_ctx", "seed"}),
        seed=secrets.randbits(32) if options.seed is None else options.seed % 2**32,
        tokens_max=None if limit is None or limit < 0 else min(limit, SLOT_TOKENS),
        context_tokens=options.num_ctx,
        raw_prompt=raw_prompt,
    )


def _turn(message: Message) -> Turn:
    if message.images:
        raise ApiError(400, "this model does not support images")
    if message.role == "tool":
        return _plain("user", f"Result of {message.tool_name or 'the tool'}: {message.content}")
    if message.tool_calls:
        calls = [
            _call_text(call.function.name, call.function.arguments) for call in _calls(message)
        ]
        return _plain("assistant", "\n".join([message.content, *calls]).strip())
    return _plain(message.role, message.content)


def _calls(message: Message) -> list[Any]:
    return list(message.tool_calls or ())


def _call_text(name: str, arguments: dict[str, Any]) -> str:
    return orjson.dumps({"tool": name, "args": arguments}).decode()


def _plain(role: str, content: str) -> Turn:
    """A turn whose text cannot close itself and open another: control tokens are broken up."""
    return {"role": role, "content": content.replace(_CONTROL, _DEFUSED)}


def _with_instructions(turns: list[Turn], words: str) -> list[Turn]:
    first = turns[0] if turns and turns[0]["role"] == "system" else None
    text = f"{first['content']}\n\n{words}" if first else words
    return [_plain("system", text), *(turns[1:] if first else turns)]


def _tool_words(tools: list[Tool]) -> str:
    lines = [
        f"- {tool.function.name}: {tool.function.description or ''} "
        f"args: {orjson.dumps((tool.function.parameters or {}).get('properties', {})).decode()}"
        for tool in tools
    ]
    form = 'Answer with JSON: {"tool": name, "args": {...}} to use a tool, or {"answer": text}.'
    return "\n".join(["You can use these tools:", *lines, form])


def _tool_schema(tools: list[Tool], wanted: dict[str, Any] | None) -> dict[str, Any]:
    answer = {"type": "string", "maxLength": ANSWER_CHARS}
    last = len(tools)
    return {
        "oneOf": [
            *(_tool_branch(number, tool) for number, tool in enumerate(tools)),
            _closed({"answer": _rebased(wanted or answer, f"#/oneOf/{last}/properties/answer")}),
        ]
    }


def _tool_branch(number: int, tool: Tool) -> dict[str, Any]:
    given = {"type": "object", "properties": {}, **(tool.function.parameters or {})}
    args = _rebased(given, f"#/oneOf/{number}/properties/args")
    return _closed({"tool": {"const": tool.function.name}, "args": args})


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _rebased(part: Any, root: str) -> Any:
    """Move references to where the schema now stands: `#/$defs/a` -> `<root>/$defs/a`."""
    if isinstance(part, list):
        return [_rebased(one, root) for one in part]
    if not isinstance(part, dict):
        return part
    moved = {key: _rebased(value, root) for key, value in part.items()}
    reference = part.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        moved["$ref"] = root + reference[1:]
    return moved
