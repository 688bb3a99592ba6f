"""Postgres: one pool a process, and the transaction in which everything is written.

A statement is a named constant (`Statement`), so that a test can prepare each against the real
schema. Inside a transaction `record(event)` writes the entity's row, the event and the outbox row
in one statement (`recording.py`); `enqueue(job)` writes the job and its outbox row.

In an operation or a reaction the transaction is committed by the boundary, together with the
stored answer or the inbox row; in a job each `async with` block commits at its end.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, TypeAlias

import asyncpg
import orjson

from bus import recording, tls
from bus.clock import Clock
from bus.envelope import Origin
from bus.settings import Settings
from bus.statement import Statement
from schemas.contract import Event, Job, Problem
from schemas.problems import DependencyDown, VersionConflict

CONNECT_TIMEOUT_S = 5.0
PASSWORD_AGAIN_S = 0.1
COMMAND_TIMEOUT_S = 30.0
WAIT_FOR_CONNECTION_S = 5.0
CLOSE_S = 5.0

Row: TypeAlias = Mapping[str, Any]
"""A row: columns by name."""


LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.ReadOnlySQLTransactionError,  # it is the primary no more
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""What the driver raises when the connection, not the statement, is at fault."""


class translated:  # noqa: N801 - read as a verb: with translated(connection)
    """Turns what the driver raises into problems, once for the whole platform.

    A connection that was lost is cut: the driver may hold it for open, in the middle of something.
    A class, not a generator, because every statement passes through it.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: asyncpg.Connection | None = None) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        return

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._translate(error)

    def _translate(self, error: BaseException) -> None:
        """Raise the problem that the error is; return when it is none.

        Raises:
            Problem: A constraint was violated, the version is not the expected one, or
                the database is not reachable.
        """
        if isinstance(error, asyncpg.UniqueViolationError):
            known = Problem.by_constraint.get(error.constraint_name or "")
            if known is not None:
                raise known from error
        elif isinstance(error, asyncpg.SerializationError):
            raise VersionConflict from error
        elif isinstance(error, LOST):
            if self._connection is not None:
                self._connection.terminate()
            raise DependencyDown("The database is not reachable.") from error


class Database:
    """Up to `pool_size` connections. Reads may go straight here; writes go through `Transaction`.

    A connection that fails in any other way than a refused statement is cut, never used again.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._tls = tls.postgres_options(settings)
        self._url: str | None = settings.postgres_url.get_secret_value()
        self.clock = clock
        self._idle: list[asyncpg.Connection] = []
        self._free = asyncio.Semaphore(settings.pool_size)
        self._open = False

    async def open(self) -> None:
        """Connect; a first connection is ready."""
        self._idle.append(await self.connect())
        self._open = True

    async def close(self) -> None:
        """Close every idle connection; one at work is closed when its work is done."""
        self._open = False
        while self._idle:
            await hang_up(self._idle.pop())

    async def take(self) -> asyncpg.Connection:
        """A connection that is idle, or a new one; at most `pool_size` are out.

        The driver's pool would cost as much for each statement as the statement itself.

        Raises:
            DependencyDown: None came free in time, or the database does not answer.
        """
        if self._free.locked():
            await self._wait_for_room()
        else:
            await self._free.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            return await self.connect()
        except BaseException:
            self._free.release()
            raise

    async def _wait_for_room(self) -> None:
        try:
            async with asyncio.timeout(WAIT_FOR_CONNECTION_S):
                await self._free.acquire()
        except TimeoutError:
            raise DependencyDown("All database connections are in use.") from None

    def give_back(self, connection: asyncpg.Connection) -> None:
        """The connection is idle again."""
        if not self._open:
            connection.terminate()
        elif not connection.is_closed():
            self._idle.append(connection)
        self._free.release()

    async def row(self, statement: Statement, *values: Any) -> Row | None:
        """The first row, or None."""
        row: Row | None = await self._run("fetchrow", statement, values)
        return row

    async def rows(self, statement: Statement, *values: Any) -> list[Row]:
        """All rows."""
        return list(await self._run("fetch", statement, values))

    async def execute(self, statement: Statement, *values: Any) -> str:
        """Run a statement outside of any transaction; returns its command tag."""
        return str(await self._run("execute", statement, values))

    async def _run(self, verb: str, statement: Statement, values: Sequence[Any]) -> Any:
        connection = await self.take()
        try:
            with translated(connection):
                return await getattr(connection, verb)(statement.text, *values)
        finally:
            self.give_back(connection)

    async def connect(self) -> asyncpg.Connection:
        """A connection of its own, beside the pool: for LISTEN and advisory locks.

        Raises:
            DependencyDown: The database does not answer.
        """
        with translated():
            connection = await self._connected()
            await set_codecs(connection)
        return connection

    async def _connected(self) -> asyncpg.Connection:
        """Refused for its password, it reads the secret again: the role may have a new one."""
        until = time.monotonic() + CONNECT_TIMEOUT_S
        while True:
            try:
                return await asyncpg.connect(
                    self._url,
                    timeout=CONNECT_TIMEOUT_S,
                    command_timeout=COMMAND_TIMEOUT_S,
                    statement_cache_size=512 if self._settings.statement_cache else 0,
                    **self._tls,
                )
            except asyncpg.InvalidAuthorizationSpecificationError as refused:
                if time.monotonic() > until:
                    raise DependencyDown("The database refuses our password.") from refused
                await asyncio.sleep(PASSWORD_AGAIN_S)
                self._url = await asyncio.to_thread(self._settings.again, "postgres_url")

    async def begin(self, origin: Origin) -> "Transaction":
        """Open a transaction; the caller must `commit` or `roll_back` it."""
        connection = await self.take()
        try:
            with translated(connection):
                await connection.execute("BEGIN")
        except BaseException:
            self.give_back(connection)
            raise
        return Transaction(self, connection, origin)


async def hang_up(connection: asyncpg.Connection) -> None:
    """Close; a server that does not answer is not waited for."""
    with contextlib.suppress(*LOST):
        await connection.close(timeout=CLOSE_S)


async def set_codecs(connection: asyncpg.Connection) -> None:
    """Ids travel as text, JSON as Python values."""
    await connection.set_type_codec(
        "uuid", encoder=str, decoder=str, schema="pg_catalog", format="text"
    )
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(
            kind,
            encoder=lambda value: orjson.dumps(value, default=str).decode(),
            decoder=orjson.loads,
            schema="pg_catalog",
            format="text",
        )


class Transaction:
    """What is written together. Made by `Context.transaction()`."""

    def __init__(self, database: Database, connection: asyncpg.Connection, origin: Origin) -> None:
        self._database = database
        self._connection = connection
        self._origin = origin
        self._then = list[Callable[[], object]]()
        self.open = True

    async def record(self, event: Event) -> None:
        """Write the entity's row, append the event, and queue it for publication.

        Raises:
            VersionConflict: The entity is not at the version before the event's.
            Problem: The one that names the violated constraint.
        """
        statement, values = recording.of(event, self._origin, self._database.clock)
        row = await self.row(statement, *values)
        if row is None:
            raise VersionConflict(id=event.entity.id)

    async def record_all(self, events: Iterable[Event]) -> None:
        """Record events in their order; those of one kind that follow each other go together.

        Raises:
            VersionConflict: One of the entities is not at the version before its event's.
            Problem: The one that names the violated constraint.
        """
        recorded = ((e, *recording.of(e, self._origin, self._database.clock)) for e in events)
        for statement, same in groupby(recorded, key=lambda one: one[1]):
            together = list(same)
            with translated(self._connection):
                rows = await self._connection.fetchmany(
                    statement.text, [values for _, _, values in together]
                )
            if len(rows) < len(together):
                raise VersionConflict(ids=[event.entity.id for event, _, _ in together])

    async def enqueue(
        self, job: Job | recording.Task, *, job_id: str | None = None, delay_s: float = 0
    ) -> str:
        """Write a job and queue it for its workers; returns the job's id."""
        job_id = job_id or self._database.clock.new_id()
        values = recording.of_job(job, job_id, delay_s, self._origin, self._database.clock)
        await self.execute(recording.ENQUEUE, *values)
        return job_id

    async def row(self, statement: Statement, *values: Any) -> Row | None:
        """The first row, or None."""
        with translated(self._connection):
            row: Row | None = await self._connection.fetchrow(statement.text, *values)
            return row

    async def rows(self, statement: Statement, *values: Any) -> list[Row]:
        """All rows."""
        with translated(self._connection):
            return list(await self._connection.fetch(statement.text, *values))

    async def execute(self, statement: Statement, *values: Any) -> str:
        """Run a statement; returns its command tag."""
        with translated(self._connection):
            return str(await self._connection.execute(statement.text, *values))

    async def execute_many(self, statement: Statement, rows: Sequence[Sequence[Any]]) -> None:
        """Run a statement once for each row, in one round trip."""
        with translated(self._connection):
            await self._connection.executemany(statement.text, rows)

    def then(self, do: Callable[[], object]) -> None:
        """Do this once everything is committed."""
        self._then.append(do)

    async def commit(self) -> None:
        """Commit. Shielded: a commit that has begun is never cancelled half-way."""
        await asyncio.shield(self._end("COMMIT"))
        for do in self._then:
            do()

    async def roll_back(self) -> None:
        """Undo everything; safe to call twice."""
        if self.open:
            await asyncio.shield(self._end("ROLLBACK"))

    async def _end(self, verb: str) -> None:
        self.open = False
        try:
            if not self._connection.is_closed():
                with translated(self._connection):
                    await self._connection.execute(verb)
            elif verb == "COMMIT":
                raise DependencyDown("The database connection was lost before the commit.")
        finally:
            self._database.give_back(self._connection)
