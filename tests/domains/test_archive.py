"""The archive of the log: old months are set apart and stay a part of it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import psycopg
import pytest
from alembic import command
from alembic.config import Config

from schemas import agents, events
from schemas.events import ArchiveEvents, EntityAt, QueryEvents, ReplayEvents, VerifyEvents
from tests.conftest import look
from tests.domains.test_replay import ended
from tests.factories import create_agent

OLD = datetime.now(UTC) - timedelta(days=200)
ADD_MONTH = "SELECT ops.add_month('mcp_documents.events', 'recorded_at', $1::date)"
LOG = "mcp_documents.events"
AGE = """
    UPDATE mcp_documents.events SET recorded_at = $1::timestamptz + (recorded_at - now())
    WHERE aggregate_id = $2
"""
WHERE_IT_IS = "SELECT DISTINCT tableoid::regclass::text AS t FROM mcp_documents.events WHERE {}"
FORGED = """
    INSERT INTO mcp_documents.events (event_id, type, category, aggregate_type, aggregate_id,
        aggregate_version, payload, actor, request_id, occurred_at, recorded_at, hash)
    VALUES (uuidv7(), 't', 'application', 't', uuidv7(), 1, '{}', 'a', 'r', now(), $1, '')
"""
MONTH = f"events_{OLD:%Y_%m}"


@pytest.fixture
async def owner(database_url):
    """A connection as who migrates."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def aged(platform, ask, owner):
    """An agent whose whole story is 200 days old, in the month's own partition."""
    agent = await ask(agents.create, create_agent())
    agent = await ask(agents.suspend, agents.SuspendAgent(id=agent.id))
    await owner.execute(ADD_MONTH, OLD.date())
    await owner.execute(f"ALTER TABLE {LOG} DISABLE TRIGGER USER")
    await owner.execute(AGE, OLD, agent.id)
    await owner.execute(f"ALTER TABLE {LOG} ENABLE TRIGGER USER")
    return agent


async def test_a_month_is_moved_once_and_no_younger_one_with_it(ask, platform, aged):
    first = await ask(events.archive, ArchiveEvents())
    again = await ask(events.archive, ArchiveEvents())

    assert first.moved == first.partitions == (f"archive.{MONTH}",)
    assert (again.moved, again.partitions) == ((), first.partitions)
    found = await look(platform, WHERE_IT_IS.format(f"aggregate_id = '{aged.id}'"))
    assert [row["t"] for row in found] == [f"archive.{MONTH}"]


async def test_who_reads_the_log_reads_the_archive_too(ask, platform, aged):
    before = await ask(events.query, QueryEvents(aggregate_id=aged.id))
    await ask(events.archive, ArchiveEvents())

    assert await ask(events.query, QueryEvents(aggregate_id=aged.id)) == before
    then = EntityAt(type="agent", id=aged.id, at=OLD + timedelta(days=1))
    assert (await ask(events.entity_at, then)).version == aged.version == 2
    verdict = await ask(events.verify, VerifyEvents())
    assert (verdict.ok, verdict.archived) == (True, 2)
    replay = ReplayEvents(target="scratch", aggregate_id=aged.id)
    job = await ended(ask, await ask(events.replay, replay))
    assert (job.result["ok"], job.result["events"]) == (True, 2)


async def test_an_archived_story_goes_on_in_the_month_of_today(ask, platform, aged):
    await ask(events.archive, ArchiveEvents())
    resumed = await ask(agents.resume, agents.ResumeAgent(id=aged.id))
    found = await look(platform, WHERE_IT_IS.format(f"aggregate_id = '{aged.id}'"))

    assert resumed.version == 3
    assert sorted(row["t"].partition(".")[0] for row in found) == ["archive", "mcp_documents"]
    assert (await ask(events.verify, VerifyEvents())).ok


async def test_a_tampered_archive_is_found(ask, platform, aged, owner):
    await ask(events.archive, ArchiveEvents())
    await owner.execute(f"ALTER TABLE archive.{MONTH} DISABLE TRIGGER USER")
    await owner.execute(
        f"UPDATE archive.{MONTH} SET payload = replace(payload::text, 'idle', 'busy')::json"
    )
    verdict = await ask(events.verify, VerifyEvents())

    assert aged.id in {i for entity in verdict.entities for i in entity.broken_chains}


async def test_nobody_can_change_the_archive(ask, platform, aged, owner, settings):
    await ask(events.archive, ArchiveEvents())
    runtime = await asyncpg.connect(settings.postgres_url.get_secret_value())
    for change in (
        f"UPDATE archive.{MONTH} SET actor = 'x'", f"DELETE FROM archive.{MONTH}",
        f"TRUNCATE archive.{MONTH}", f"UPDATE {LOG} SET actor = 'x'", f"DELETE FROM {LOG}",
    ):  # fmt: skip
        for connection in (runtime, owner):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(change)
    for connection in (runtime, owner):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="is archived"):
            await connection.execute(FORGED, OLD)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await runtime.execute(f"SELECT 1 FROM archive.{MONTH}")
    await runtime.close()


async def test_a_month_that_is_not_old_enough_cannot_be_archived_by_anybody(platform, settings):
    runtime = await asyncpg.connect(settings.postgres_url.get_secret_value())
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await runtime.fetch("SELECT ops.archive_events(30)")
    assert await runtime.fetch("SELECT ops.archive_events(31)") == []
    await runtime.close()


async def test_the_archive_is_given_back_by_the_way_back(database_url):
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parents[2] / "migrations"))
    config.attributes["url"] = database_url
    with psycopg.connect(database_url) as connection:
        connection.execute(ADD_MONTH.replace("$1", "%s"), [OLD.date()])
        connection.execute(FORGED.replace("$1", "%s"), [OLD])
        connection.execute("SELECT ops.archive_events(90)")
    command.downgrade(config, "0016")
    with psycopg.connect(database_url) as connection:
        assert connection.execute(f"SELECT count(*) FROM mcp_documents.{MONTH}").fetchone() == (1,)
    command.upgrade(config, "head")
