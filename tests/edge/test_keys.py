"""API keys at the edge: made over REST, and ended on every open door at once."""

import asyncio
from typing import Any

import httpx2
import pytest
from websockets import ConnectionClosed

from tests.conftest import eventually

WITHIN_S = 10.0  # far less than the half minute for which a key is remembered


async def issued(http: httpx2.AsyncClient, **fields: Any) -> tuple[str, str]:
    """Id and secret of a fresh key."""
    answer = await http.post("/api-keys", json={"name": "ci"} | fields)
    assert answer.status_code == 201, answer.text
    return answer.json()["key"]["id"], answer.json()["secret"]


async def test_a_revoked_key_opens_no_edge_though_it_was_remembered(
    http: httpx2.AsyncClient, url: str, second: str
) -> None:
    key_id, secret = await issued(http)
    headers = {"x-api-key": secret}
    async with httpx2.AsyncClient(headers=headers, timeout=20) as client:
        places = [f"{place}/api/v1/auth/me" for place in (url, second)]
        assert [(await client.get(place)).status_code for place in places] == [200, 200]
        assert (await http.delete(f"/api-keys/{key_id}")).status_code == 200

        async def closed() -> bool:
            return [(await client.get(place)).status_code for place in places] == [401, 401]

        await eventually(closed, timeout_s=WITHIN_S)


async def test_a_revoked_key_closes_its_socket_and_its_event_stream(
    http: httpx2.AsyncClient, url: str, watch: Any
) -> None:
    key_id, secret = await issued(http)
    headers = {"x-api-key": secret}
    async with (
        watch(additional_headers=headers) as socket,
        httpx2.AsyncClient(headers=headers, timeout=20) as client,
        client.stream("GET", f"{url}/api/v1/events/stream") as stream,
    ):
        await socket.next("hello")
        async with asyncio.timeout(10):
            lines = stream.aiter_lines()
            await anext(lines)
            await http.delete(f"/api-keys/{key_id}")
            async with asyncio.timeout(WITHIN_S):
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.next("never")
                async for _ in lines:
                    pass
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_other_keys_stay_good_when_one_is_revoked(
    http: httpx2.AsyncClient, watch: Any
) -> None:
    key_id, _ = await issued(http)
    async with watch() as socket:
        await socket.next("hello")
        await http.delete(f"/api-keys/{key_id}")
        await socket.send(op="subscribe", topics=["agents.status"])
        await socket.next("subscribed")


async def test_a_key_with_a_scope_passes_only_that_door(http: httpx2.AsyncClient, url: str) -> None:
    _, secret = await issued(http, scopes=["agents:read"])
    async with httpx2.AsyncClient(
        base_url=f"{url}/api/v1", headers={"x-api-key": secret}
    ) as narrow:
        assert (await narrow.get("/agents")).status_code == 200
        assert (await narrow.get("/goals")).status_code == 403
        wider = await narrow.post("/api-keys", json={"name": "more"})
        assert wider.status_code == 403


@pytest.mark.parametrize("wrong", [{"scopes": ["agents:fly"]}, {"roles": ["root"]}, {"days": 0}])
async def test_a_key_with_nonsense_in_it_is_refused(
    http: httpx2.AsyncClient, wrong: dict[str, Any]
) -> None:
    answer = await http.post("/api-keys", json={"name": "ci"} | wrong)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ERR_100")
