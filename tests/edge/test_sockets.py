"""WebSockets and the event stream: in order, without loss or double, and no one waits for the slow."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bus.background import forever
from edge import sockets, topics, watching
from edge.app import Running
from edge.watching import QUEUE_MAX
from schemas.principal import Role
from tests.conftest import eventually


async def create(http: httpx2.AsyncClient, **fields: Any) -> str:
    answer = await http.post("/agents", json={"name": f"a-{secrets.token_hex(4)}"} | fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_an_event_reaches_a_subscriber_with_its_position(http: Any, watch: Any) -> None:
    async with watch() as socket:
        hello = await socket.next("hello")
        await socket.send(op="subscribe", topics=["agents.status"])
        await socket.next("subscribed")
        agent = await create(http)
        event = await socket.event_of({agent})
    assert hello["heartbeat_s"] == 20
    assert (event["type"], event["topic"]) == ("agents.created", "agents.status")
    assert event["data"]["agent"]["id"] == event["entity_id"] == agent
    assert event["position"].endswith(f"-{event['seq']}")


async def test_the_key_may_come_in_the_first_frame_and_a_wrong_one_closes_4401(
    watch: Any, admin_key: Any
) -> None:
    async with watch(additional_headers={}) as socket:
        await socket.send(op="auth", key=admin_key.text)
        await socket.next("hello")
    async with watch(additional_headers={}) as socket:
        await socket.send(op="auth", key="sp_wrong")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.next("hello")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_silence_instead_of_a_key_closes_4401(
    watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "AUTH_S", 0.1)
    async with watch(additional_headers={}) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.next("hello")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_a_foreign_origin_is_refused_at_the_upgrade(watch: Any) -> None:
    with pytest.raises(InvalidStatus):
        async with watch(origin="http://evil.example"):
            pass
    async with watch(origin="http://localhost:3000") as socket:
        await socket.next("hello")


async def test_reconnects_lose_and_double_nothing(http: Any, watch: Any) -> None:
    made: list[str] = []
    seen: list[str] = []

    async def write() -> None:
        for _ in range(60):
            made.append(await create(http))  # noqa: PERF401 - the reader looks at it meanwhile

    async with watch() as socket:
        position = (await socket.next("hello"))["position"]
    writing = asyncio.create_task(write())
    while not writing.done() or not set(made) <= set(seen):
        async with watch() as socket:
            await socket.send(op="subscribe", topics=["events"], since=position)
            for _ in range(7):
                try:
                    event = await socket.next("event", timeout_s=2)
                except TimeoutError:
                    break
                position = event["position"]
                seen.append(event["entity_id"])
            socket.socket.transport.abort()
    assert [agent for agent in seen if agent in made] == made


async def test_what_is_sent_again_for_one_consumer_is_shown_to_nobody(
    http: Any, watch: Any, platform: Any
) -> None:
    async with watch() as socket:
        await socket.next("hello")
        await socket.send(op="subscribe", topics=["events"])
        await socket.next("subscribed")
        agent = await create(http)
        shown = await socket.event_of({agent})
        headers = {"ce-type": "agents.created", "ce-id": shown["id"], "ce-subject": agent}
        await platform.connection.jetstream().publish(
            f"evt.agents.created.{agent}",
            b"{}",
            headers=headers | {"x-letter-to": "goals-note-run"},
        )
        other = await create(http)
        following = await socket.event_of({agent, other})
    assert following["entity_id"] == other
    assert following["seq"] >= shown["seq"] + 2
    async with watch() as again:
        await again.next("hello")
        await again.send(op="subscribe", topics=["events"], since=shown["position"])
        assert (await again.event_of({agent, other}))["entity_id"] == other


async def test_what_the_ring_does_not_hold_is_replayed_from_the_stream(
    http: Any, watch: Any, edge: Running
) -> None:
    async with watch() as socket:
        position = (await socket.next("hello"))["position"]
    made = [await create(http) for _ in range(100)]
    feed = edge.edge.feed
    start = int(position.rpartition("-")[2])

    async def arrived() -> bool:
        return feed.seq >= start + 100

    await eventually(arrived)
    feed._ring.clear()
    async with watch() as socket:
        await socket.send(op="subscribe", topics=["agents.status"], since=position)
        seen = [(await socket.event_of(set(made)))["entity_id"] for _ in made]
        made.append(await create(http))
        seen.append((await socket.event_of(set(made)))["entity_id"])
    assert seen == made


async def test_a_position_of_another_stream_is_a_gap(watch: Any) -> None:
    async with watch() as socket:
        await socket.send(op="subscribe", topics=["events"], since="12345-1")
        gap = await socket.next("gap")
    assert gap["from"] == "12345-1"
    assert gap["to"] == gap["position"]


async def test_a_filter_lets_only_its_own_through(http: Any, watch: Any) -> None:
    async with watch() as socket:
        await socket.next("hello")
        other = await create(http)
        mine = await create(http)
        await socket.send(op="subscribe", topics=["agents.status"], filter={"agent_id": mine})
        await socket.next("subscribed")
        for agent in (other, mine):
            answer = await http.post(f"/agents/{agent}/suspend", json={})
            assert answer.status_code == 200
        event = await socket.next("event")
    assert event["entity_id"] == mine


BAD_FRAMES: list[dict[str, Any]] = [
    {"op": "subscribe", "topics": ["nope"]},
    {"op": "subscribe", "topics": []},
    {"op": "subscribe", "topics": [{}]},
    {"op": "subscribe", "topics": ["events"], "filter": {"goal_id": "a.*"}},
    {"op": "subscribe", "topics": ["events"], "filter": {"unknown": "x"}},
    {"op": "subscribe", "topics": ["events"], "since": "x"},
    {"op": "fly"},
    {},
]


async def test_a_bad_frame_is_an_error_and_not_the_end(watch: Any) -> None:
    for frame in BAD_FRAMES:
        async with watch() as socket:
            await socket.send(**frame)
            assert (await socket.next("error"))["code"] == "ERR_100"
            await socket.send(op="ping")
            await socket.next("pong")


async def test_a_slow_reader_is_closed_with_its_position_and_hinders_nobody(
    http: Any, watch: Any, edge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "QUEUE_MAX", 32)
    async with watch() as slow, watch() as quick:
        slow_id = (await slow.next("hello"))["conn"]
        for socket in (slow, quick):
            await socket.send(op="subscribe", topics=["agents.status"])
            await socket.next("subscribed")
        [outbox] = [s.outbox for s in edge.edge.sockets._open if s.id == slow_id]
        for number in range(80):
            outbox.put(json.dumps({"op": "noise", "n": number}))
        with pytest.raises(ConnectionClosed) as closed:
            await slow.next("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429
        agent = await create(http)
        await quick.event_of({agent})


async def test_a_silent_client_is_closed_4408(watch: Any, edge: Running) -> None:
    beats = forever("heartbeat", edge.edge.sockets.beat, 0.1)
    edge.background.append(asyncio.create_task(beats))
    async with watch() as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await socket.next("never")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4408


async def test_draining_sends_sockets_away_with_where_to_resume(watch: Any, edge: Running) -> None:
    async with watch() as socket:
        await socket.next("hello")
        position = edge.edge.feed.position
        edge.edge.sockets.drain()
        with pytest.raises(ConnectionClosed) as closed:
            await socket.next("never")
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4503
    assert f"since={position};" in closed.value.rcvd.reason


async def test_the_feed_goes_on_after_the_bus_was_killed(
    http: Any, watch: Any, bus_server: Any
) -> None:
    async with watch() as socket:
        await socket.send(op="subscribe", topics=["agents.status"])
        await socket.next("subscribed")
        first = await create(http)
        await socket.event_of({first})
        bus_server.kill()
        bus_server.start()

        async def works() -> bool:
            return bool((await http.get("/auth/me")).status_code == 200)

        await eventually(works)
        second = await create(http)
        await socket.event_of({second}, timeout_s=25)


async def test_server_sent_events_resume_by_last_event_id(http: Any) -> None:
    made = [await create(http) for _ in range(3)]
    async with http.stream("GET", "/events/stream", params={"type": "agents"}) as response:
        assert response.headers["content-type"] == "text/event-stream"
        async for event in httpx2.EventSource(response):
            position = json.loads(event.data)["position"]
            assert event.event == "hello"
            break
    made = [await create(http) for _ in range(3)]
    headers = {"last-event-id": position}
    seen: list[str] = []
    async with http.stream("GET", "/events/stream?type=agents", headers=headers) as response:
        async for event in httpx2.EventSource(response):
            if event.event == "event" and (agent := json.loads(event.data)["entity_id"]) in made:
                seen.append(agent)
            if len(seen) == 3:
                break
    assert seen == made


async def test_server_sent_events_resume_from_far_behind_what_waits_for_a_reader(http: Any) -> None:
    async with http.stream("GET", "/events/stream") as response:
        async for event in httpx2.EventSource(response):
            position = json.loads(event.data)["position"]
            break
    made = set(await asyncio.gather(*(create(http) for _ in range(QUEUE_MAX // 2 + 50))))
    async with asyncio.timeout(20):
        async with http.stream("GET", f"/events/stream?since={position}") as response:
            async for event in httpx2.EventSource(response):
                made.discard(json.loads(event.data).get("entity_id"))
                if not made:
                    break


async def test_server_sent_events_tell_of_a_gap_and_go_on(http: Any) -> None:
    async with http.stream("GET", "/events/stream?since=12345-1") as response:
        events = aiter(httpx2.EventSource(response))
        names = [(await anext(events)).event for _ in range(2)]
        assert names == ["hello", "gap"]
        made = await create(http)
        async with asyncio.timeout(20):
            while json.loads((await anext(events)).data).get("entity_id") != made:
                pass


async def test_a_topic_needs_its_permission(
    watch: Any, edge: Running, key_of: Callable[[Role], Awaitable[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(topics.PERMISSIONS, "system", "keys:grant")
    async with watch(additional_headers={"x-api-key": await key_of("viewer")}) as socket:
        await socket.send(op="subscribe", topics=["system"])
        assert (await socket.next("error"))["code"] == "ERR_300"
