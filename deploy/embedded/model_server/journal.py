"""The log: one JSON object a line on standard output.

Prompts and answers are never logged.
"""

import sys
from datetime import UTC, datetime
from typing import Any

import orjson


def say(event: str, **fields: Any) -> None:
    """Write one line; a reader that has gone away must not stop the server."""
    line = {"time": datetime.now(UTC).isoformat(), "event": event, **fields}
    try:
        sys.stdout.write(orjson.dumps(line).decode() + "\n")
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        return
