"""Connections come and go; statements that nobody can run are told so at once."""

import asyncio

import asyncpg
import pytest

from bus.clock import Clock
from bus.database import Database, translated
from bus.statement import Statement
from schemas.problems import DependencyDown

ONE = Statement("SELECT 1 AS one")
SLEEP = Statement("SELECT pg_sleep(30)")
WRITE = Statement("DELETE FROM ops.outbox")
OTHERS = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database() AND state LIKE $1
"""


@pytest.fixture
async def database(settings):
    """An open database of two connections."""
    opened = Database(settings.model_copy(update={"pool_size": 2}), Clock())
    await opened.open()
    yield opened
    await opened.close()


async def end_others(database, state):
    """End the other sessions that are in this state; returns how many there were."""
    own = await database.connect()
    try:
        return len(await own.fetch(OTHERS, state))
    finally:
        await own.close()


async def at_work(database):
    """End the session at work, as soon as there is one."""
    async with asyncio.timeout(10):
        while not await end_others(database, "active"):
            await asyncio.sleep(0.01)


async def test_a_connection_lost_while_idle_is_replaced(database):
    assert await end_others(database, "idle") == 1
    for _ in range(3):
        try:
            assert (await database.row(ONE))["one"] == 1
            break
        except DependencyDown:
            continue  # the server's goodbye had not been read yet
    assert (await database.row(ONE))["one"] == 1


async def test_a_connection_lost_at_work_is_a_problem_and_is_replaced(database):
    with pytest.raises(DependencyDown):
        await asyncio.gather(database.rows(SLEEP), at_work(database))
    assert (await database.row(ONE))["one"] == 1


async def test_a_server_that_takes_no_writes_any_more_is_left_for_the_one_that_does(database):
    taken = await database.take()
    await taken.execute("SET default_transaction_read_only = on")
    database.give_back(taken)
    with pytest.raises(DependencyDown):
        await database.execute(WRITE)
    assert taken.is_closed()
    assert await database.execute(WRITE) == "DELETE 0"


@pytest.mark.parametrize("error", [asyncpg.InternalClientError("state"), TimeoutError()], ids=repr)
async def test_a_connection_in_the_middle_of_something_is_not_used_again(database, error):
    taken = await database.take()
    with pytest.raises(DependencyDown), translated(taken):
        raise error
    database.give_back(taken)
    assert taken.is_closed()
    assert (await database.row(ONE))["one"] == 1


async def test_when_all_are_at_work_the_next_is_refused(database, monkeypatch):
    monkeypatch.setattr("bus.database.WAIT_FOR_CONNECTION_S", 0.1)
    taken = [await database.take(), await database.take()]
    with pytest.raises(DependencyDown, match="in use"):
        await database.row(ONE)
    for connection in taken:
        database.give_back(connection)
    assert (await database.row(ONE))["one"] == 1


async def test_what_is_given_back_after_the_end_is_closed(database):
    connection = await database.take()
    await database.close()
    database.give_back(connection)
    assert connection.is_closed()
