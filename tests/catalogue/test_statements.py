"""Every statement is prepared against the migrated schema, and there is no SQL elsewhere."""

import ast
import pkgutil
from importlib import import_module

import asyncpg

import bus
import handlers
from bus import rebuild, recording
from bus.statement import Statement
from schemas import catalogue
from tests.simulator.domain import Counter
from tests.tidy import project

QUERYING = {"row", "rows", "execute", "execute_many", "fetch", "fetchrow", "fetchval"}


def every_statement():
    """Statements of all modules, and those that are made from the declarations."""
    for package in (bus, handlers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                import_module(module.name)
    for event in catalogue.events():
        recording.statement_for(event.entity_type, event.field_name)
        recording.restoring(event.entity_type, event.field_name)
        rebuild.difference(event.entity_type, event.field_name)
        rebuild.played_difference(event.entity_type, event.field_name)
    texts = {statement.text for statement in Statement.known}
    return {text for text in texts if Counter.table not in text}  # of the simulator of tests


async def test_every_statement_fits_the_schema(database_url):
    texts = every_statement()
    connection = await asyncpg.connect(database_url)
    wrong = []
    for text in texts:
        try:
            await connection.prepare(text)
        except asyncpg.PostgresError as refused:
            wrong.append(f"{refused}: {' '.join(text.split())[:120]}")
    await connection.close()

    assert len(texts) > 80
    assert wrong == []


async def test_the_platform_may_run_every_statement(settings):
    connection = await asyncpg.connect(settings.postgres_url.get_secret_value())
    refused = []
    for text in every_statement():
        if not text.strip().startswith("SET "):
            try:
                await connection.execute(f"EXPLAIN (GENERIC_PLAN) {text}")
            except asyncpg.InsufficientPrivilegeError as missing:
                refused.append(f"{missing}: {' '.join(text.split())[:120]}")
    user = await connection.fetchval("SELECT session_user")
    await connection.close()

    assert user == "app_user"
    assert refused == []


def test_a_domain_asks_the_database_only_with_statements():
    literal = [
        f"{file}:{node.lineno}"
        for file in project.named(".py")
        if file.parts[0] in ("handlers", "edge")
        for node in ast.walk(ast.parse(project.read(file)))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", None) in QUERYING
        and node.args
        and isinstance(node.args[0], ast.Constant | ast.JoinedStr)
        and "duckdb" not in project.read(file)
    ]

    assert literal == []
