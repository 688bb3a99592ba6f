"""How long a cancelled run goes on: until its model is hung up on, until its tool call is stopped.

The model server and the tool are this program's own. The model begins a story that never ends and
notes when nobody listens any more. A tool outside the platform is not told: its call is over when
the bus says that it was stopped.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import nats
from nats.aio.msg import Msg

from schemas.tools import InvocationFailed, ToolStopped
from tests.domains.misbehaving import Misbehaving, line
from tests.load.keepalive import Doors, Measured
from tests.load.machine import Machine, running
from tests.load.rows import Row, with_cpu
from tests.servers import free_port

TIMES = 50
REACHED_S = 10.0
CHAT_MODEL = "m"
"""What `Misbehaving` says that it has."""
TOOL = {
    "name": "bench.slow", "description": "Takes its time.", "subject": "tool.bench.slow",
    "input_schema": {"type": "object"}, "output_schema": {"type": "object"}, "timeout_ms": 60_000,
}  # fmt: skip
CALL_TOOL = {"key": "slow", "type": "tool", "tool": TOOL["name"], "timeout_s": 60, "input": {}}
ASK_MODEL = {"key": "say", "type": "model", "prompt": "Tell me a story.", "timeout_s": 120}


@contextmanager
def scripted() -> Iterator[Machine]:
    """An installation whose model server is the one of these rows."""
    url = f"http://127.0.0.1:{free_port()}"
    with running("--external", url, PORTAL_CHAT_MODEL=CHAT_MODEL) as machine:
        yield machine


class Reached:
    """That something was begun, and when it was over."""

    def __init__(self) -> None:
        self.begun = asyncio.Queue[None]()
        self.over = asyncio.Queue[float]()


class Storyteller(Misbehaving):
    """A model server that begins to answer and never ends."""

    def __init__(self, reached: Reached) -> None:
        super().__init__(self.forever)
        self._reached = reached

    async def forever(self, writer: asyncio.StreamWriter, _: int) -> None:
        """The first words, then nothing."""
        writer.write(line("once upon a time"))
        self._reached.begun.put_nowait(None)
        await asyncio.Event().wait()

    async def said(self, *request: Any) -> None:
        """Returns when the other side has hung up."""
        await super().said(*request)
        self._reached.over.put_nowait(time.perf_counter())


async def of_model(machine: Machine) -> Row:
    """From the request to cancel to the model's closed connection."""
    reached = Reached()
    host, _, port = machine.model_url.removeprefix("http://").partition(":")
    server = await asyncio.start_server(Storyteller(reached).serve, host, int(port))
    async with server:
        return await cancelled(machine, ASK_MODEL, reached)


async def of_tool(machine: Machine) -> Row:
    """From the request to cancel to the event that the call was stopped."""
    reached = Reached()
    outside = await nats.connect(
        machine.bus_url, nkeys_seed=machine.seed("outside"), inbox_prefix="_INBOX.outside"
    )
    watcher = await nats.connect(
        machine.bus_url, nkeys_seed=machine.seed("watcher"), inbox_prefix="_INBOX.watcher"
    )

    async def called(_: Msg) -> None:
        reached.begun.put_nowait(None)

    async def failed(message: Msg) -> None:
        if json.loads(message.data)["invocation"]["error"]["code"] == ToolStopped.code:
            reached.over.put_nowait(time.perf_counter())

    try:
        await outside.subscribe(TOOL["subject"], cb=called)
        await watcher.subscribe(f"{InvocationFailed.subject_root()}.*", cb=failed)
        await asyncio.gather(outside.flush(), watcher.flush())
        await machine.post("/api/v1/tools", TOOL)
        return await cancelled(machine, CALL_TOOL, reached)
    finally:
        await asyncio.gather(outside.close(), watcher.close())


async def cancelled(machine: Machine, step: dict[str, Any], reached: Reached) -> Row:
    """Runs of this one step, each cancelled once the step is under way."""
    async with Doors(*machine.place, machine.key, 1) as doors:
        document = {"steps": [step]}
        name = f"bench-{secrets.token_hex(5)}"
        flow = await doors.post("/api/v1/workflows", {"name": name, "document": document})

        async def one() -> float:
            run = await doors.post(f"/api/v1/workflows/{flow['id']}/runs", {})
            await asyncio.wait_for(reached.begun.get(), REACHED_S)
            asked = time.perf_counter()
            await doors.post(f"/api/v1/workflow-runs/{run['id']}/cancel", {})
            return await asyncio.wait_for(reached.over.get(), REACHED_S) - asked

        return await with_cpu(machine.pids(), lambda: again_and_again(one))


async def again_and_again(one: Callable[[], Awaitable[float]]) -> Measured:
    """One after another; the first that is not reached ends it, for the next would hear of it."""
    measured, began = Measured(), time.perf_counter()
    for number in range(TIMES):
        try:
            measured.latencies_s.append(await one())
        except TimeoutError:
            measured.failed += TIMES - number
            break
    measured.seconds = time.perf_counter() - began
    return measured
