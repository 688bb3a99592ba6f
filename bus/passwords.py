"""Passwords of the database's roles: given, replaced without a lost request, and their age.

    write the new address where migrations look -> ALTER ROLE -> write it where processes look

Connections that are open stay open. A process whose next one is refused reads its secret again
and tries until it fits (`bus/database.py`), so between the last two steps nothing fails, it waits.
After a crash in between the next migration gives the role the password of the first step.

The server keeps only a password's hash. When it was given stands in the comment of its role.
"""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
from prometheus_client import Gauge
from psycopg import sql

from bus.credentials import write_secret
from bus.statement import Statement

if TYPE_CHECKING:  # the supervisor needs only the addresses
    from bus.context import Platform
    from bus.settings import Settings

PASSWORD_BYTES = 24
RUNTIME_ROLE = "app_user"
ROLES = (RUNTIME_ROLE, "readonly_user")
RUNTIME_FILE = "portal_runtime_postgres_url"
AGE_DAYS_MAX = 90
GIVEN = "password given "
CONNECT_S = 10
LOOK_EVERY_S = 600

age = Gauge("portal_database_password_age_seconds", "Since a role's password was given.", ["role"])
NOTES = Statement(
    """
    SELECT rolname::text AS role, shobj_description(oid, 'pg_authid') AS note FROM pg_roles
    WHERE rolname IN ('app_user', 'readonly_user')
    """
)


def as_role(url: str, role: str, password: str | None = None) -> str:
    """The same database, as this role; with a fresh password unless one is given."""
    parts = urlsplit(url)
    password = password or secrets.token_urlsafe(PASSWORD_BYTES)
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{role}:{quote(password, safe='')}@{place}").geturl()


def give(admin_url: str, role_url: str) -> None:
    """Make the password in `role_url` that of its role; nothing is done if it is already.

    Raises:
        psycopg.Error: The administrator may not, the role is not there, or nobody answers.
    """
    role, password = urlsplit(role_url).username or "", password_of(role_url)
    try:
        psycopg.connect(role_url, connect_timeout=CONNECT_S).close()
    except psycopg.OperationalError:
        with psycopg.connect(admin_url, connect_timeout=CONNECT_S) as connection:
            set_password(connection, role, password)


def set_password(connection: "psycopg.Connection[Any]", role: str, password: str) -> None:
    """Give the role this password; only its hash goes to the server, whose statistics keep SQL."""
    hashed = connection.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    ).decode()
    note = GIVEN + datetime.now(UTC).isoformat(timespec="seconds")
    name = sql.Identifier(role)
    connection.execute(sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(name, hashed))
    connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(name, note))


def password_of(url: str) -> str:
    """The password in an address."""
    return unquote(urlsplit(url).password or "")


def rotate(settings: "Settings", role: str, target: Path) -> None:
    """Give the role a fresh password and write its address to `target`, as the module says.

    Raises:
        psycopg.Error: As `give`.
    """
    admin_url = settings.postgres_url.get_secret_value()
    fresh = as_role(admin_url, role)
    if settings.secrets is not None and role == RUNTIME_ROLE:
        write_secret(settings.secrets / RUNTIME_FILE, fresh.encode())
    give(admin_url, fresh)
    write_secret(target, fresh.encode())


async def look_at_ages(platform: "Platform") -> None:
    """Show in the metrics how old each password is."""
    for row in await platform.database.rows(NOTES):
        given = given_at(row["note"])
        if given is not None:
            age.labels(row["role"]).set((platform.clock.now() - given).total_seconds())


def given_at(note: str | None) -> datetime | None:
    """When a password was given, as the comment of its role says."""
    text = (note or "").removeprefix(GIVEN)
    return datetime.fromisoformat(text) if note and text != note else None
