"""Remote tools: any program that answers a subject.

The request's body is the arguments as JSON; the headers `x-invocation-id` and `x-deadline` (Unix
milliseconds) tell a careful tool what it is part of; with `x-run-token` it may call back in the
run of the agent that called it. The answer is the result as JSON, or the error
headers of the NATS service protocol, or `{"error": …}`. Only the first reply counts, so a tool that
floods its caller changes nothing; nothing that it says of itself is believed.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError, NoRespondersError

from bus import envelope, outside
from handlers.tools import rules
from schemas.contract import Json
from schemas.problems import DependencyDown, Unavailable
from schemas.tools import Tool, ToolBrokeItsSchema, ToolFailed, ToolTimedOut

INVOCATION_ID = "x-invocation-id"
RUN_TOKEN = "x-run-token"  # nosec B105  # noqa: S105 - the name of a header
ERROR_CHARACTERS_MAX = 500


async def call(
    connection: Connection, tool: Tool, arguments: Json, headers: dict[str, str], timeout_s: float
) -> Any:
    """Ask the tool; the result is JSON of at most 256 KB and not yet checked.

    Raises:
        Unavailable: Nobody answers for the tool; it did not run.
        ToolTimedOut: It did not answer in time.
        ToolFailed: It answered with an error.
        ToolBrokeItsSchema: Its answer is no JSON or too large.
        DependencyDown: The bus was lost on the way; whether it ran is not known.
    """
    body = orjson.dumps(arguments)
    try:
        reply = await outside.request(connection, tool.subject or "", body, headers, timeout_s)
    except NoRespondersError:
        raise Unavailable("Nobody answers for this tool now.", tool=tool.name) from None
    except TimeoutError:
        raise ToolTimedOut(tool=tool.name, timeout_s=round(timeout_s, 3)) from None
    except MaxPayloadError:
        raise ToolFailed("The arguments are larger than the bus carries.") from None
    except (NatsError, OSError):
        raise DependencyDown("The bus was lost while the tool was called.") from None
    return read(reply)


def headers_for(invocation_id: str, deadline_ms: int, origin: envelope.Origin) -> dict[str, str]:
    """What a tool is told besides its arguments."""
    return envelope.of_origin(origin) | {
        INVOCATION_ID: invocation_id,
        envelope.DEADLINE: str(deadline_ms),
    }


def read(reply: Msg) -> Any:
    """The result in a reply."""
    headers = reply.headers or {}
    if envelope.ERROR in headers:
        code = str(headers.get(envelope.ERROR_CODE, ""))[:20]
        raise failed(headers[envelope.ERROR], code=code)
    if len(reply.data) > rules.RESULT_BYTES_MAX:
        raise ToolBrokeItsSchema(
            "The tool's answer is too large.", bytes=len(reply.data),
            bytes_max=rules.RESULT_BYTES_MAX,
        )  # fmt: skip
    try:
        result = orjson.loads(reply.data)
    except orjson.JSONDecodeError:
        raise ToolBrokeItsSchema("The tool's answer is not JSON.") from None
    if isinstance(result, dict) and set(result) == {"error"}:
        error = result["error"]
        raise failed(error.get("message", error) if isinstance(error, Mapping) else error)
    return result


def failed(said: object, **details: str) -> ToolFailed:
    """The tool's own words, cut and without control characters."""
    text = "".join(c for c in str(said) if c.isprintable())[:ERROR_CHARACTERS_MAX]
    return ToolFailed(f"The tool failed: {text}", **details)
