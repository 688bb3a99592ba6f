"""What a cancelled run has asked of models and tools is stopped where it is done."""

import asyncio

import nats
import pytest

from bus import process
from bus.lifecycle import Health
from bus.service import own_context
from handlers import DOMAINS
from handlers.__main__ import load_service
from handlers.workflows import service
from handlers.workflows.reactions import room
from schemas import agents, tools
from schemas.agents import Brief, CancelRun, CreateAgent, StartRun
from schemas.tools import ListInvocations, RegisterTool, ToolStopped
from schemas.workflows import runs
from schemas.workflows.runs import CancelWorkflowRun
from tests.conftest import eventually, settled
from tests.domains.flows import ended, made, started
from tests.domains.misbehaving import Misbehaving, line

SLOW = RegisterTool(
    name="slow.tool", description="Takes its time.", subject="tool.slow.tool",
    input_schema={"type": "object"}, output_schema={"type": "object"}, timeout_ms=60_000,
)  # fmt: skip
STEP = {"key": "slow", "type": "tool", "tool": "slow.tool", "timeout_s": 60, "input": {}}


class Talker(Misbehaving):
    """A model server that begins to answer and never ends."""

    def __init__(self):
        super().__init__(self.forever)

    async def forever(self, writer, _):
        writer.write(line("once upon a time"))
        await asyncio.Event().wait()

    async def asked(self):
        return self.now == 1

    async def hung_up(self):
        return (self.now, self.left) == (0, 1)


@pytest.fixture
async def talker(settings, bus_ready):
    """Every domain over a model server that never ends."""
    server = Talker()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    chosen = settings.model_copy(
        update={"ollama_url": f"http://127.0.0.1:{port}", "chat_model": "m"}
    )
    services = [load_service(domain) for domain in DOMAINS]
    async with listening, process.answering(chosen, services, Health("test")):
        yield server


@pytest.fixture
async def slow(settings, ask, platform):
    """A tool that answers when it is told to; `calls` are those that it got."""

    class Slow:
        calls = list[bytes]()
        told = asyncio.Event()

        async def answer(self, message):
            self.calls.append(message.data)
            await self.told.wait()
            await message.respond(b"{}")

        async def called(self):
            return len(self.calls) == 1

    connection, one = await nats.connect(settings.nats_url.get_secret_value()), Slow()
    await connection.subscribe(SLOW.subject, cb=one.answer)
    await settled(connection)
    await ask(tools.register, SLOW)
    yield one
    one.told.set()
    await connection.close()


async def test_a_model_that_answers_a_cancelled_run_is_hung_up_on(ask, talker):
    step = {"key": "say", "type": "model", "prompt": "Tell me a story.", "timeout_s": 120}
    run = await started(ask, await made(ask, "story", step))
    await eventually(talker.asked)
    await ask(runs.cancel, CancelWorkflowRun(id=run.id))
    await eventually(talker.hung_up)


async def test_a_run_that_takes_too_long_hangs_up_on_its_model(ask, talker):
    step = {"key": "say", "type": "model", "prompt": "Tell me a story.", "timeout_s": 120}
    run = await started(ask, await made(ask, "long-story", step, within_s=3))
    await eventually(talker.hung_up)
    assert (await ended(ask, run)).error["code"] == "ERR_610"


async def test_a_model_that_answers_the_cancelled_run_of_an_agent_is_hung_up_on(ask, talker):
    agent = await ask(agents.create, CreateAgent(name="teller"))
    command = StartRun(agent_id=agent.id, brief=Brief(objective="Tell me a story."))
    run = await ask(agents.start_run, command)
    await eventually(talker.asked)
    await ask(agents.cancel_run, CancelRun(id=run.id))
    await eventually(talker.hung_up)


async def test_a_tool_call_of_a_cancelled_run_is_recorded_as_stopped(ask, slow):
    run = await started(ask, await made(ask, "slow", STEP))
    await eventually(slow.called)
    await ask(runs.cancel, CancelWorkflowRun(id=run.id))

    async def stopped():
        [call] = (await ask(tools.invocations, ListInvocations())).items
        return call.status == "failed" and call.error["code"] == ToolStopped.code

    await eventually(stopped)


async def test_a_driver_that_lets_go_stops_nothing_and_the_next_one_gets_the_answer(
    ask, slow, platform
):
    again = {"retry": {"attempts": 20, "first_s": 0.1, "most_s": 0.5}}
    run = await started(ask, await made(ask, "handed-over", STEP | again))
    await eventually(slow.called)
    await room.let_all_go(own_context(service, platform))
    slow.told.set()
    assert (await ended(ask, run)).status == "succeeded"
    assert len(slow.calls) == 1
