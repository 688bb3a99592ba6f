"""A new master key: made, and every sealed value wrapped under it, while the platform works.

    new key into the file -> every column of `SEALED` wrapped anew -> later, old keys out of it

Processes that run learn of the key when they meet it, or within half a minute. Until then they may
still seal under the old one, so it stays for a minute at least.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from bus.credentials import write_secret
from bus.sealing import FRESH_S, Sealer, master_of, read_keys

PAGE = 200


@dataclass(frozen=True)
class SealedColumn:
    """Where sealed values are: `about` and the row's id are what each was sealed about."""

    table: str
    id: str
    column: str
    about: str


SEALED = (
    SealedColumn("vault.sealed", "secret_id", "sealed", "vault.sealed/"),
    SealedColumn("identity.signing_secrets", "id", "sealed", "identity.signing_secrets/"),
)
"""Every column of sealed values. A domain that adds one names it here."""


class TooEarly(Exception):
    """A process may still seal under the old key."""


def add_key(path: Path) -> str:
    """Put a fresh master key into the file; returns its id."""
    keys = read_keys(path.read_text()).with_new()
    write_secret(path, keys.text().encode())
    return keys.newest


async def wrap_all(connection: asyncpg.Connection, sealer: Sealer) -> int:
    """Wrap every value under the newest key; returns how many were not. May be run again."""
    return sum([await wrap_column(connection, sealer, column) for column in SEALED])


async def wrap_column(connection: asyncpg.Connection, sealer: Sealer, column: SealedColumn) -> int:
    """One column, page by page; a value that changes meanwhile is left, it is new."""
    page = (
        f"SELECT {column.id}::text AS id, {column.column} AS sealed FROM {column.table} "  # noqa: S608 - declared
        f"WHERE $1::text IS NULL OR {column.id}::text > $1 ORDER BY {column.id}::text LIMIT {PAGE}"
    )
    change = (
        f"UPDATE {column.table} SET {column.column} = $3 "  # noqa: S608 - declared
        f"WHERE {column.id}::text = $1 AND {column.column} = $2"
    )
    count, after = 0, None
    while rows := await connection.fetch(page, after):
        for row in rows:
            if master_of(row["sealed"]) != sealer.newest:
                anew = sealer.wrap_anew(row["sealed"], column.about + row["id"])
                await connection.execute(change, row["id"], row["sealed"], anew)
                count += 1
        after = rows[-1]["id"]
    return count


def require_settled(path: Path) -> None:
    """Refuse to forget old keys while a process may still seal under one.

    Raises:
        TooEarly: The newest key is so young that a process may not know it.
    """
    if time.time() - path.stat().st_mtime < 2 * FRESH_S:
        raise TooEarly(f"wait until the newest key is {2 * FRESH_S:.0f} s old")


def forget_old(path: Path) -> list[str]:
    """Take all keys but the newest out of the file; returns their ids. First wrap everything."""
    keys = read_keys(path.read_text())
    kept = keys.only(set())
    write_secret(path, kept.text().encode())
    return sorted(set(keys.masters) - set(kept.masters))
