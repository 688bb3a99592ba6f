"""Values against JSON Schemas, by jsonschema-rs.

A schema is compiled once, its patterns run in linear time, and nothing is fetched for it.
"""

from typing import Any

import jsonschema_rs
import orjson

from handlers.tools import rules
from schemas.contract import Json
from schemas.tools import BadSchema

COMPILED_MAX = 512
MESSAGE_CHARACTERS_MAX = 300
PATTERN_BYTES_MAX = 1024 * 1024

_compiled: dict[bytes, jsonschema_rs.Validator] = {}


def check(schema: Json) -> None:
    """Refuse a schema that cannot be used.

    Raises:
        BadSchema: It is not a JSON Schema, costs too much, or reaches outside of itself.
    """
    rules.check_schema(schema)
    compiled(schema)


def compiled(schema: Json) -> jsonschema_rs.Validator:
    """The validator of a schema, from memory if it was used before."""
    try:
        key = orjson.dumps(schema)
        if key not in _compiled:
            if len(_compiled) >= COMPILED_MAX:
                _compiled.pop(next(iter(_compiled)))
            _compiled[key] = compile_one(schema)
        return _compiled[key]
    except (jsonschema_rs.ValidationError, ValueError, TypeError) as bad:
        message = getattr(bad, "message", None) or str(bad)
        raise BadSchema(f"Not a usable JSON Schema: {message[:MESSAGE_CHARACTERS_MAX]}") from None


def compile_one(schema: Json) -> jsonschema_rs.Validator:
    """A validator that fetches nothing and whose patterns cannot run away."""
    patterns = jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES_MAX)
    return jsonschema_rs.validator_for(schema, pattern_options=patterns, offline=True)


def violation(schema: Json, value: Any) -> Json | None:
    """Where and why the value does not fit: `{"path", "reason"}`, or None when it fits."""
    if rules.depth_of(value) > rules.VALUE_DEPTH_MAX:
        return {"path": "", "reason": f"nested deeper than {rules.VALUE_DEPTH_MAX} levels"}
    if rules.has_nul(value):
        return {"path": "", "reason": "a text holds a NUL character"}
    try:
        error = next(compiled(schema).iter_errors(value), None)
    except ValueError as odd:
        return {"path": "", "reason": str(odd)[:MESSAGE_CHARACTERS_MAX]}
    if error is None:
        return None
    path = "/".join(str(part) for part in error.instance_path)
    return {"path": path, "reason": error.message[:MESSAGE_CHARACTERS_MAX]}
