"""Stream operations: tokens as they come, again for whoever comes back, and the reply at the end."""

import json
from typing import Any

import httpx2

from bus import subjects
from bus.context import Platform
from bus.live import Lane
from schemas.models import TokenChunk

QUESTION = {"messages": [{"role": "user", "content": "Name three colours."}], "tokens_max": 24}
SSE = {"accept": "text/event-stream"}


async def events_of(response: httpx2.Response) -> list[tuple[str, str, Any]]:
    return [(e.event, e.id, json.loads(e.data)) async for e in httpx2.EventSource(response)]


async def test_tokens_come_as_events_and_can_be_read_again(http: httpx2.AsyncClient) -> None:
    async with http.stream("POST", "/models/generate", json=QUESTION, headers=SSE) as response:
        assert response.status_code == 200
        place = response.headers["location"].removeprefix("/api/v1")
        seen = await events_of(response)
    assert [kind for kind, _, _ in seen] == ["chunk"] * (len(seen) - 1) + ["end"]
    reply = seen[-1][2]
    assert "".join(data["text"] for kind, _, data in seen if kind == "chunk") == reply["text"]
    async with http.stream("GET", place) as response:
        again = await events_of(response)
    assert [data for _, _, data in again] == [data for _, _, data in seen]
    late = next(mark for kind, mark, _ in seen if mark)
    async with http.stream("GET", place, headers={"last-event-id": late}) as response:
        rest = await events_of(response)
    assert rest[-1][2] == reply
    assert len(rest) < len(seen)


async def test_without_asking_for_events_the_reply_is_plain_json(http: httpx2.AsyncClient) -> None:
    answer = await http.post("/models/generate", json=QUESTION, timeout=60)
    assert answer.status_code == 200
    assert answer.json()["completion_tokens"] > 0


async def test_a_refusal_before_the_first_token_keeps_its_status(http: httpx2.AsyncClient) -> None:
    body = QUESTION | {"model": "no-such-model"}
    answer = await http.post("/models/generate", json=body, headers=SSE)
    assert answer.status_code in (200, 404)  # 200 when the refusal came after the stream began
    assert "ERR_130" in answer.text


async def test_a_stream_that_is_not_there_is_404(http: httpx2.AsyncClient) -> None:
    assert (await http.get("/streams/models/nothing")).status_code == 404
    assert (await http.get("/streams/nowhere/nothing")).status_code == 404
    for mark in ("x", "1.x", "1.", "1.2.3", "-1"):
        bad = await http.get("/streams/models/x", headers={"last-event-id": mark})
        assert bad.status_code == 400


async def test_a_reader_cut_off_inside_a_message_misses_no_piece_and_sees_none_again(
    http: httpx2.AsyncClient, platform: Platform
) -> None:
    lane = Lane(platform.connection, subjects.live("models", "cut-off"))
    for text in "abcd":
        lane.send(TokenChunk(text=text))
    await lane.end(b"{}")
    async with http.stream("GET", "/streams/models/cut-off") as response:
        *pieces, _ = await events_of(response)
    assert [data["text"] for _, _, data in pieces] == list("abcd")
    for seen, (_, mark, _) in enumerate(pieces, 1):
        back = {"last-event-id": mark}
        async with http.stream("GET", "/streams/models/cut-off", headers=back) as response:
            rest = await events_of(response)
        assert [data.get("text") for _, _, data in rest] == [*"abcd"[seen:], None]
