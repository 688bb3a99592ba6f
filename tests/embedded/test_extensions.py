"""The five extensions of the database, and our `uuid-ossp` beside Python's uuid module."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.embedded.stack import Servers

pytestmark = pytest.mark.timeout(120)
FIVE = ("plpgsql", "vector", "pg_trgm", "pg_stat_statements", "uuid-ossp")
NAMES = [
    "",
    "a",
    "Zürich",
    "日本語 🙂",
    *("x" * length for length in (38, 39, 40, 47, 48, 103, 999)),
]
SPACES = {
    "uuid_ns_dns": uuid.NAMESPACE_DNS,
    "uuid_ns_url": uuid.NAMESPACE_URL,
    "uuid_ns_oid": uuid.NAMESPACE_OID,
    "uuid_ns_x500": uuid.NAMESPACE_X500,
}
GREGORIAN_OFFSET = 0x01B21DD213814000


@pytest.fixture
async def database(root: Path) -> AsyncIterator[Any]:
    async with Servers(root / "s", durable=False, want={"postgres"}) as servers:
        connection = await asyncpg.connect(servers.postgres_url)
        yield connection
        await connection.close()


async def test_the_extensions_are_there_and_their_functions_agree_with_python(
    database: Any,
) -> None:
    await check_extensions(database)
    await check_hashed(database)
    await check_time_based(database)


async def check_extensions(database: Any) -> None:
    for name in FIVE:  # as a migration would, without a superuser's rights
        await database.execute(f'CREATE EXTENSION IF NOT EXISTS "{name}"')
    installed = await database.fetch("SELECT extname FROM pg_extension")
    assert {row["extname"] for row in installed} == set(FIVE)
    assert await database.fetchval("SELECT '[1,2]'::vector <-> '[1,4]'::vector") == 2
    assert await database.fetchval("SELECT similarity('portal', 'portals')") > 0.5
    assert await database.fetchval("SELECT count(*) FROM pg_stat_statements") > 0
    locale = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'portal'"
    assert tuple(await database.fetchrow(locale)) == (b"b", "C.UTF-8")
    assert await database.fetchval("SHOW data_checksums") == "on"


async def check_hashed(database: Any) -> None:
    for function, space in SPACES.items():
        assert await database.fetchval(f"SELECT {function}()") == space
    for name in NAMES:
        v5 = await database.fetchval("SELECT uuid_generate_v5(uuid_ns_url(), $1)", name)
        v3 = await database.fetchval("SELECT uuid_generate_v3(uuid_ns_dns(), $1)", name)
        assert v5 == uuid.uuid5(uuid.NAMESPACE_URL, name)
        assert v3 == uuid.uuid3(uuid.NAMESPACE_DNS, name)
    assert await database.fetchval("SELECT uuid_nil()") == uuid.UUID(int=0)
    assert (await database.fetchval("SELECT uuid_generate_v4()")).version == 4


async def check_time_based(database: Any) -> None:
    now = await database.fetchval("SELECT clock_timestamp()")
    for function in ("uuid_generate_v1", "uuid_generate_v1mc"):
        many = await database.fetch(f"SELECT {function}() AS id FROM generate_series(1, 2000)")
        ids = [uuid.UUID(bytes=row["id"].bytes) for row in many]
        assert len(set(ids)) == len(ids)
        assert {(one.version, one.variant) for one in ids} == {(1, uuid.RFC_4122)}
        assert all(one.node >> 40 & 1 for one in ids)  # no network card was asked
        made = (ids[0].time - GREGORIAN_OFFSET) / 1e7
        assert abs(made - now.timestamp()) < timedelta(seconds=60).total_seconds()


async def test_the_owner_may_not_do_what_a_superuser_may(database: Any) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await database.execute("COPY (SELECT 1) TO PROGRAM 'true'")
