"""The stages of the edge, in order: a request that offends two of them is answered by the first.

error → id and log → CORS → address → who → how often → may → form → bus
"""

from typing import Any

import pytest

from bus.settings import Settings
from edge.app import Running
from edge.limits import Dimension
from tests.conftest import eventually
from tests.security.raw import Answer, Raw

AGENTS = b"/api/v1/agents"
ORIGIN = b"origin: http://localhost:3000"


@pytest.fixture
def raw(settings: Settings, edge: Running, admin_key: Any) -> Raw:
    return Raw(settings.edge_port, admin_key.text)


async def exhaust(raw: Raw) -> Answer:
    """Use up what is allowed to an address without a credential."""
    while (answer := await raw.ask(AGENTS, ORIGIN, key=False)).status == 401:
        pass
    return answer


async def post(raw: Raw, key: str, body: bytes, *lines: bytes) -> Answer:
    bearer = b"authorization: Bearer " + key.encode()
    return await raw.ask(
        AGENTS,
        bearer,
        b"content-type: application/json",
        *lines,
        method=b"POST",
        body=body,
        key=False,
    )


async def test_cors_stands_before_the_limit_and_the_limit_before_who_it_is(raw, key_of):
    answer = await exhaust(raw)
    assert (answer.status, answer.json["error"]["details"]["limit"]) == (429, "address")
    assert answer.header("access-control-allow-origin") == "http://localhost:3000"
    assert answer.header("retry-after")
    assert answer.header("x-ratelimit-remaining") == "0"

    preflight = b"access-control-request-method: POST"
    assert (await raw.ask(AGENTS, ORIGIN, preflight, method=b"OPTIONS", key=False)).status == 204

    async def unknown_is_refused():
        key = (await key_of("viewer")).encode()
        await exhaust(raw)
        return (await raw.ask(AGENTS, b"x-api-key: " + key, key=False)).status == 429

    await eventually(unknown_is_refused)  # whether the key is good was not even asked


async def test_who_it_is_stands_before_how_often_and_that_before_what_may_be_done(
    raw, edge, key_of, monkeypatch
):
    key = await key_of("viewer")
    assert (await post(raw, key, b"{")).status == 403
    limiter = edge.edge.sockets._authentication._limiter
    spent = (Dimension("service", f"test:{key[3:19]}", 1),)
    monkeypatch.setattr(limiter, "of_principal", lambda *_: spent)

    statuses = [(await post(raw, key, b"{")).status for _ in range(2)]
    assert statuses == [403, 429]
    assert (await raw.ask(AGENTS, key=False)).status == 401


async def test_what_may_be_done_stands_before_the_form_and_the_form_before_the_bus(
    raw, key_of, bus_server
):
    viewer, developer = await key_of("viewer"), await key_of("developer")
    assert (await post(raw, viewer, b"{")).status == 403
    assert (await post(raw, developer, b"{")).status == 400
    assert (await post(raw, developer, b'{"name": "a-1"}')).status == 201
    bus_server.kill()

    assert (await post(raw, viewer, b"{")).status == 403
    assert (await post(raw, developer, b"{")).status == 400

    async def nobody_there():
        return (await post(raw, developer, b'{"name": "a-2"}')).status == 503

    await eventually(nobody_there)


async def test_a_failure_anywhere_is_answered_with_an_id_and_counted(raw, edge, http, monkeypatch):
    async def broken(*_):
        raise RuntimeError("anything")

    noted = []
    monkeypatch.setattr(edge.edge.auditor, "request", noted.append)
    monkeypatch.setattr(edge.edge.sockets._authentication, "of_request", broken)
    answer = await raw.ask(AGENTS, b"x-request-id: the-id-of-mine")

    assert (answer.status, answer.header("x-request-id")) == (500, "the-id-of-mine")
    assert [(row["status"], row["request_id"]) for row in noted] == [(500, "the-id-of-mine")]
