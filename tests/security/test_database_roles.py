"""What each role of the database may do, asked of the database itself."""

import psycopg
import pytest
from psycopg import errors

from bus import passwords
from migrations import grants
from tests.conftest import RUNTIME_PASSWORD

READER_PASSWORD = "of-a-reader"  # pragma: allowlist secret
EVENT = """
    INSERT INTO mcp_documents.events (event_id, type, category, aggregate_type, aggregate_id,
        aggregate_version, payload, actor, request_id, occurred_at, hash)
    VALUES (uuidv7(), 't', 'application', 't', uuidv7(), 1, '{}', 'a', 'r', now(), '')
"""
INBOX = "INSERT INTO ops.inbox (consumer, message_id) VALUES ('c', uuidv7()::text)"
HEAD = "INSERT INTO ops.aggregate_heads VALUES ('t', uuidv7(), 1, '')"
MATRIX = [
    # statement                                                    app_user  readonly_user
    ("SELECT 1 FROM mcp_documents.events", True, True),
    (EVENT, True, False),
    ("UPDATE mcp_documents.events SET actor = 'x'", False, False),
    ("DELETE FROM mcp_documents.events", False, False),
    ("TRUNCATE mcp_documents.events", False, False),
    ("DROP TABLE mcp_documents.events", False, False),
    ("ALTER TABLE mcp_documents.events DISABLE TRIGGER ALL", False, False),
    ("ALTER TABLE mcp_documents.events ADD COLUMN x int", False, False),
    ("SELECT 1 FROM mcp_documents.events_other", False, False),
    (
        "INSERT INTO mcp_documents.events_other OVERRIDING SYSTEM VALUE TABLE mcp_documents.events",
        False,
        False,
    ),
    ("SELECT 1 FROM ops.aggregate_heads", True, True),
    (HEAD, True, False),
    ("UPDATE ops.aggregate_heads SET version = 2", True, False),
    ("DELETE FROM ops.aggregate_heads", False, False),
    ("SELECT 1 FROM ops.inbox", True, True),
    (INBOX, True, False),
    ("UPDATE ops.inbox SET done = true", True, False),
    ("DELETE FROM ops.inbox", True, False),
    ("TRUNCATE ops.inbox", False, False),
    ("SELECT 1 FROM mcp_documents.goals", True, True),
    ("DELETE FROM mcp_documents.goals", False, False),
    ("SELECT 1 FROM identity.key_secrets", True, False),
    ("SELECT 1 FROM identity.api_keys", True, False),
    ("DELETE FROM identity.key_secrets", False, False),
    ("SELECT 1 FROM public.alembic_version", True, True),
    ("UPDATE public.alembic_version SET version_num = 'x'", False, False),
    ("SELECT ops.add_month('mcp_documents.events', 'recorded_at', now()::date)", True, False),
    ("SELECT ops.archive_events(90)", True, False),
    ("SELECT 1 FROM scratch.states", True, True),
    ("DELETE FROM scratch.states", True, False),
    ("TRUNCATE scratch.states", False, False),
    ("CREATE TABLE archive.mine (x int)", False, False),
    ("CREATE TABLE public.mine (x int)", False, False),
    ("CREATE TABLE mcp_documents.mine (x int)", False, False),
    ("CREATE TEMPORARY TABLE mine (x int)", False, False),
    ("CREATE SCHEMA mine", False, False),
    ("CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", False, False),
    ("CREATE EXTENSION hstore", False, False),
    ("CREATE ROLE mine", False, False),
    ("ALTER ROLE admin PASSWORD 'x'", False, False),
    ("SET ROLE admin", False, False),
    ("SELECT 1 FROM pg_authid", False, False),
    ("SELECT pg_read_file('/etc/hostname')", False, False),
    ("COPY mcp_documents.goals TO PROGRAM 'cat'", False, False),
    ("SET session_replication_role = replica", False, False),
]


@pytest.fixture(scope="module")
def migrated(stack, template):
    """The migrated database that tests copy, and a way in for the reader."""
    from tests import servers

    url = servers.clone(stack.postgres_url, template)
    with psycopg.connect(url) as connection:
        grants_again(connection)
    passwords.give(url, passwords.as_role(url, "readonly_user", READER_PASSWORD))
    yield url
    servers.drop(stack.postgres_url, url)


def grants_again(connection):
    """A copied database has its template's tables, but not who may connect to it."""
    name = connection.execute("SELECT quote_ident(current_database())").fetchone()[0]
    for statement in grants.for_database(name):
        connection.execute(statement)


@pytest.fixture(params=["app_user", "readonly_user"])
def role(request):
    return request.param


@pytest.fixture
def entered(migrated, role):
    """The database as this role; nothing that is done there stays."""
    password = {"app_user": RUNTIME_PASSWORD, "readonly_user": READER_PASSWORD}[role]
    with psycopg.connect(passwords.as_role(migrated, role, password)) as connection:
        yield connection
        connection.rollback()


def ask(url, sql, *values):
    with psycopg.connect(url) as connection:
        return connection.execute(sql, values or None).fetchall()


@pytest.mark.parametrize(
    ("statement", "app_user", "readonly_user"), MATRIX, ids=lambda v: " ".join(str(v).split())[:50]
)
def test_each_role_may_do_what_the_table_says(entered, role, statement, app_user, readonly_user):
    if {"app_user": app_user, "readonly_user": readonly_user}[role]:
        entered.execute(statement)
    else:
        with pytest.raises((errors.InsufficientPrivilege, errors.ReadOnlySqlTransaction)):
            entered.execute(statement)


def test_a_reader_who_asks_to_write_may_still_not(migrated):
    url = passwords.as_role(migrated, "readonly_user", READER_PASSWORD)
    with psycopg.connect(url) as connection:
        connection.execute("SET default_transaction_read_only = off")
        connection.commit()
        for statement, _, readonly_user in MATRIX:
            if not readonly_user:
                with pytest.raises(errors.InsufficientPrivilege):
                    connection.execute(statement)
                connection.rollback()


def test_only_months_of_partitioned_tables_can_be_added(migrated):
    url = passwords.as_role(migrated, "app_user", RUNTIME_PASSWORD)
    with psycopg.connect(url) as connection:
        for parent in ("ops.inbox", "x; DROP TABLE ops.inbox", "mcp_documents.events, ops.inbox"):
            with pytest.raises(errors.UndefinedTable):
                connection.execute("SELECT ops.add_month(%s, 'recorded_at', now()::date)", [parent])
            connection.rollback()
        added = "SELECT ops.add_month('mcp_documents.events', 'recorded_at', '2031-01-05')"
        assert connection.execute(added).fetchone() == (True,)


def test_no_role_of_the_platform_has_an_attribute_of_power(migrated):
    rows = ask(
        migrated,
        """
        SELECT rolname, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
               (SELECT count(*) FROM pg_auth_members m WHERE m.member = r.oid)
        FROM pg_roles r WHERE rolname IN ('app_user', 'readonly_user') ORDER BY 1
        """,
    )
    assert rows == [("app_user", False, 0), ("readonly_user", False, 0)]


def test_the_one_who_migrates_is_no_superuser(stack):
    assert ask(stack.postgres_url, "SELECT session_user::text, rolsuper FROM pg_roles "
               "WHERE rolname = session_user") == [("admin", False)]  # fmt: skip


def test_nobody_in_general_may_do_anything(migrated):
    granted = """
        SELECT n.nspname || '.' || c.relname FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
        WHERE a.grantee = 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
        UNION ALL SELECT nspname FROM pg_namespace, aclexplode(nspacl) a
        WHERE a.grantee = 0 AND nspname !~ '^pg_' AND nspname <> 'information_schema'
        UNION ALL SELECT datname FROM pg_database, aclexplode(datacl) a
        WHERE a.grantee = 0 AND datname = current_database()
        UNION ALL SELECT p.oid::regprocedure::text FROM pg_proc p
        JOIN pg_namespace n ON n.oid = p.pronamespace,
             aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
        WHERE a.grantee = 0 AND n.nspname IN ('ops', 'audit')
    """
    assert ask(migrated, granted) == []


def test_every_table_of_credentials_is_closed_to_readers_and_no_log_can_be_changed(migrated):
    rights = """
        SELECT n.nspname || '.' || c.relname, a.privilege_type, a.grantee::regrole::text,
               EXISTS (SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
                       WHERE t.tgrelid = c.oid AND f.proname = 'refuse_change')
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
        WHERE a.grantee::regrole::text IN ('app_user', 'readonly_user')
          AND n.nspname <> 'public'
    """
    found = ask(migrated, rights)
    readers = {table for table, _, role, _ in found if role == "readonly_user"}
    assert {table.partition(".")[0] for table in readers}.isdisjoint(grants.CREDENTIALS)
    assert {right for _, right, role, _ in found if role == "readonly_user"} == {"SELECT"}
    logs = {(table, right) for table, right, role, log in found if log and role == "app_user"}
    assert ("mcp_documents.events", "INSERT") in logs
    assert {right for _, right in logs} == {"SELECT", "INSERT"}
    assert {right for _, right, _, _ in found} <= {"SELECT", "INSERT", "UPDATE", "DELETE"}


def test_the_settings_of_each_role_are_fixed(entered, role):
    for name, value in grants.SETTINGS[role].items():
        assert entered.execute("SELECT current_setting(%s)", [name]).fetchone() == (
            value.replace("60s", "1min"),
        )


def test_passwords_are_kept_as_scram(stack):
    known = ask(stack.postgres_url, "SELECT current_setting('password_encryption')")
    assert known == [("scram-sha-256",)]
