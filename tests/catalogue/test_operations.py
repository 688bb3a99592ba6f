"""Every operation of the catalogue, walked: answered, refused without leave, refused when malformed.

A new operation is covered the moment it is declared; nothing is listed here.
"""

import asyncio
from typing import Any

import orjson
import pytest

from bus import envelope
from bus.clock import Clock
from schemas import catalogue
from schemas.principal import ROLES, Principal

OPERATIONS = catalogue.operations()


async def raw(client: Any, operation: Any, body: bytes, headers: dict[str, str]) -> Any:
    """The error code of an answer, or None when it is not an error."""
    message = await client.connection.request(
        operation.subject, body, timeout=10, headers=headers or None
    )
    return (message.headers or {}).get(envelope.ERROR), message.data


def header_for(operation: Any, ask: Any) -> str:
    """The principal's header; what is internal is asked as the edge itself asks."""
    return (ask.as_edge if operation.internal else ask).how().principal


async def each(check: Any) -> list[str]:
    """What `check` has against each operation."""
    complaints = await asyncio.gather(*(check(operation) for operation in OPERATIONS))
    return [complaint for complaint in complaints if complaint]


async def test_nothing_answers_without_a_principal(platform, client):
    async def check(operation):
        code, _ = await raw(client, operation, b"{}", {})
        return None if code == "ERR_200" else f"{operation.name}: {code}"

    assert await each(check) == []


async def test_only_what_is_public_answers_those_who_showed_nothing(platform, client, ask):
    header = ask.as_nobody.how().principal

    async def check(operation):
        code, _ = await raw(client, operation, b"[]", {envelope.PRINCIPAL: header})
        expected = "ERR_100" if operation.public else "ERR_200"
        return None if code == expected else f"{operation.name}: {code}, expected {expected}"

    assert await each(check) == []


async def test_nothing_answers_to_a_forged_principal(platform, client, ask):
    good = ask.how().principal
    forged = good[:-12] + ("A" * 12 if good[-12:] != "A" * 12 else "B" * 12)

    async def check(operation):
        code, _ = await raw(client, operation, b"{}", {envelope.PRINCIPAL: forged})
        return None if code == "ERR_203" else f"{operation.name}: {code}"

    assert await each(check) == []


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_is_refused_exactly_what_the_table_refuses(platform, client, ask_as, role):
    header = ask_as(role).how().principal
    principal = Principal(id=role, kind="key", roles=(role,))

    async def check(operation):
        may = principal.scope_of(operation.may) != "none" and not operation.internal
        code, _ = await raw(client, operation, b"[]", {envelope.PRINCIPAL: header})
        expected = "ERR_100" if may else "ERR_300"
        return None if code == expected else f"{operation.name}: {code}, expected {expected}"

    assert await each(check) == []


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"no_such_field": 1}', b'{"a":' * 500],
    ids=["cut off", "a list", "a string", "null", "not UTF-8", "unknown field", "deep"],
)
async def test_a_malformed_body_is_answered_with_what_is_wrong(platform, client, ask, body):
    async def check(operation):
        header = header_for(operation, ask)
        code, data = await raw(client, operation, body, {envelope.PRINCIPAL: header})
        error = orjson.loads(data).get("error", {})
        ok = code == "ERR_100" and error.get("details", {}).get("fields")
        return None if ok else f"{operation.name}: {code} {data[:80]!r}"

    assert await each(check) == []


async def test_a_request_behind_its_deadline_is_not_worked_on(platform, client, ask):
    headers = {
        envelope.PRINCIPAL: ask.how().principal,
        envelope.DEADLINE: str(Clock().unix_ms() - 1),
    }

    async def check(operation):
        code, _ = await raw(client, operation, b"{}", headers)
        return None if code == "ERR_610" else f"{operation.name}: {code}"

    assert await each(check) == []


async def test_an_id_with_subject_characters_never_reaches_a_subject(platform, client, ask):
    with_id = [o for o in OPERATIONS if "id" in o.request.model_fields]

    async def check(operation):
        header = header_for(operation, ask)
        for bad in ("a.b", "*", ">", "a b", "a\x00b", "../x", ""):
            body = orjson.dumps({"id": bad})
            code, _ = await raw(client, operation, body, {envelope.PRINCIPAL: header})
            if code != "ERR_100":
                return f"{operation.name} {bad!r}: {code}"
        return None

    assert [c for c in await asyncio.gather(*map(check, with_id)) if c] == []
