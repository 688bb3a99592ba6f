"""From an HTTP request to the command of an operation, as JSON that the bus carries.

Path, query and body are merged and validated once, strictly, against the operation's request. A
value that is named twice, a field that is not declared, a key that stands twice in the JSON, a
NUL in a text, nesting without end: each is refused here and never reaches the bus.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

import orjson
from pydantic import ValidationError

from edge.exchange import Call
from schemas.contract import Operation
from schemas.problems import BodyTooSlow, Malformed, TooLarge, UnsupportedMediaType, malformed

DEPTH_MAX = 64
BODY_S_MAX = 30.0
LINGER_S = 2.0
LINGER_BYTES_MAX = 1 << 30
QUERY_FIELDS_MAX = 200
QUERY_BYTES_MAX = 16 * 1024


class Reader:
    """Reads the commands of one operation."""

    def __init__(self, operation: Operation[Any, Any]) -> None:
        assert operation.route is not None
        self._operation = operation
        self._takes_body = operation.route.method in ("POST", "PUT")

    @cached_property
    def _types(self) -> dict[str, str]:
        return query_types(self._operation)

    async def read(self, call: Call) -> dict[str, Any]:
        """The merged values of path, query and body, not yet validated."""
        values: dict[str, Any] = dict(call.parameters)
        query: bytes = call.scope["query_string"]
        if query:
            merge(values, self.of_query(query), "query")
        if self._takes_body:
            body = await whole_body(call, self._operation.body_bytes_max)
            if body:
                require_json(call)
                merge(values, parse(body), "body")
        elif int(call.exchange.headers.get(b"content-length", b"0") or 0) > 0:
            raise Malformed("This operation takes no body.")
        return values

    def of_query(self, query: bytes) -> dict[str, Any]:
        """Query parameters as values of the types that the operation declares."""
        if len(query) > QUERY_BYTES_MAX:
            raise TooLarge("The query is too long.")
        values: dict[str, Any] = {}
        for name, text in parameters(query):
            kind = self._types.get(name, "string")
            if kind == "array":
                values.setdefault(name, []).extend(t for t in text.split(",") if t)
            elif name in values:
                raise Malformed(f"The query names {name[:80]!r} twice.")
            else:
                values[name] = read_value(kind, text)
        return values

    def command(self, values: dict[str, Any]) -> bytes:
        """The command as the bus carries it.

        Raises:
            Malformed: The values are not of the operation's form.
        """
        body = orjson.dumps(values, option=orjson.OPT_SORT_KEYS)
        try:
            self._operation.request.model_validate_json(body, strict=True)
        except ValidationError as bad:
            raise malformed(bad) from None
        return body


def parameters(query: bytes) -> list[tuple[str, str]]:
    """The parameters of a query, decoded.

    Raises:
        Malformed: They are not UTF-8, or too many.
    """
    try:
        found = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict",
            max_num_fields=QUERY_FIELDS_MAX,
        )  # fmt: skip
    except ValueError:
        raise Malformed("The query cannot be read.") from None
    if any("\0" in text for pair in found for text in pair):
        raise Malformed("The query holds a NUL.")
    return found


def query_types(operation: Operation[Any, Any]) -> dict[str, str]:
    """The JSON type of every field of a request, as far as a query can carry it."""
    schema = operation.request.model_json_schema()
    return {name: type_of(field) for name, field in schema.get("properties", {}).items()}


def type_of(schema: dict[str, Any]) -> str:
    """`integer | null` -> integer."""
    options = [o for o in schema.get("anyOf", [schema]) if o.get("type") != "null"]
    return str(options[0].get("type", "string")) if len(options) == 1 else "string"


def read_value(kind: str, text: str) -> Any:
    """A query's text as the JSON value that it means; nonsense stays text and is refused later."""
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind in ("integer", "number"):
        try:
            return int(text) if kind == "integer" else float(text)
        except ValueError:
            return text
    return text


def merge(values: dict[str, Any], more: dict[str, Any], place: str) -> None:
    """Add values that come from another place; the same name twice is refused."""
    twice = values.keys() & more.keys()
    if twice:
        raise Malformed(f"The {place} names again what another part of the request names.",
                        fields=sorted(twice))  # fmt: skip
    values |= more


def require_json(call: Call) -> None:
    """Raises UnsupportedMediaType unless the body says that it is plain JSON."""
    media_type = (call.exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("Send application/json.", content_type=media_type[:80])
    require_no_encoding(call)


def require_no_encoding(call: Call) -> None:
    """Compressed bodies are refused, so that there are no bombs."""
    if call.exchange.headers.get(b"content-encoding", b"identity") != b"identity":
        raise UnsupportedMediaType("Send the body without Content-Encoding.")


async def body_of(call: Call, bytes_max: int) -> AsyncIterator[bytes]:
    """The body piece by piece.

    Raises:
        TooLarge: It is, or says that it is, larger than `bytes_max`.
        BodyTooSlow: It did not arrive within 30 s.
    """
    announced = call.exchange.header(b"content-length")
    if announced is not None and int(announced) > bytes_max:
        raise TooLarge(bytes_max=bytes_max)
    size, more = 0, True
    until = asyncio.get_running_loop().time() + BODY_S_MAX
    while more:
        try:
            async with asyncio.timeout_at(until):
                message = await call.receive()
        except TimeoutError:
            raise BodyTooSlow from None
        if message["type"] == "http.disconnect":
            raise Malformed("The body broke off.")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > bytes_max:
            raise TooLarge(bytes_max=bytes_max)
        if piece:
            yield piece
        more = message.get("more_body", False)


async def discard(call: Call) -> None:
    """Take in what the client still sends, for 2 s at most.

    Closing a connection with unread data resets it, and the client would never see the answer.
    """
    left = int(call.exchange.header(b"content-length") or LINGER_BYTES_MAX)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                message = await call.receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


async def whole_body(call: Call, bytes_max: int) -> bytes:
    """The body in one piece."""
    return b"".join([piece async for piece in body_of(call, bytes_max)])


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Malformed: It is not one, nests too deep, names a key twice or holds a NUL.
    """
    try:
        value = orjson.loads(body)
        require_sane(value)
        json.loads(body, object_pairs_hook=without_doubles)
    except (orjson.JSONDecodeError, json.JSONDecodeError) as bad:
        raise Malformed(f"The body is not JSON: {bad}") from None
    if not isinstance(value, dict):
        raise Malformed("The body is not a JSON object.")
    return value


def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, unless a key stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("A key stands twice in one JSON object.")
    return found


def require_sane(value: Any) -> None:
    """Refuse nesting beyond 64 levels and NUL in texts, which Postgres cannot store."""
    level = [value]
    for _ in range(DEPTH_MAX):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str) and "\0" in one:
                raise Malformed("A text holds a NUL.")
        if not inner:
            return
        level = inner
    raise Malformed(f"The body nests deeper than {DEPTH_MAX} levels.")
