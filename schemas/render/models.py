"""The JSON Schemas of every message, under one name each.

A request is described as it is read, a reply and an event as they are written.
"""

from functools import cache
from typing import Literal

from pydantic.json_schema import models_json_schema

from schemas import catalogue
from schemas.contract import Json, Schema

REF = "#/components/schemas/{model}"
Mode = Literal["validation", "serialization"]


def wanted() -> list[tuple[type[Schema], Mode]]:
    """Every message with the direction in which it goes."""
    found: list[tuple[type[Schema], Mode]] = []
    for operation in catalogue.operations():
        found += [(operation.request, "validation"), (operation.reply, "serialization")]
        if operation.chunk is not None:
            found.append((operation.chunk, "serialization"))
    found += [(event, "serialization") for event in catalogue.events()]
    found += [(job, "validation") for job in catalogue.jobs()]
    return list(dict.fromkeys(found))


@cache
def rendered() -> tuple[dict[tuple[type[Schema], Mode], Json], Json]:
    """A reference for every message, and the definitions that they refer to."""
    references, document = models_json_schema(wanted(), ref_template=REF)
    return dict(references), document["$defs"]  # type: ignore[arg-type]


def definitions() -> Json:
    """Every schema by name."""
    return dict(rendered()[1])


def reference(model: type[Schema], mode: Mode) -> Json:
    """`{"$ref": …}` of one message."""
    return rendered()[0][model, mode]


def definition(model: type[Schema], mode: Mode) -> Json:
    """The schema of one message itself."""
    name = reference(model, mode)["$ref"].rpartition("/")[2]
    schema: Json = rendered()[1][name]
    return schema


ERROR: Json = {
    "type": "object",
    "required": ["error"],
    "description": "The body of every refusal.",
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details", "retryable", "timestamp"],
            "properties": {
                "code": {"type": "string", "pattern": "^ERR_[0-9]{3}$"},
                "message": {"type": "string"},
                "details": {"type": "object", "additionalProperties": True},
                "retryable": {"type": "boolean"},
                "timestamp": {"type": "string", "format": "date-time"},
                "path": {"type": "string"},
                "request_id": {"type": "string"},
            },
        }
    },
}
