"""Output that fits a JSON schema, or an error: never something in between.

Three steps. A grammar made from the schema steers the sampler (llama.cpp with LLGuidance); the
finished text is checked against the schema as the caller wrote it; a miss is repaired where only
a number's bound or a repeated item is wrong, and otherwise tried again with another seed.

The grammar is a tightened copy of the schema: what the grammar engine does not know is left out
(an unknown key would switch the grammar off without a word), and strings, arrays and numbers
without a limit get one, because a small model may otherwise go on until the context is full. The
text is held back until it is valid.
"""

import re
import threading
from dataclasses import replace
from typing import Any

import jsonschema_rs
import orjson

from deploy.embedded.model_server.engine import ChatEngine, Completion, Outcome
from deploy.embedded.model_server.errors import ApiError

ATTEMPTS = 4
ANSWER_TOKENS = 2048
SCHEMA_DEPTH_MAX = 32
STRING_CHARS = 400
ARRAY_ITEMS = 8
FREE_DEPTH = 2
NUMBER_SIZE = 10**15
NUMBER_STEP = 0.0001
REPAIRS_MAX = 64

Schema = dict[str, Any] | bool

_ENGINE_KEYS = frozenset(
    (
        *("type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions"),
        *("properties", "required", "additionalProperties", "patternProperties"),
        *("minProperties", "maxProperties", "items", "prefixItems", "minItems", "maxItems"),
        *("minLength", "maxLength", "pattern", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    )
)
_ENGINE_FORMATS = frozenset(
    ("date-time", "date", "time", "email", "uuid", "ipv4", "ipv6", "hostname", "uri")
)
_OPTIONS = {"whitespace_flexible": False, "lenient": True, "coerce_one_of": True}
_SHAPES = {
    "object": {"properties", "required", "additionalProperties", "patternProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
    },
}
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_JSON_START = re.compile(r'[{\["\-0-9tfn]')


class Constraint:
    """A schema, ready to steer and to judge."""

    def __init__(self, schema: Schema) -> None:
        """Prepare; raises ApiError 400 for a schema that is none or that refers to elsewhere."""
        _check_depth(schema, 0)
        try:
            self._validator = jsonschema_rs.validator_for(schema, retriever=_fetch_nothing)
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            raise ApiError(400, f"invalid format: {_first_line(error)}") from error
        self.grammar = _grammar(_tighten(schema))

    def fit(self, text: str) -> tuple[str, str]:
        """Return the text (repaired where that is safe) and what is wrong with it, if anything."""
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError:
            return text, "the answer is not complete JSON"
        for repairs in range(REPAIRS_MAX):
            error = next(self._validator.iter_errors(value), None)
            if error is None:
                return (orjson.dumps(value).decode() if repairs else text), ""
            if not _repair(value, error):
                return text, _first_line(error)
        return text, "too many values are out of bounds"


def constrained(
    engine: ChatEngine,
    asked: Completion,
    constraint: Constraint,
    cancelled: threading.Event,
) -> Outcome:
    """Generate until the text fits; raises ApiError 500 when no attempt does.

    Counts and durations are sums over all attempts, because all of them were work.
    """
    limit = asked.tokens_max if asked.tokens_max is not None else ANSWER_TOKENS
    steered = replace(asked, grammar=constraint.grammar, tokens_max=limit)
    spent: list[Outcome] = []
    problem = ""
    for attempt in range(ATTEMPTS):
        outcome = _attempt(engine, steered.reseeded(attempt), cancelled)
        spent.append(outcome)
        text, problem = constraint.fit(outcome.text)
        if not problem:
            return _total(spent, text)
        if outcome.done_reason == "length":
            problem = f"the answer was cut off at {outcome.eval_tokens} tokens"
    raise ApiError(500, f"no valid answer in {ATTEMPTS} attempts: {problem}")


def _attempt(engine: ChatEngine, asked: Completion, cancelled: threading.Event) -> Outcome:
    """One try, cut short when its first character shows that the grammar did not take."""
    hopeless = _Either(cancelled)
    first = True

    def watch(piece: str) -> None:
        nonlocal first
        if first and not _JSON_START.match(piece):
            hopeless.set()
        first = False

    try:
        return engine.complete(asked, watch, hopeless)
    except ApiError:
        if cancelled.is_set() or not hopeless.is_set():
            raise
        return Outcome("", "stop", 0, 0, 0, 0)


class _Either(threading.Event):
    """Set when it is set itself, or when the event it watches is."""

    def __init__(self, other: threading.Event) -> None:
        super().__init__()
        self._other = other

    def is_set(self) -> bool:
        return super().is_set() or self._other.is_set()


def _total(spent: list[Outcome], text: str) -> Outcome:
    return Outcome(
        text=text,
        done_reason="stop",
        prompt_tokens=spent[-1].prompt_tokens,
        prompt_ns=sum(one.prompt_ns for one in spent),
        eval_tokens=sum(one.eval_tokens for one in spent),
        eval_ns=sum(one.eval_ns for one in spent),
    )


def _grammar(tight: dict[str, Any]) -> str:
    schema = {**tight, "x-guidance": _OPTIONS}
    return f"%llguidance {{}}\nstart: %json {orjson.dumps(schema).decode()}"


def free_value(depth: int) -> dict[str, Any]:
    """A schema of any JSON value, nested at most `depth` deep."""
    scalars: list[dict[str, Any]] = [
        {"type": "string", "maxLength": STRING_CHARS},
        {"type": "integer", "minimum": -NUMBER_SIZE, "maximum": NUMBER_SIZE},
        {"type": "boolean"},
    ]
    if depth == 0:
        return {"anyOf": scalars}
    return {"anyOf": [*scalars, free_object(depth - 1)]}


def free_object(depth: int) -> dict[str, Any]:
    """A schema of any JSON object whose values nest at most `depth` deep."""
    values = free_value(depth)
    return {
        "type": "object",
        "additionalProperties": values,
        "maxProperties": ARRAY_ITEMS,
    }


def _check_depth(part: Any, depth: int) -> None:
    if depth > SCHEMA_DEPTH_MAX:
        raise ApiError(400, f"invalid format: nested deeper than {SCHEMA_DEPTH_MAX}")
    if isinstance(part, dict):
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _check_depth(inner, depth + 1)


def _fetch_nothing(address: str) -> Any:
    raise ValueError(f"a schema may not refer to {address}")


def _tighten(schema: Schema) -> dict[str, Any]:
    """Copy what the grammar engine knows and bound what has no bound; nothing becomes wider."""
    if isinstance(schema, bool) or not schema:
        return free_value(FREE_DEPTH)
    tight = {key: _inside(key, value) for key, value in schema.items() if _known(key, value)}
    _name_the_shape(tight)
    _bound(tight)
    return tight


def _known(key: str, value: Any) -> bool:
    return key in _ENGINE_KEYS or (key == "format" and value in _ENGINE_FORMATS)


def _inside(key: str, value: Any) -> Any:
    if key in {"properties", "patternProperties", "$defs", "definitions"}:
        return {name: _tighten(part) for name, part in value.items()}
    if key == "allOf":
        return [_open(part) for part in value]
    if key in {"anyOf", "oneOf", "prefixItems"}:
        return [_tighten(part) for part in value]
    if key in {"items", "additionalProperties"} and value is not False:
        return _tighten(value)
    return value


def _open(part: Schema) -> dict[str, Any]:
    """A part of `allOf` must leave room for the properties of the others."""
    tight = _tighten(part)
    if isinstance(part, dict) and "additionalProperties" not in part:
        tight.pop("additionalProperties", None)
    return tight


def _name_the_shape(tight: dict[str, Any]) -> None:
    """Without a type anything is allowed; keep to what the other keys speak about."""
    if tight.keys() & {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}:
        return
    for shape, keys in _SHAPES.items():
        if tight.keys() & keys:
            tight["type"] = shape
            return


def _bound(tight: dict[str, Any]) -> None:
    kind = tight.get("type")
    kinds = kind if isinstance(kind, list) else [kind]
    if tight.keys() & {"enum", "const"}:
        return
    if "string" in kinds and "format" not in tight:
        tight.setdefault("maxLength", max(STRING_CHARS, tight.get("minLength", 0)))
    if "array" in kinds:
        tight.setdefault("maxItems", max(ARRAY_ITEMS, tight.get("minItems", 0)))
        tight.setdefault("items", free_value(0))
    if "integer" in kinds or "number" in kinds:
        _bound_number(tight, whole="number" not in kinds)
    if "object" in kinds:
        _bound_object(tight)


def _bound_number(tight: dict[str, Any], *, whole: bool) -> None:
    limits = [tight[key] for key in _LIMITS if key in tight]
    if all(abs(limit) < NUMBER_SIZE for limit in limits):
        tight.setdefault("minimum", -NUMBER_SIZE)
        tight.setdefault("maximum", NUMBER_SIZE)
    narrow = len(limits) > 1 and max(limits) - min(limits) < 100 * NUMBER_STEP
    if not whole and not narrow:
        tight.setdefault("multipleOf", NUMBER_STEP)


def _bound_object(tight: dict[str, Any]) -> None:
    if tight.keys() & {"allOf", "anyOf", "oneOf", "$ref"}:
        return
    required = tight.get("required", [])
    if tight.keys() & {"properties", "patternProperties"}:
        named = tight.setdefault("properties", {})
        for name in required:
            named.setdefault(name, free_value(0))
        tight.setdefault("additionalProperties", False)
        return
    tight.setdefault("additionalProperties", free_value(FREE_DEPTH - 1))
    count = max(ARRAY_ITEMS, tight.get("minProperties", 0), len(required))
    tight.setdefault("maxProperties", count)


def _repair(value: Any, error: jsonschema_rs.ValidationError) -> bool:
    """Put one wrong number on its bound, or drop repeated items; False if that is not the fault."""
    if not error.instance_path:
        return False
    *parents, last = error.instance_path
    for step in parents:
        value = value[step]
    kind = error.kind
    if kind.name in {"minimum", "maximum"}:
        value[last] = getattr(kind, "limit")  # noqa: B009 - the type is a union
    elif kind.name == "uniqueItems":
        value[last] = _without_repeats(value[last])
    else:
        return False
    return True


def _without_repeats(items: list[Any]) -> list[Any]:
    return [item for number, item in enumerate(items) if item not in items[:number]]


def _first_line(error: Exception) -> str:
    return str(getattr(error, "message", error)).split("\n", 1)[0]
