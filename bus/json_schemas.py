"""Values against JSON Schemas, by jsonschema-rs.

A schema is compiled once, its patterns run in linear time, and nothing is fetched for it.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from schemas import json_schemas
from schemas.contract import Json
from schemas.problems import BadSchema, OutsideSchema, pointer_to

COMPILED_MAX = 512
ERRORS_SHOWN = 20
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
    """The first place where the value does not fit; None if it fits."""
    return next(violations(schema, value), None)


def violations(schema: Json, value: Any) -> Iterator[Json]:
    """Where and why the value does not fit: path, RFC 6901 pointer and reason of each place."""
    if json_schemas.depth_of(value) > json_schemas.VALUE_DEPTH_MAX:
        yield misfit((), f"nested deeper than {json_schemas.VALUE_DEPTH_MAX} levels")
    elif json_schemas.has_nul(value):
        yield misfit((), "a text holds a NUL character")
    else:
        try:
            for error in compiled(schema).iter_errors(value):
                yield misfit(error.instance_path, error.message)
        except ValueError as odd:
            yield misfit((), str(odd))


def require_fit(schema: Json, value: Any, at: str, **details: str) -> None:
    """Refuse a value that does not fit its schema.

    Args:
        schema: What it must fit.
        value: What the caller has sent.
        at: The JSON pointer to where the value stands in the caller's request.
        details: What else the problem says.

    Raises:
        OutsideSchema: Says every place, and the first one by itself.
    """
    wrong = list(islice(violations(schema, value), ERRORS_SHOWN))
    if wrong:
        errors = [error | {"pointer": at + error["pointer"]} for error in wrong]
        raise OutsideSchema(
            f"The value does not fit its schema: {errors[0]['reason']}",
            path=errors[0]["path"], pointer=errors[0]["pointer"], errors=errors, **details,
        )  # fmt: skip


def misfit(place: Sequence[str | int], reason: str) -> Json:
    """What is said of one place in the value."""
    return {
        "path": "/".join(str(part) for part in place),
        "pointer": pointer_to(place),
        "reason": reason[:MESSAGE_CHARACTERS_MAX],
    }
