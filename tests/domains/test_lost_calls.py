"""Calls of tools outside whose answer was lost: who is asked again, how often, and who never."""

import asyncio

import nats
import pytest
from nats.errors import OutboundBufferLimitError

from handlers.tools.rules import ATTEMPTS_MAX
from schemas import tools
from schemas.tools import ListInvocations, ToolTimedOut
from tests.conftest import eventually, settled
from tests.domains.test_tools import register, weather

pytestmark = pytest.mark.usefixtures("platform")


@pytest.fixture
async def unbuffered(settings):
    """A connection of a program that is not ours and keeps nothing while the bus is away."""
    connection = await nats.connect(settings.nats_url.get_secret_value(), pending_size=0)
    yield connection
    await connection.close()


@pytest.mark.parametrize("repeatable", [True, False])
async def test_an_answer_lost_with_the_bus_is_asked_for_again_only_if_the_tool_bears_it(
    ask, bus_server, unbuffered, repeatable
):
    await ask(tools.register, register(repeatable=repeatable, timeout_ms=4_000))
    calls = []

    async def answers_once_the_bus_is_back(message):
        calls.append(message)
        if len(calls) > 1:
            await message.respond(b'{"degrees": 21.5}')
            return
        await asyncio.to_thread(bus_server.kill)
        await eventually(lambda: away(unbuffered))
        with pytest.raises(OutboundBufferLimitError):
            await message.respond(b'{"degrees": 21.5}')
        await asyncio.to_thread(bus_server.start)

    await unbuffered.subscribe("tool.weather.now", cb=answers_once_the_bus_is_back)
    await settled(unbuffered)
    if repeatable:
        called = await ask(tools.invoke, weather(), key="k")
        assert (called.status, called.attempts, called.result) == (
            "succeeded", 2, {"degrees": 21.5},
        )  # fmt: skip
        assert len({message.headers["x-invocation-id"] for message in calls}) == 1
    else:
        for _ in range(2):
            with pytest.raises(ToolTimedOut):
                await ask(tools.invoke, weather(), key="k")
    assert len(calls) == (2 if repeatable else 1)


async def away(connection):
    return connection.is_reconnecting


async def test_a_tool_that_bears_it_is_not_called_for_ever(ask, unbuffered):
    await ask(tools.register, register(repeatable=True, timeout_ms=150))
    calls = []

    async def hang(message):
        calls.append(message)

    await unbuffered.subscribe("tool.weather.now", cb=hang)
    await settled(unbuffered)
    with pytest.raises(ToolTimedOut):
        await ask(tools.invoke, weather(), key="k")
    assert len(calls) == ATTEMPTS_MAX
    ids = {message.headers["x-invocation-id"] for message in calls}
    [kept] = (await ask(tools.invocations, ListInvocations(status="timed_out"))).items
    assert (ids, kept.attempts) == ({kept.id}, ATTEMPTS_MAX)
