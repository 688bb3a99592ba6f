"""Work in the background goes on, whatever happens to one round of it."""

import asyncio

import asyncpg
import pytest

from bus.background import end, forever
from bus.outbox import COUNT_PENDING
from schemas import agents
from schemas.problems import Unavailable
from tests.conftest import eventually
from tests.factories import create_agent

FAILURES = [Unavailable(), OSError("gone"), asyncpg.InternalClientError("odd"), KeyError("bug")]


@pytest.mark.parametrize("failure", FAILURES, ids=repr)
async def test_a_failed_round_is_followed_by_the_next(failure):
    rounds, second = [], asyncio.Event()

    async def work():
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise failure
        second.set()

    task = asyncio.create_task(forever("test", work, 0))
    await asyncio.wait_for(second.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_swallowed_its_cancellation_ends_all_the_same():
    deaf = asyncio.Event()

    async def work():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if deaf.is_set():
                raise
            deaf.set()

    task = asyncio.create_task(forever("test", work, 0))
    await asyncio.sleep(0)
    await asyncio.wait_for(end([task]), 10)
    assert task.cancelled()


async def test_the_relay_outlives_a_failure_that_nobody_foresaw(platform, ask, monkeypatch):
    failed = asyncio.Event()
    jetstream = platform.connection.jetstream

    def broken_once():
        if failed.is_set():
            return jetstream()
        failed.set()
        raise RuntimeError("unable to perform operation on a closed transport")

    monkeypatch.setattr(platform.connection, "jetstream", broken_once)
    await ask(agents.create, create_agent())
    await asyncio.wait_for(failed.wait(), 10)

    async def published():
        return (await platform.database.row(COUNT_PENDING))["pending"] == 0

    await eventually(published)
