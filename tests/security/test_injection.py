"""Words that mean something to a database, a subject, a template or a shell: here they are text.

Every string of every operation, generated from the catalogue; every header; every query.
"""

import asyncio
import re
from collections import Counter
from typing import Any

import httpx2
import nats
import psycopg
import pytest

from bus.settings import Settings
from schemas import catalogue
from schemas.contract import Operation
from tests.conftest import settled
from tests.security.raw import Raw

MARK = "zq7x"
PAYLOADS = (
    "' OR '1'='1' --", "'; DROP TABLE canary; --", "1); DELETE FROM canary; --", "\\'; SELECT pg_sleep(9); --",
    "$1", "%s%n%x", "a.b", "*", ">", "agents.>", "$JS.API.STREAM.PURGE.EVENTS", "_INBOX.x", "evt.agents.created.x",
    "x\r\nX-Evil: 1", "x\ny", "{{7*7}}", "${7*7}", "<script>alert(1)</script>", "$(touch /tmp/evil)",
    "../../../etc/passwd", "\u202eabc", "\U0001f4a5", "=cmd|' /C calc'!A0",
)  # fmt: skip
WORDS = tuple(f"{payload}{MARK}" for payload in PAYLOADS)
AT_ONCE = 16
ID = "00000000-0000-7000-8000-000000000000"
OURS = re.compile(
    r"(req|evt|job|live|dead|tool)\.[a-z-]+(\.[A-Za-z0-9_-]+)*|_INBOX\.[A-Za-z0-9_.-]+"
    r"|\$(JS\.(API|ACK|EVENT)|SRV|O|SYS|KV)\.[A-Za-z0-9_.\-=>*]+"
)
GIVEN: dict[str, dict[str, Any]] = {
    "models.generate": {"messages": [{"role": "user", "content": "hi"}], "tokens_max": 1},
    "models.embed": {"texts": ["hi"]},
    "goals.decompose": {"strategy": "template"},  # the others ask a model, a minute each
    "goals.submit": {"tasks": [{
        "key": "sum", "title": "sum", "capabilities": ["calculate"], "brief": {
            "objective": "sum", "steps": [
                {"name": "sum", "tool": "calculator.evaluate", "arguments": {"expression": "1"}}]},
    }]},
}  # fmt: skip
SLOW = {
    "models.generate": 3, "goals.submit": 4, "agents.run": 4, "identity.set-password": 4,
    "identity.create-user": 8, "identity.sign-in": 8, "identity.set-up": 8,
}  # fmt: skip
"""Behind these a model, an agent or the hash of a password begins to work: so many are enough."""


def sample(schema: dict[str, Any], whole: dict[str, Any]) -> Any:
    """The plainest value of a JSON schema."""
    schema = whole["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    chosen = next((schema[key][0] for key in ("anyOf", "oneOf", "allOf") if key in schema), None)
    if chosen is not None and "default" not in schema:
        return sample(chosen, whole)
    for fixed in ("default", "const"):
        if fixed in schema:
            return schema[fixed]
    inner = schema.get("properties", {})
    plain = {
        "object": {name: sample(inner[name], whole) for name in schema.get("required", ())},
        "array": [sample(schema["items"], whole)] * schema.get("minItems", 0)
        if "items" in schema
        else [],
        "integer": schema.get("minimum", 1),
        "number": schema.get("minimum", 1),
        "boolean": False,
        "string": ID if "[0-9a-f]{8}" in schema.get("pattern", "") else "x",
    }
    return schema["enum"][0] if "enum" in schema else plain.get(schema.get("type", "string"))


def requests(operation: Operation[Any, Any]) -> list[dict[str, Any]]:
    """A request for each of its strings and each word, otherwise well-formed."""
    whole = operation.request.model_json_schema()
    plain = sample(whole, whole) | GIVEN.get(operation.name, {})
    words = WORDS[: SLOW.get(operation.name, len(WORDS))]
    made = [plain | {name: word} for name in whole.get("properties", {}) for word in words]
    nested = [name for name, value in plain.items() if isinstance(value, list | dict)]
    return made + [plain | {name: swapped(plain[name], word)} for name in nested for word in words]


def swapped(value: Any, word: str) -> Any:
    """The same value with the word for each of its strings."""
    if isinstance(value, dict):
        return {key: swapped(inner, word) for key, inner in value.items()}
    if isinstance(value, list):
        return [swapped(inner, word) for inner in value] or [word]
    return word if isinstance(value, str) else value


async def send(
    http: httpx2.AsyncClient, operation: Operation[Any, Any], values: dict[str, Any]
) -> int:
    """The status of one request."""
    assert operation.route is not None
    path, rest = operation.route.path, dict(values)
    for name in operation.route.parameters:
        text = str(rest.pop(name, ID)).encode()
        path = path.replace("{" + name + "}", "".join(f"%{byte:02x}" for byte in text))
    if operation.route.method in ("POST", "PUT"):
        answer = await http.request(operation.route.method, path, json=rest)
    else:
        query = {k: v for k, v in rest.items() if isinstance(v, str | int)}
        answer = await http.request(operation.route.method, path, params=query)
    assert "x-evil" not in answer.headers
    return answer.status_code


def plant(database_url: str) -> None:
    """The canary: a table that an injected statement would change."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("CREATE TABLE canary AS SELECT 'alive' AS said")


def said(database_url: str) -> list[Any]:
    """What the canary says."""
    with psycopg.connect(database_url) as connection:
        return connection.execute("SELECT said FROM canary").fetchall()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_string_of_any_operation_is_more_than_text(
    http: httpx2.AsyncClient, settings: Settings, database_url: str
):
    await asyncio.to_thread(plant, database_url)
    listener = await nats.connect(settings.nats_url.get_secret_value())
    subjects: set[str] = set()

    async def hear(message: Any) -> None:
        subjects.add(message.subject)

    await listener.subscribe(">", cb=hear)
    await settled(listener)
    room, statuses, broken = asyncio.Semaphore(AT_ONCE), Counter[int](), []

    async def one(operation: Operation[Any, Any], values: dict[str, Any]) -> None:
        async with room:
            status = await send(http, operation, values)
        statuses[status] += 1
        if status >= 500:
            broken.append(f"{operation.name} {status}: {values}"[:300])

    wanted = [(o, v) for o in catalogue.operations() if o.route for v in requests(o)]
    await asyncio.gather(*(one(operation, values) for operation, values in wanted))
    await settled(listener)
    await listener.close()

    assert broken == []
    assert len(wanted) > 3_000
    assert statuses[400] > 1_000
    assert statuses[200] > 100
    assert await asyncio.to_thread(said, database_url) == [("alive",)]
    assert sorted(s for s in subjects if MARK in s or not OURS.fullmatch(s)) == []


CREDENTIALS = ("authorization", "x-api-key")
HEADERS = (
    "authorization", "x-api-key", "idempotency-key", "if-match", "if-none-match", "last-event-id",
    "traceparent", "x-request-id", "x-timeout-ms", "accept", "content-type", "content-encoding", "origin",
    "referer", "user-agent", "cookie", "x-forwarded-for", "forwarded", "x-forwarded-proto", "range", "expect",
    "x-principal", "x-deadline", "x-idempotency-key", "upgrade", "content-disposition",
)  # fmt: skip
OF_WRITES = (
    "idempotency-key", "if-match", "traceparent", "x-request-id", "content-type", "x-principal",
    "x-idempotency-key",
)  # fmt: skip
"""Headers that may end up in a row or on the bus; each try is a write."""


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_no_header_is_more_than_text(raw: Raw, database_url: str):
    await asyncio.to_thread(plant, database_url)
    words = [w.encode() for w in WORDS if not re.search(r"[\r\n]", w)]
    room, broken = asyncio.Semaphore(AT_ONCE), []

    async def one(name: str, word: bytes, method: bytes) -> None:
        line, body = name.encode() + b": " + word, b'{"name": "h"}' if method == b"POST" else b""
        async with room:
            known = name not in CREDENTIALS
            answer = await raw.ask(b"/api/v1/agents", line, method=method, body=body, key=known)
        echoed = [line for line in answer.headers if MARK in line[1] and line[0] != "x-request-id"]
        if answer.status >= 500 or echoed:
            broken.append(f"{line!r}: {answer.status} {answer.headers}")

    await asyncio.gather(*(
        one(name, word, method)
        for name in HEADERS
        for word in (words[:6] if name in CREDENTIALS else words)
        for method in ((b"GET", b"POST") if name in OF_WRITES else (b"GET",))
    ))  # fmt: skip
    assert broken == []
    assert await asyncio.to_thread(said, database_url) == [("alive",)]


async def test_a_client_cannot_say_on_the_bus_who_it_is(raw: Raw, key_of: Any):
    lines = (b"x-principal: forged", b"x-deadline: 99999999999999", b"x-correlation-id: x")
    viewer = b"x-api-key: " + (await key_of("viewer")).encode()
    answer = await raw.ask(b"/api/v1/auth/me", viewer, *lines, key=False)

    assert answer.json["id"] == "viewer"
    assert answer.json["roles"] == ["viewer"]
