"""A long call that was lost on the bus is asked again long before its deadline."""

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from uuid import uuid4

import nats
import pytest

from bus import client, process
from bus.lifecycle import Health
from bus.service import own_context
from handlers import DOMAINS, workflows
from handlers.__main__ import load_service
from handlers.workflows.doing import do
from handlers.workflows.engine import Begin
from handlers.workflows.owner import Owner
from handlers.workflows.steps import Place
from schemas import tools
from schemas.identity import principals
from schemas.principal import Mandate, Principal
from schemas.problems import TimedOut, Unavailable
from schemas.tools import InvokeTool, RegisterTool
from schemas.workflows.document import Document
from schemas.workflows.runs import RunStep, WorkflowRun
from tests.conftest import settled

TOOL = RegisterTool(
    name="slow.tool", description="Takes its time.", subject="tool.slow.tool",
    input_schema={"type": "object"}, output_schema={"type": "object"}, timeout_ms=60_000,
)  # fmt: skip
CALL = InvokeTool(name="slow.tool", arguments={})
LOOKS_MIN = 5
LOOKED_AT = {
    "supervision": (
        {"key": "j", "type": "job", "operation": "documents.reprocess", "input": {}},
        f"job/{uuid4()}",
    ),
    "agents": ({"key": "a", "type": "agent", "objective": "Go on."}, f"run/{uuid4()}"),
}
ADA = Principal(id="ada", kind="user", roles=("developer",))


class Looks:
    """Looks after calls, in a test's time: how many there were, and whether they may go on."""

    def __init__(self):
        self.count = 0
        self.allowed = asyncio.Event()
        self.allowed.set()


@pytest.fixture(autouse=True)
def looks(monkeypatch):
    """Calls are looked after every tenth of a second."""
    looks, is_being_done = Looks(), client.is_being_done

    async def counted(*asked):
        looks.count += 1
        await looks.allowed.wait()
        return await is_being_done(*asked)

    monkeypatch.setattr(client, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(client, "is_being_done", counted)
    return looks


@pytest.fixture
async def bus(settings):
    """A connection for what is no part of the platform."""
    connection = await nats.connect(settings.nats_url.get_secret_value())
    yield connection
    await connection.close()


@pytest.fixture
async def lose(bus, bus_ready):
    """Takes the next request of an operation, and is never heard of again."""

    async def loses(operation):
        taken = asyncio.Event()

        async def take(_):
            taken.set()

        await bus.subscribe(operation.subject, queue=operation.domain, cb=take, max_msgs=1)
        await settled(bus)
        return taken

    return loses


def answering(settings):
    """Every domain, in this test's event loop."""
    services = [load_service(domain) for domain in DOMAINS]
    return process.answering(settings, services, Health("test"))


async def test_a_call_whose_request_was_lost_is_asked_again_and_done_once(
    settings, bus, ask, lose, looks
):
    calls = []

    async def answer(message):
        calls.append(message)
        await message.respond(b"{}")

    await bus.subscribe(TOOL.subject, cb=answer)
    async with answering(settings):
        await ask(tools.register, TOOL)
    taken = await lose(tools.invoke)
    looks.allowed.clear()
    asking = asyncio.create_task(ask(tools.invoke, CALL, key="lost", call_id="lost"))
    await taken.wait()
    async with answering(settings):
        looks.allowed.set()
        answered = await asking
    assert (answered.status, len(calls)) == ("succeeded", 1)


async def test_a_call_that_takes_long_is_left_alone(settings, bus, ask, looks):
    calls, done = [], asyncio.Event()

    async def answer(message):
        calls.append(message)
        await done.wait()
        await message.respond(b"{}")

    await bus.subscribe(TOOL.subject, cb=answer)
    async with answering(settings):
        await ask(tools.register, TOOL)
        asking = asyncio.create_task(ask(tools.invoke, CALL, key="long", call_id="long"))
        while looks.count < LOOKS_MIN:
            await asyncio.sleep(0.05)
        done.set()
        assert (await asking).status == "succeeded"
    assert len(calls) == 1


async def test_a_call_without_a_key_is_not_asked_again(client, ask, lose, looks):
    taken = await lose(tools.invoke)
    soon_ms = client._clock.unix_ms() + 1000
    with pytest.raises(TimedOut):
        await ask(tools.invoke, CALL, call_id="once", deadline_ms=soon_ms)
    assert taken.is_set()
    assert looks.count == 0


@pytest.fixture
def without(settings, bus_ready):
    """The engine's own context, in a platform that lacks a domain."""

    @asynccontextmanager
    async def lacking(domain):
        others = [load_service(other) for other in DOMAINS if other != domain]
        async with process.answering(settings, others, Health("test")) as running:
            ctx = own_context(workflows.service, running.platform)
            ctx.deadline_ms = running.platform.clock.unix_ms() + 500
            yield ctx

    return lacking


async def test_an_engine_that_is_not_told_who_the_owner_is_blames_no_step(bus, without):
    await bus.subscribe(principals.act_for.subject, queue="identity")  # and never answers
    await settled(bus)
    run = WorkflowRun.model_construct(owner_id="ada", mandate=Mandate.of(ADA))
    async with without("identity") as ctx:
        with pytest.raises(Unavailable):
            await Owner(ctx).acting(run)


@pytest.mark.parametrize("domain", LOOKED_AT)
async def test_a_step_that_waits_goes_on_waiting_when_nobody_says_whether_it_is_over(
    without, domain
):
    step, awaits = LOOKED_AT[domain]
    document = Document.model_validate({"steps": [step]})
    [begun] = document.steps
    async with without(domain) as ctx:
        record = RunStep.model_construct(
            awaits=awaits, output=None, work=None, attempt=1, started_at=ctx.now()
        )
        place = Place(ctx.new_id(), begun.key, ctx, partial(itself, ctx), record)
        came = await do(Begin(begun.key, begun, 1, {}), place, document, None)
    assert (came.status, came.awaits) == ("waiting", awaits)
    assert came.due_at is not None


async def itself(ctx):
    return ctx
