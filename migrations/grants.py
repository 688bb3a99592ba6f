"""What each role of the database may do, granted anew after every migration.

    admin           owns everything, migrates; nothing that runs for long connects as it
    app_user        what the platform runs as: reads and writes rows, changes no table, and can
                    neither change nor delete what a log holds
    readonly_user   people who look: reads all but credentials, changes nothing

Everything is taken away first, so that this page says all there is. A table of a later revision
gets the usual rights; one that its trigger `refuse_change` makes append-only gets fewer by itself.
"""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection

DELETES_FROM = (
    "ops.outbox", "ops.inbox", "ops.idempotency", "ops.jobs", "ops.dead_letters",
    "documents.blobs",
    "mcp_documents.sections", "vault.sealed", "identity.attempts", "identity.cookies",
    "identity.refresh_tokens", "identity.authorization_codes", "identity.external_accounts",
    "mcp_documents.plan_cache", "flow.signals", "flow.drivers", "scratch.states",
)  # fmt: skip
CREDENTIALS = ("identity", "vault")
"""Schemas that hold hashes and sealed values; nobody looks there."""
AS_ITS_OWNER = ("ops.add_month", "ops.archive_events", "audit.add_day", "audit.drop_days")
"""Functions that make, move or drop partitions, which `app_user` may not."""
SETTINGS = {
    "app_user": {
        "search_path": "public",
        "statement_timeout": "60s",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "5min",
    },
    "readonly_user": {
        "search_path": "public",
        "default_transaction_read_only": "on",
        "statement_timeout": "60s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "1min",
    },
}
BOTH = ", ".join(SETTINGS)
PRESENT = "SELECT count(*) FROM pg_roles WHERE rolname IN ('app_user', 'readonly_user')"
SCHEMAS = """
    SELECT nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
"""
TABLES = """
    SELECT n.nspname, n.nspname || '.' || c.relname,
           EXISTS (SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
                   WHERE t.tgrelid = c.oid AND f.proname = 'refuse_change')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname = ANY(%s)
"""
FUNCTIONS = """
    SELECT p.oid::regprocedure::text FROM pg_proc p
    JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname || '.' || p.proname = ANY(%s)
"""
CURRENT = "SELECT coalesce(rolconfig, '{}') FROM pg_roles WHERE rolname = %s"


def apply(connection: Connection) -> None:
    """Grant what this page says, inside the migration's transaction."""
    if ask(connection, PRESENT)[0][0] < len(SETTINGS):
        return  # a revision before the roles
    schemas = [name for (name,) in ask(connection, SCHEMAS)]
    database = ask(connection, "SELECT quote_ident(current_database())")[0][0]
    statements = [
        *for_database(database),
        *(line for schema in schemas for line in for_schema(schema)),
        *(line for table in ask(connection, TABLES, schemas) for line in for_table(*table)),
        *(line for (name,) in ask(connection, FUNCTIONS, AS_ITS_OWNER) for line in for_owner(name)),
        *(line for role in SETTINGS for line in for_role(role, ask(connection, CURRENT, role))),
    ]
    for statement in statements:
        connection.exec_driver_sql(statement)


def ask(connection: Connection, sql: str, *values: object) -> list[Any]:
    """All rows."""
    lists = tuple(list(value) if isinstance(value, tuple) else value for value in values)
    return list(connection.exec_driver_sql(sql, lists or None))


def for_database(database: str) -> Iterator[str]:
    """Who may connect, and who finds the extensions."""
    yield f"REVOKE ALL ON DATABASE {database} FROM PUBLIC"
    yield f"GRANT CONNECT ON DATABASE {database} TO {BOTH}"
    yield "REVOKE ALL ON SCHEMA public FROM PUBLIC"
    yield f"GRANT USAGE ON SCHEMA public TO {BOTH}"
    yield f"GRANT SELECT ON public.alembic_version TO {BOTH}"


def for_schema(schema: str) -> Iterator[str]:
    """Nothing for anybody, but that it may be entered."""
    for kind in (f"SCHEMA {schema}", f"ALL TABLES IN SCHEMA {schema}",
                 f"ALL FUNCTIONS IN SCHEMA {schema}"):  # fmt: skip
        yield f"REVOKE ALL ON {kind} FROM PUBLIC, {BOTH}"
    yield f"GRANT USAGE ON SCHEMA {schema} TO app_user"
    if schema not in CREDENTIALS:
        yield f"GRANT USAGE ON SCHEMA {schema} TO readonly_user"


def for_table(schema: str, table: str, append_only: bool) -> Iterator[str]:  # noqa: FBT001 - a row
    """What may be done with its rows."""
    rights = ["SELECT", "INSERT"]
    rights += [] if append_only else ["UPDATE"]
    rights += ["DELETE"] if table in DELETES_FROM else []
    yield f"GRANT {', '.join(rights)} ON {table} TO app_user"
    if schema not in CREDENTIALS:
        yield f"GRANT SELECT ON {table} TO readonly_user"


def for_owner(function: str) -> Iterator[str]:
    """It runs with its owner's rights, and may be called."""
    yield f"ALTER FUNCTION {function} SECURITY DEFINER SET search_path = pg_catalog"
    yield f"GRANT EXECUTE ON FUNCTION {function} TO app_user"


def for_role(role: str, current: list[Any]) -> Iterator[str]:
    """Its settings, where they are not so already: a role is the whole server's."""
    for name, value in SETTINGS[role].items():
        if f"{name}={value}" not in current[0][0]:
            yield f"ALTER ROLE {role} SET {name} = '{value}'"
