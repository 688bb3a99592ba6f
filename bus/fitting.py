"""Whether a value fits the JSON Schema that was declared for it."""

from typing import Any

import jsonschema_rs

from schemas.contract import Json
from schemas.problems import OutsideSchema

ERRORS_SHOWN = 20
MESSAGE_CHARACTERS_MAX = 200


def require_fit(schema: Json, value: Any, where: str) -> None:
    """Refuse a value that does not fit a JSON Schema.

    Raises:
        OutsideSchema: Says where it does not fit.
    """
    errors = [
        {
            "path": "/".join(map(str, error.instance_path)),
            "message": error.message[:MESSAGE_CHARACTERS_MAX],
        }
        for error in jsonschema_rs.iter_errors(schema, value)
    ]
    if errors:
        raise OutsideSchema(where=where, errors=errors[:ERRORS_SHOWN])
