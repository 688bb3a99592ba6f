"""Two databases: a primary, and a standby that has every commit before the client hears of it.

    primary ══ synchronous stream ══► standby        clients name both and take the writable one

Nobody promotes by itself: `promote` is what an operator or his tool does. The old primary must not
come back as one; here it is ended first, and comes back as the standby of the new one.
"""

import asyncio
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from deploy.embedded import refusal
from deploy.embedded.folder import DataFolder
from deploy.embedded.launch import run_to_end, tail
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.postgres_server import SUPERUSER, Postgres
from deploy.embedded.spec import Say

COPY_S_MAX = 120.0
CONNECT_S = 5.0
STREAMS_S_MAX = 60.0
STEP_S = 0.1
ANY_STANDBY = "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'"
NO_STANDBY = "ALTER SYSTEM RESET synchronous_standby_names"
RELOAD = "SELECT pg_reload_conf()"
STREAMING = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
PROMOTE = "SELECT pg_promote(true, 60)"


class Database(Postgres):
    """One of two servers; without data of its own it begins as a copy of the other."""

    def __init__(self, folder: DataFolder, name: str, port: int) -> None:
        super().__init__(folder, port, durable=True, name=name)
        self.name = name
        self.port = port
        self.source: Database | None = None
        self._root = folder

    @property
    def home(self) -> Path:
        """Where its files are."""
        return self._home

    async def _initdb(self) -> None:
        if self.source is None:
            await super()._initdb()
            return
        part = self._home / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        password = self._root.password("postgres")
        command = (
            *self._program("pg_basebackup"), "--pgdata", str(part), "--write-recovery-conf",
            "--wal-method=stream", "--checkpoint=fast", "--no-password",
            "--dbname", f"host={LOOPBACK} port={self.source.port} user={SUPERUSER} "
            f"password={password} application_name={self.name}",
        )  # fmt: skip
        log = self._root.log(self.name)
        status = await run_to_end(
            command, log, environment={}, timeout_s=COPY_S_MAX,
            folder=Path("/"), user=self._run_as.user,
        )  # fmt: skip
        if status != 0:
            raise refusal.not_started(self.name, "; ".join(tail(log, 3)), log)
        part.rename(self._data)

    async def _provision(self, say: Say) -> None:
        if self.source is None:
            await super()._provision(say)

    def follow(self, source: "Database") -> None:
        """Forget all data; the next start begins as a copy of `source`."""
        shutil.rmtree(self._data, ignore_errors=True)
        self.source = source

    async def ask(self, statement: str, database: str = SUPERUSER) -> Any:
        """One statement as the superuser; its first value."""
        connection = await self.connect(database)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close(timeout=CONNECT_S)

    async def connect(self, database: str) -> asyncpg.Connection:
        """A connection as the superuser."""
        return await asyncpg.connect(self.url(SUPERUSER, database), timeout=CONNECT_S)

    async def require_standby(self) -> None:
        """From here on no commit is acknowledged that the standby has not on its disk."""
        await self.ask(ANY_STANDBY)
        await self.ask(RELOAD)
        async with asyncio.timeout(STREAMS_S_MAX):
            while await self.ask(STREAMING) == 0:  # noqa: ASYNC110 - nothing tells us
                await asyncio.sleep(STEP_S)

    async def stand_alone(self) -> None:
        """Acknowledge commits without a standby: the operator's decision."""
        await self.ask(NO_STANDBY)
        await self.ask(RELOAD)

    async def promote(self) -> None:
        """Be the primary, from what has arrived."""
        assert await self.ask(PROMOTE), f"{self.name} did not become the primary"
        self.source = None


def both(url: str, *databases: Database) -> str:
    """The address that names both servers and means the one that takes writes."""
    parts = urlsplit(url)
    who = parts.netloc.rpartition("@")[0]
    places = ",".join(f"{LOOPBACK}:{database.port}" for database in databases)
    return parts._replace(
        netloc=f"{who}@{places}", query="target_session_attrs=read-write"
    ).geturl()
