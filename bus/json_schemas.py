"""Values against JSON Schemas, by jsonschema-rs.

A schema is compiled once, its patterns run in linear time, and nothing is fetched for it.
"""

from collections.abc import Sequence
from typing import Any

import jsonschema_rs
import orjson

from schemas import json_schemas
from schemas.contract import Json
from schemas.problems import BadSchema, pointer_to

COMPILED_MAX = 512
MESSAGE_CHARACTERS_MAX = 300
PATTERN_BYTES_MAX = 1024 * 1024

_compiled: dict[bytes, jsonschema_rs.Validator] = {}


def check(schema: Json) -> None:
    """Refuse a schema that cannot be used.

    Raises:
        BadSchema: It is not a JSON Schema, costs too much, or reaches outside of itself.
    """
    json_schemas.check(schema)
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
    """Where and why the value does not fit: path, RFC 6901 pointer and reason; None if it fits."""
    if json_schemas.depth_of(value) > json_schemas.VALUE_DEPTH_MAX:
        return misfit((), f"nested deeper than {json_schemas.VALUE_DEPTH_MAX} levels")
    if json_schemas.has_nul(value):
        return misfit((), "a text holds a NUL character")
    try:
        error = next(compiled(schema).iter_errors(value), None)
    except ValueError as odd:
        return misfit((), str(odd))
    return None if error is None else misfit(error.instance_path, error.message)


def misfit(place: Sequence[str | int], reason: str) -> Json:
    """What `violation` says of one place in the value."""
    return {
        "path": "/".join(str(part) for part in place),
        "pointer": pointer_to(place),
        "reason": reason[:MESSAGE_CHARACTERS_MAX],
    }
