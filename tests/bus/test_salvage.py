"""An older copy of the database, and the stream that knows what happened after it."""

import asyncio
from contextlib import asynccontextmanager

import nats
import psycopg
import pytest

from bus import passwords, process, salvage
from bus.clock import Clock
from bus.database import Database
from bus.lifecycle import Health
from handlers import DOMAINS
from handlers.__main__ import load_service
from schemas import agents, catalogue, events
from schemas.events import VerifyEvents
from schemas.identity import keys
from schemas.identity.keys import IssueKey
from tests import servers
from tests.bus.test_delivery import published
from tests.conftest import RUNTIME_PASSWORD, eventually, look
from tests.factories import create_agent

STATES = """
    SELECT 'agent' AS kind, id, version, row_to_json(t)::text AS row FROM mcp_documents.agents t
    UNION ALL
    SELECT 'key', id, version, row_to_json(t)::text FROM identity.api_keys t ORDER BY 1, 2
"""
HISTORY = """
    SELECT event_id::text, type, aggregate_type, aggregate_id::text, aggregate_version,
           payload::text, actor, request_id, correlation_id::text, causation_id, occurred_at, hash
    FROM mcp_documents.events ORDER BY 3, 4, 5
"""


@asynccontextmanager
async def restored(settings):
    """Every domain."""
    services = [load_service(domain) for domain in DOMAINS]
    async with process.answering(settings, services, Health("test")) as here:
        yield here.platform


@asynccontextmanager
async def running(settings):
    """Every domain, until its outbox is empty and its consumers have had everything."""
    async with restored(settings) as platform:
        yield platform
        await eventually(lambda: published(platform))
        await eventually(lambda: noted(platform))
        await eventually(lambda: published(platform))


async def noted(platform):
    """Whether the audit log has every key that was issued."""
    issued = "SELECT count(*) FROM mcp_documents.events WHERE type = 'identity.key_issued'"
    entries = "SELECT count(*) FROM audit.entries WHERE action = 'identity.key_issued'"
    [row] = await look(platform, f"SELECT ({issued}) = ({entries}) AS same")
    return row["same"]


def rows(url, sql):
    with psycopg.connect(url) as connection:
        return connection.execute(sql).fetchall()


@pytest.fixture
async def older(stack, database_url, settings, bus_ready, ask):
    """A copy from before the last writes: its URL; with the agent that was there and changed."""
    async with running(settings):
        agent = await ask(agents.create, create_agent())
        await ask(keys.issue_key, IssueKey(name="before"))
    ask.forget_failures()
    name = database_url.rpartition("/")[2].partition("?")[0]

    async def copied():
        try:
            return await asyncio.to_thread(servers.clone, stack.postgres_url, name)
        except psycopg.errors.ObjectInUse:
            return None

    copy = await eventually(copied)
    async with running(settings):
        await ask(agents.suspend, agents.SuspendAgent(id=agent.id))
        await ask(agents.create, create_agent())
        await ask(keys.issue_key, IssueKey(name="after"))
    ask.forget_failures()
    yield copy, agent
    servers.drop(stack.postgres_url, copy)


def on(copy, settings):
    """Settings that name the restored copy."""
    url = passwords.as_role(copy, "app_user", RUNTIME_PASSWORD)
    return type(settings).model_validate(settings.model_dump() | {"postgres_url": url})


async def salvaged(settings):
    """What a salvage finds."""
    database = Database(settings, Clock())
    await database.open()
    connection = await nats.connect(settings.nats_url.get_secret_value())
    try:
        return await salvage.salvage(
            database, connection.jetstream(), catalogue.events(), catalogue.reactions(),
            lambda *_: None,
        )  # fmt: skip
    finally:
        await connection.close()
        await database.close()


async def test_what_is_newer_in_the_stream_is_read_back_with_its_entities(
    older, settings, database_url, ask
):
    copy, agent = older
    assert rows(copy, STATES) != rows(database_url, STATES)

    found = await salvaged(on(copy, settings))

    assert (found.conflicts, found.restored > 2, found.read) == (
        [], True, found.known + found.restored,
    )  # fmt: skip
    assert rows(copy, STATES) == rows(database_url, STATES)
    assert rows(copy, HISTORY) == rows(database_url, HISTORY)
    async with restored(on(copy, settings)) as platform:
        assert (await ask(events.verify, VerifyEvents())).ok
        resumed = await ask(agents.resume, agents.ResumeAgent(id=agent.id))
        assert resumed.version == agent.version + 2
        [row] = await look(
            platform,
            "SELECT count(*) AS n FROM audit.entries WHERE action = 'identity.key_issued'",
        )
        assert row["n"] <= 2


async def test_a_second_salvage_changes_nothing(older, settings):
    copy, _ = older
    first = await salvaged(on(copy, settings))
    before = rows(copy, HISTORY)
    second = await salvaged(on(copy, settings))

    assert (second.restored, second.conflicts, second.read) == (0, [], first.read)
    assert rows(copy, HISTORY) == before


async def test_a_story_that_went_on_differently_is_refused_and_nothing_is_written(
    older, settings, database_url, ask
):
    copy, agent = older
    fork = """
        WITH last AS (SELECT * FROM mcp_documents.events WHERE aggregate_id = %(id)s
                      ORDER BY aggregate_version DESC LIMIT 1),
        head AS (UPDATE ops.aggregate_heads SET version = version + 1
                 WHERE aggregate_id = %(id)s)
        INSERT INTO mcp_documents.events (event_id, type, category, aggregate_type, aggregate_id,
            aggregate_version, payload, actor, request_id, occurred_at, hash)
        SELECT uuidv7(), 'agents.moved', category, aggregate_type, aggregate_id,
               aggregate_version + 1, payload, actor, 'fork', now(), hash FROM last
    """
    with psycopg.connect(copy) as connection:
        connection.execute(fork, {"id": agent.id})
    before = rows(copy, HISTORY)

    found = await salvaged(on(copy, settings))

    [conflict] = found.conflicts
    assert (conflict.entity, conflict.id, conflict.version) == ("agent", agent.id, 2)
    assert "another event as version 2" in conflict.why
    assert rows(copy, HISTORY) == before


async def test_an_event_that_does_not_continue_the_chain_is_refused(older, settings):
    copy, agent = older
    with psycopg.connect(copy) as connection:
        connection.execute(
            "UPDATE ops.aggregate_heads SET hash = sha256('other') WHERE aggregate_id = %s",
            [agent.id],
        )
    found = await salvaged(on(copy, settings))

    assert [(c.id, c.version) for c in found.conflicts] == [(agent.id, 2)]
    assert "the event before it is another one" in found.conflicts[0].why


async def test_what_the_log_has_with_other_content_is_refused(older, settings):
    copy, agent = older
    with psycopg.connect(copy) as connection:
        connection.execute("ALTER TABLE mcp_documents.events DISABLE TRIGGER USER")
        connection.execute(
            "UPDATE mcp_documents.events SET payload = replace(payload::text, 'idle', 'busy')::json"
            " WHERE aggregate_id = %s",
            [agent.id],
        )
    found = await salvaged(on(copy, settings))

    assert [(c.id, c.version) for c in found.conflicts] == [(agent.id, 1)]
