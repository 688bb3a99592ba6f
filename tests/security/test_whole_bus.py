"""The whole platform under the generated permissions: everything works, nothing is refused."""

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack

import pytest

from bus import process
from bus.lifecycle import Health
from handlers import DOMAINS
from handlers.__main__ import load_service
from tests.conftest import ROOT, eventually
from tests.edge.conftest import admin_key, anonymous, http, url, watch  # noqa: F401
from tests.security import secured_bus
from tests.security.secured_bus import bus_ready, bus_server, client, edge  # noqa: F401
from tests.servers import free_port

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def settings(settings, bus_server, admin_key):  # noqa: F811
    first_key = {
        "bootstrap_key_id": admin_key.id,
        "bootstrap_key_hash": admin_key.secret_hash,
        "edge_port": free_port(),
    }
    return secured_bus.of_handlers(settings, bus_server).model_copy(update=first_key)


@pytest.fixture(params=["one process", "a process for each domain"])
async def platform(request, settings, bus_ready, bus_server):  # noqa: F811
    """The layers under the role of all of them, and each under its own."""
    services = [load_service(domain) for domain in DOMAINS]
    few = settings.model_copy(update={"pool_size": 3})  # each: the server has a hundred
    apart = [(bus_server.settings(few, one.name), [one]) for one in services]
    async with AsyncExitStack() as stack:
        for own, some in [(settings, services)] if request.param == "one process" else apart:
            running = await stack.enter_async_context(process.answering(own, some, Health("test")))
        yield running.platform


async def test_a_goal_an_upload_a_stream_a_socket_and_a_tool_need_no_more_than_they_have(
    bus_server, http, watch  # noqa: F811
):  # fmt: skip
    environment = os.environ | {
        "NATS_URL": bus_server.url, "NATS_NKEY": str(bus_server.seeds / "outside.seed"),
    }  # fmt: skip
    tool = await asyncio.create_subprocess_exec(
        sys.executable, "examples/tool.py", env=environment, cwd=ROOT
    )
    try:
        async with watch() as socket:
            await socket.send(op="subscribe", topics=["events", "llm.stream"])
            uploaded = await http.post(
                "/documents?name=a.md", content=b"# One\n\nThe sky is blue.\n" * 9000,
                headers={"content-type": "text/markdown"},
            )  # fmt: skip
            assert uploaded.status_code == 201, uploaded.text
            await socket.next("event")
            await eventually(lambda: found(http, "/tools/dates.weekday"))
            step = {"name": "day", "tool": "dates.weekday", "arguments": {"date": "2026-11-23"}}
            plain = {"key": "day", "title": "d", "brief": {"objective": "Which?", "steps": [step]}}
            free = {"key": "free", "title": "f", "brief": {"objective": "Say a word."}}
            goal = await http.post("/goals", json={"description": "?", "tasks": [plain, free]})
            assert goal.status_code == 201, goal.text
            done = await eventually(lambda: ended(http, goal.json()["id"]), timeout_s=90)
            tasks = (await http.get(f"/goals/{done['id']}/tasks")).json()["items"]
            assert "Monday" in json.dumps(tasks)
            await read_tokens(http)
            bus_server.kill()
            bus_server.start()
            await eventually(lambda: found(http, "/agents"), timeout_s=40)
    finally:
        tool.terminate()
        await tool.wait()

    assert bus_server.violations() == []


async def found(http, path):  # noqa: F811
    return (await http.get(path)).status_code == 200


async def ended(http, goal_id):  # noqa: F811
    goal = (await http.get(f"/goals/{goal_id}")).json()
    return goal if goal["status"] in ("completed", "failed", "cancelled") else None


async def read_tokens(http):  # noqa: F811
    """A stream with its tokens, and the same again for a second reader."""
    ask = {"messages": [{"role": "user", "content": "Count to three."}], "tokens_max": 20}
    headers = {"accept": "text/event-stream"}
    async with http.stream("POST", "/models/generate", json=ask, headers=headers) as answer:
        location = answer.headers["location"]
        text = "".join([piece async for piece in answer.aiter_text()])
    assert "event: end" in text, text
    again = await http.get(location.removeprefix("/api/v1"), headers=headers)
    assert "event: end" in again.text
