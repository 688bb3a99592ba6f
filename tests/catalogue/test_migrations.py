"""The revisions: one line of them, each with its way back, and tables as the entities declare."""

import re
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from schemas import catalogue
from tests import servers

ROOT = Path(__file__).parents[2]
BESIDE_THE_ENTITY = {
    "mcp_documents.documents": {"search"},
    "mcp_documents.tool_definitions": {"search"},
    "registry.services": {"search"},
}
OWN = "nspname NOT LIKE 'pg_%' AND nspname NOT IN ('information_schema', 'public')"
SCHEMAS = f"SELECT nspname FROM pg_namespace WHERE {OWN} ORDER BY 1"
SHAPE = f"""
    SELECT n.nspname, c.relname, c.relkind::text, a.attname, format_type(a.atttypid, a.atttypmod),
           a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE {OWN} ORDER BY 1, 2, a.attnum
"""
COLUMNS = """
    SELECT attname, attgenerated::text FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""


def configured(url):
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    return config


@pytest.fixture
def empty_url(stack):
    """An empty database."""
    url = servers.clone(stack.postgres_url, "template1")
    yield url
    servers.drop(stack.postgres_url, url)


def rows(url, sql, *values):
    with psycopg.connect(url) as connection:
        return connection.execute(sql, values or None).fetchall()


def revisions():
    return list(ScriptDirectory.from_config(configured("")).walk_revisions())


def test_there_is_one_head_and_one_base():
    directory = ScriptDirectory.from_config(configured(""))

    assert len(directory.get_heads()) == len(directory.get_bases()) == 1


@pytest.mark.parametrize("revision", revisions(), ids=lambda r: r.revision)
def test_a_revision_says_why_and_whether_it_is_safe_and_has_a_way_back(revision):
    text = Path(revision.path).read_text(encoding="utf-8")

    assert re.search(r"^Why: \S", text, re.MULTILINE)
    assert re.search(r"^Safe while the old code runs: \S", text, re.MULTILINE)
    assert revision.module.DOWN.strip()
    assert Path(revision.path).name.startswith(revision.revision)


def test_down_to_nothing_and_up_again_gives_the_same_tables(empty_url):
    config = configured(empty_url)
    command.upgrade(config, "head")
    first = rows(empty_url, SHAPE)
    command.downgrade(config, "base")
    left = rows(empty_url, SCHEMAS)
    command.upgrade(config, "head")

    assert first
    assert left == []
    assert rows(empty_url, SHAPE) == first


def test_each_revision_can_be_taken_back_alone(empty_url):
    config = configured(empty_url)
    for revision in reversed(revisions()):
        command.upgrade(config, revision.revision)
        before = rows(empty_url, SHAPE)
        command.downgrade(config, "-1")
        command.upgrade(config, revision.revision)
        assert rows(empty_url, SHAPE) == before, revision.revision


@pytest.mark.parametrize("entity", catalogue.entities(), ids=lambda e: e.__name__)
def test_the_table_of_an_entity_has_exactly_its_fields(entity, database_url):
    columns = rows(database_url, COLUMNS, entity.table)
    stored = {name for name, generated in columns if not generated}

    assert stored - BESIDE_THE_ENTITY.get(entity.table, set()) == set(entity.model_fields)


def test_the_log_refuses_to_be_changed(database_url):
    insert = """
        INSERT INTO mcp_documents.events (event_id, type, category, aggregate_type, aggregate_id,
            aggregate_version, payload, actor, request_id, occurred_at, hash)
        VALUES (uuidv7(), 't', 'application', 't', uuidv7(), 1, '{}', 'a', 'r', now(), '')
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(insert)
        for change in (
            "UPDATE mcp_documents.events SET actor = 'b'",
            "DELETE FROM mcp_documents.events",
            "TRUNCATE mcp_documents.events",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(change)
