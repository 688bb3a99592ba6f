"""REST: the envelope, what is refused, versions, repetition, pages."""

import asyncio
import secrets
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from bus.context import Platform
from edge import command
from edge.app import Running
from edge.rest import PREFIX
from schemas import catalogue
from tests.conftest import eventually

ID = "0192f0c1-0000-7000-8000-000000000000"


def name() -> str:
    return f"a-{secrets.token_hex(4)}"


async def created(http: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await http.post("/agents", json={"name": name()} | fields)
    assert answer.status_code == 201, answer.text
    agent: dict[str, Any] = answer.json()
    return agent


async def test_a_refusal_has_the_envelope_and_names_path_and_request(
    http: httpx2.AsyncClient,
) -> None:
    answer = await http.get(f"/agents/{ID}", headers={"x-request-id": "my-request-1"})
    error = answer.json()["error"]
    assert error.pop("timestamp").endswith("Z")
    assert answer.status_code == 404
    assert error == {
        "code": "ERR_001",
        "message": "There is no such thing, or you may not know of it.",
        "details": {},
        "retryable": False,
        "path": f"{PREFIX}/agents/{ID}",
        "request_id": "my-request-1",
    }
    assert answer.headers["x-request-id"] == "my-request-1"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_an_unsafe_request_id_is_replaced(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/auth/me", headers={"x-request-id": "a b<script>"})
    assert len(answer.headers["x-request-id"]) == 36


async def test_whoever_asks_for_it_gets_problem_json(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/nowhere", headers={"accept": "application/problem+json"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 404
    assert answer.json()["code"] == "ERR_001"


BAD_BODIES = [
    b'{"name":',
    b"[]",
    b'"text"',
    b'{"name": "ok", "unknown": 1}',
    b'{"name": 5}',
    b'{"name": "a", "name": "b"}',
    b'{"name": "a\\u0000b"}',
    b'{"name": "ok", "config": {"instructions": "a\\u0000b"}}',
    b'{"name": "ok", "limits": {"parallel": "3"}}',
    b'{"name": NaN}',
    b'{"name": "a", "config": ' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
    b"\xff\xfe",
    b"{}",
]


async def test_a_bad_body_is_400_and_never_reaches_the_bus(http: httpx2.AsyncClient) -> None:
    for body in BAD_BODIES:
        headers = {"content-type": "application/json"}
        answer = await http.post("/agents", content=body, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ERR_100")


BAD_IDS = ["a.b", "a*", "%3E", "a%20b", "a%00b", "*", "..%00"]


async def test_an_id_that_could_be_a_subject_is_400(http: httpx2.AsyncClient) -> None:
    for place in BAD_IDS:
        assert (await http.get(f"/agents/{place}")).status_code == 400


BAD_PATHS = ["/agents/", "//agents", f"/agents%2F{ID}", "/agents/a%2Fb"]


async def test_a_path_that_is_almost_right_is_404_and_no_redirect(
    http: httpx2.AsyncClient, url: str
) -> None:
    for place in BAD_PATHS:
        host, port = urlsplit(url).hostname, urlsplit(url).port
        reader, writer = await asyncio.open_connection(host, port)
        key = http.headers["authorization"]
        writer.write(
            f"GET {PREFIX}{place} HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n"
            "connection: close\r\n\r\n".encode()
        )
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 404"), answer[:60]


BAD_QUERIES = ["limit=0", "limit=x", "limit=1&limit=2", "nope=1", "cursor=%FF", "capability=%00"]


async def test_a_bad_query_is_400(http: httpx2.AsyncClient) -> None:
    for query in BAD_QUERIES:
        assert (await http.get(f"/agents?{query}")).status_code == 400


async def test_only_plain_json_is_read(http: httpx2.AsyncClient) -> None:
    text = await http.post("/agents", content=b"x", headers={"content-type": "text/plain"})
    packed = await http.post(
        "/agents",
        content=b"x",
        headers={"content-type": "application/json", "content-encoding": "gzip"},
    )
    assert (text.status_code, packed.status_code) == (415, 415)


async def test_a_body_of_50_mb_is_refused_before_it_is_read(http: httpx2.AsyncClient) -> None:
    async def endless() -> Any:
        for _ in range(800):
            yield b"x" * 65536

    headers = {"content-type": "application/json"}
    announced = await http.post("/agents", content=b"x" * 50_000_000, headers=headers)
    assert announced.status_code == 413
    try:
        chunked = await http.post("/agents", content=endless(), headers=headers)
    except httpx2.TransportError:
        return  # the edge closed the connection while we were still sending
    assert chunked.status_code == 413


async def test_a_slow_body_is_given_up(
    http: httpx2.AsyncClient, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "BODY_S_MAX", 0.3)
    reader, writer = await asyncio.open_connection(urlsplit(url).hostname, urlsplit(url).port)
    key = http.headers["authorization"]
    writer.write(
        f"POST {PREFIX}/agents HTTP/1.1\r\nhost: x\r\nauthorization: {key}\r\n"
        'content-type: application/json\r\ncontent-length: 100\r\n\r\n{"na'.encode()
    )
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"ERR_105" in answer


async def test_unknown_methods_are_405_and_options_tells_which_are_known(
    http: httpx2.AsyncClient,
) -> None:
    refused = await http.delete("/agents")
    told = await http.options("/agents")
    assert refused.status_code == 405
    assert refused.headers["allow"] == told.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_head_is_get_without_a_body(http: httpx2.AsyncClient) -> None:
    answer = await http.head("/auth/me")
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_version_is_an_etag_that_saves_reading_again(http: httpx2.AsyncClient) -> None:
    agent = await created(http)
    first = await http.get(f"/agents/{agent['id']}")
    again = await http.get(f"/agents/{agent['id']}", headers={"if-none-match": '"1"'})
    other = await http.get(f"/agents/{agent['id']}", headers={"if-none-match": '"2"'})
    assert first.headers["etag"] == '"1"'
    assert (again.status_code, again.content, other.status_code) == (304, b"", 200)


async def test_if_match_stands_for_the_version_and_a_wrong_one_is_412(
    http: httpx2.AsyncClient,
) -> None:
    agent, body = await created(http), {"capabilities": ["x"]}
    place = f"/agents/{agent['id']}"
    wrong = await http.put(place, json=body, headers={"if-match": '"7"'})
    both = await http.put(place, json=body | {"version": 1}, headers={"if-match": '"2"'})
    right = await http.put(place, json=body, headers={"if-match": '"1"'})
    assert [a.status_code for a in (wrong, both, right)] == [412, 412, 200]
    assert right.headers["etag"] == '"2"'


async def test_the_same_key_twice_creates_one_agent(http: httpx2.AsyncClient) -> None:
    body, headers = {"name": name()}, {"idempotency-key": secrets.token_hex(8)}
    first = await http.post("/agents", json=body, headers=headers)
    again = await http.post("/agents", json=body, headers=headers)
    other = await http.post("/agents", json={"name": name()}, headers=headers)
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert (other.status_code, other.json()["error"]["code"]) == (422, "ERR_114")


async def test_pages_neither_skip_nor_repeat(http: httpx2.AsyncClient) -> None:
    made = {(await created(http))["id"] for _ in range(5)}
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await http.get("/agents", params=query)).json()
        seen += [agent["id"] for agent in page["items"]]
        await created(http)
        if not page.get("next"):
            break
        query["cursor"] = page["next"]
    assert len(seen) == len(set(seen))
    assert made <= set(seen)


async def test_a_timeout_of_ones_own_narrows_the_deadline(http: httpx2.AsyncClient) -> None:
    bad = await http.get("/auth/me", headers={"x-timeout-ms": "soon"})
    fine = await http.get("/auth/me", headers={"x-timeout-ms": "5000"})
    assert (bad.status_code, fine.status_code) == (400, 200)


async def test_every_operation_with_a_route_answers_there(
    http: httpx2.AsyncClient, anonymous: httpx2.AsyncClient
) -> None:
    for operation in catalogue.operations():
        if operation.route is not None:
            path = operation.route.path
            for parameter in operation.route.parameters:
                path = path.replace(f"{{{parameter}}}", "%20")
            answer = await http.request(operation.route.method, path, json=None)
            assert answer.status_code != 405, operation.name
            code = answer.json().get("error", {}).get("code")
            assert answer.status_code != 404 or code != "ERR_001", operation.name


async def test_while_the_bus_is_away_the_answer_is_503_and_comes_at_once(
    http: httpx2.AsyncClient, edge: Running, platform: Platform, bus_server: Any
) -> None:
    assert (await http.get("/auth/me")).status_code == 200
    bus_server.kill()
    until = asyncio.get_running_loop().time() + 5
    while edge.edge.connection.is_connected:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.05)
    started = asyncio.get_running_loop().time()
    answer = await http.post("/agents", json={"name": name()})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert asyncio.get_running_loop().time() - started < 1
    bus_server.start()

    async def back() -> bool:
        return edge.edge.connection.is_connected and platform.connection.is_connected

    await eventually(back)  # a connection closed while it is being made again leaks its socket
