"""From OpenAPI 3.1's JSON Schema to the smaller dialect of 3.0."""

from typing import Any

from schemas.contract import Json

DROPPED = (
    "$defs",
    "propertyNames",
    "contentEncoding",
    "contentMediaType",
    "examples",
    "prefixItems",
)


def downgraded(value: Any) -> Any:
    """The same description in the vocabulary of 3.0."""
    if isinstance(value, list):
        return [downgraded(item) for item in value]
    if not isinstance(value, dict):
        return value
    value = of_tuples(of_constants(of_bounds(of_nulls(value))))
    return {
        key: downgraded(item)
        for key, item in value.items()
        if key not in DROPPED or not is_keyword(value)
    }


def is_keyword(schema: Json) -> bool:
    """Whether this object is a schema and not a table of names."""
    return not isinstance(schema.get("properties", schema.get("type")), dict) or "type" in schema


def of_nulls(schema: Json) -> Json:
    """`anyOf: [X, null]` becomes X with `nullable`."""
    options = schema.get("anyOf")
    if schema.get("type") == "null":
        return {k: v for k, v in schema.items() if k != "type"} | {"nullable": True}
    if not isinstance(options, list) or {"type": "null"} not in options:
        return schema
    left = [option for option in options if option != {"type": "null"}]
    rest = {k: v for k, v in schema.items() if k != "anyOf"}
    if len(left) == 1 and "$ref" not in left[0]:
        return {**left[0], **rest, "nullable": True}
    return {**rest, "anyOf": left, "nullable": True}


def of_bounds(schema: Json) -> Json:
    """Exclusive bounds were flags."""
    for name, plain in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        bound = schema.get(name)
        if isinstance(bound, int | float) and not isinstance(bound, bool):
            schema = {**schema, plain: bound, name: True}
    return schema


def of_constants(schema: Json) -> Json:
    """`const` is an enumeration of one."""
    if "const" not in schema or isinstance(schema["const"], dict):
        return schema
    return {k: v for k, v in schema.items() if k != "const"} | {"enum": [schema["const"]]}


def of_tuples(schema: Json) -> Json:
    """`prefixItems` has no counterpart: any items."""
    if schema.get("type") == "array" and "items" not in schema:
        return {**schema, "items": {}}
    return schema
