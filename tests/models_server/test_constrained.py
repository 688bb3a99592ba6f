"""Schema-constrained output and tools: always valid, or an error."""

from typing import Any

import httpx
import jsonschema_rs
import ollama
import orjson
import pytest
from model_process import Running

from deploy.embedded.model_server.constrain import Constraint
from deploy.embedded.model_server.errors import ApiError

CHAT = "smollm2:135m"
ASK = [{"role": "user", "content": "Plan: compare two incident reports, list disagreements."}]
PLAN: dict[str, Any] = {
    "type": "object",
    "properties": {
        "goal": {"type": "string", "minLength": 3, "maxLength": 80},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tasks": {
            "type": "array",
            "minItems": 2,
            "maxItems": 4,
            "items": {"$ref": "#/$defs/task"},
        },
    },
    "required": ["goal", "confidence", "tasks"],
    "additionalProperties": False,
    "$defs": {
        "task": {
            "type": "object",
            "properties": {
                "title": {"type": "string", "maxLength": 60},
                "capability": {"enum": ["search", "extract", "write"]},
                "after": {
                    "type": "array",
                    "items": {"type": "integer", "minimum": 0, "maximum": 3},
                    "maxItems": 2,
                    "uniqueItems": True,
                },
            },
            "required": ["title", "capability", "after"],
            "additionalProperties": False,
        }
    },
}
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "search",
            "description": "Search the documents",
            "parameters": {
                "type": "object",
                "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}},
                "required": ["query"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "add",
            "description": "Add two numbers",
            "parameters": {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "required": ["a", "b"],
            },
        },
    },
]


@pytest.mark.parametrize("seed", range(20))
def test_a_nested_plan_is_valid_with_any_seed(client: ollama.Client, seed: int) -> None:
    options = {"seed": seed, "temperature": 0.0 if seed == 0 else 0.9}
    answer = client.chat(CHAT, ASK, format=PLAN, options=options)
    jsonschema_rs.validator_for(PLAN).validate(orjson.loads(answer.message.content or ""))
    assert answer.done_reason == "stop"


def test_a_constrained_stream_is_pieces_of_one_valid_text(client: ollama.Client) -> None:
    parts = list(client.chat(CHAT, ASK, format=PLAN, options={"seed": 3}, stream=True))
    assert len(parts) > 3
    text = "".join(part.message.content or "" for part in parts)
    jsonschema_rs.validator_for(PLAN).validate(orjson.loads(text))


def test_json_format_gives_an_object(client: ollama.Client) -> None:
    for seed in range(3):
        answer = client.generate(CHAT, "A person, as JSON.", format="json", options={"seed": seed})
        assert isinstance(orjson.loads(answer.response or ""), dict)


def test_a_cut_off_answer_is_an_error(client: ollama.Client) -> None:
    for stream in (False, True):
        with pytest.raises(ollama.ResponseError, match="cut off at 5 tokens") as refusal:
            list(client.chat(CHAT, ASK, format=PLAN, options={"num_predict": 5}, stream=stream))
        assert refusal.value.status_code == 500


def test_an_unsatisfiable_schema_is_an_error(client: ollama.Client) -> None:
    never = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    with pytest.raises(ollama.ResponseError, match="no valid answer in 4 attempts"):
        client.chat(CHAT, ASK, format={**never, "not": {"required": ["a"]}})


BAD_SCHEMAS: dict[str, dict[str, Any]] = {
    "an unknown type": {"type": "bogus"},
    "a dangling reference": {"$ref": "#/$defs/none"},
    "a reference to elsewhere": {"$ref": "http://127.0.0.1:9/x.json"},
    "a hidden reference to elsewhere": {"not": {"$ref": "file:///etc/hosts"}},
    "a broken pattern": {"type": "string", "pattern": "("},
    "a limit of the wrong type": {"type": "string", "maxLength": "x"},
}


@pytest.mark.parametrize("schema", BAD_SCHEMAS.values(), ids=BAD_SCHEMAS.keys())
def test_a_bad_schema_is_400(client: ollama.Client, schema: dict[str, Any]) -> None:
    with pytest.raises(ollama.ResponseError, match="invalid format") as refusal:
        client.chat(CHAT, ASK, format=schema)
    assert refusal.value.status_code == 400


@pytest.mark.parametrize("kind", ["number", "string", "integer", "array", "object"])
def test_a_schema_without_limits_still_ends_soon(client: ollama.Client, kind: str) -> None:
    answer = client.chat(CHAT, ASK, format={"type": kind}, options={"seed": 5})
    jsonschema_rs.validate({"type": kind}, orjson.loads(answer.message.content or ""))
    assert (answer.eval_count or 0) < 1500


def test_a_deep_schema_is_refused() -> None:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(40):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ApiError, match="nested deeper"):
        Constraint(schema)


@pytest.mark.parametrize("seed", range(6))
def test_tools_give_a_well_formed_call_or_an_answer(client: ollama.Client, seed: int) -> None:
    ask = [{"role": "user", "content": "Find the section on whales with the search tool."}]
    message = client.chat(CHAT, ask, tools=TOOLS, options={"seed": seed}).message
    if not message.tool_calls:
        assert message.content
        return
    (call,) = message.tool_calls
    schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
    jsonschema_rs.validate(schemas[call.function.name], dict(call.function.arguments))


def test_a_streamed_tool_call_arrives_whole(client: ollama.Client) -> None:
    ask = [{"role": "user", "content": "Use a tool."}]
    parts = list(client.chat(CHAT, ask, tools=TOOLS[:1], options={"seed": 1}, stream=True))
    assert parts[-1].done
    said = [part.message for part in parts if part.message.tool_calls or part.message.content]
    assert len(said) == 1


def test_a_conversation_with_tool_results_goes_on(client: ollama.Client) -> None:
    call = {"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "What is 1 + 2?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_name": "add", "content": "3"},
    ]
    answer = client.chat(CHAT, turns, tools=TOOLS, options={"seed": 2})
    assert answer.message.content or answer.message.tool_calls


def test_a_tool_with_references_in_its_schema_is_understood(server: Running) -> None:
    parameters = {
        "type": "object",
        "$defs": {
            "place": {
                "type": "object",
                "properties": {"city": {"enum": ["Rome", "Oslo"]}},
                "required": ["city"],
            }
        },
        "properties": {"at": {"$ref": "#/$defs/place"}},
        "required": ["at"],
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    body = {
        "model": CHAT,
        "stream": False,
        "tools": [tool],
        "messages": ASK,
        "options": {"seed": 1},
    }
    answer = httpx.post(f"{server.url}/api/chat", json=body, timeout=60)
    assert answer.status_code == 200, answer.text


def test_numbers_are_clamped_and_repeats_dropped_before_another_attempt() -> None:
    form = Constraint(
        {
            "type": "object",
            "properties": {
                "share": {"type": "number", "maximum": 1},
                "list": {"type": "array", "uniqueItems": True},
            },
        }
    )
    assert form.fit('{"share": 7, "list": [1, 2, 1]}') == ('{"share":1,"list":[1,2]}', "")
    assert form.fit('{"share": "x"}')[1]
    assert form.fit('{"share": ')[1] == "the answer is not complete JSON"
    assert form.fit('{ "share":0.5 }') == ('{ "share":0.5 }', "")
