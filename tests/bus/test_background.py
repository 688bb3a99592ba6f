"""Work in the background goes on, whatever happens to one round of it."""

import asyncio

import asyncpg
import pytest

from bus.background import forever
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
