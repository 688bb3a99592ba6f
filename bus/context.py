"""What a handler is given besides its command: who asks, the time, ids, the database, the bus.

One object a request, job or reaction. `transaction()` opens the one transaction of an operation
or reaction; in a job it may be used again and again, each block committing at its end.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from bus import faults, pages, stopping
from bus.audit import Auditor
from bus.client import Ask, Client
from bus.clock import Clock
from bus.credentials import Signer
from bus.database import Database, Transaction
from bus.envelope import Origin
from bus.live import Lane
from bus.rights import Rights
from bus.sealing import Sealer
from bus.settings import Settings
from bus.statement import Statement
from schemas.contract import ID, Listing, Operation, Page, Schema
from schemas.policy import ALL, Reach
from schemas.principal import Principal
from schemas.problems import NotFound

if TYPE_CHECKING:
    from nats.aio.client import Client as Connection

IDS = re.compile(ID)
C = TypeVar("C", bound=Schema)
R = TypeVar("R", bound=Schema)


@dataclass(frozen=True)
class Platform:
    """What one process has: opened once, shared by everything in it."""

    settings: Settings
    clock: Clock
    database: Database
    client: Client
    signer: Signer
    sealer: Sealer
    rights: Rights
    auditor: Auditor

    @property
    def connection(self) -> "Connection":
        """The process's connection to NATS."""
        return self.client.connection


class Boundary:
    """How the transaction of an operation or reaction begins; the plain one just begins."""

    async def begun(self, transaction: Transaction) -> None:
        """Called once, before the handler writes."""


class Context:
    """Given to every handler. `reach` is how far the caller's permission goes."""

    __slots__ = (
        "_boundary",
        "attempt",
        "deadline_ms",
        "job_id",
        "key",
        "lane",
        "origin",
        "platform",
        "principal",
        "reach",
        "transaction_open",
        "weighed",
    )

    def __init__(
        self,
        platform: Platform,
        principal: Principal,
        origin: Origin,
        *,
        reach: Reach = ALL,
        deadline_ms: int | None = None,
        boundary: Boundary | None = None,
        job_id: str | None = None,
        attempt: int = 1,
        lane: Lane | None = None,
        key: str | None = None,
    ) -> None:
        self.platform = platform
        self.principal = principal
        self.origin = origin
        self.reach = reach
        self.weighed = False
        self.deadline_ms = deadline_ms
        self.job_id = job_id
        self.attempt = attempt
        self.lane = lane
        self.key = key
        self._boundary = boundary
        self.transaction_open: Transaction | None = None

    def use(self, boundary: Boundary) -> None:
        """Choose how the transaction begins; before the handler runs."""
        self._boundary = boundary

    def now(self) -> datetime:
        """The current time."""
        return self.platform.clock.now()

    def new_id(self) -> str:
        """A fresh UUIDv7."""
        return self.platform.clock.new_id()

    @property
    def database(self) -> Database:
        """For reads outside of a transaction."""
        return self.platform.database

    @property
    def settings(self) -> Settings:
        """The settings of this process."""
        return self.platform.settings

    def require_owner(self, owner_id: str, *things: str | None) -> None:
        """Refuse a thing that the caller may not touch.

        Args:
            owner_id: Whose it is.
            things: Its id or name, and those of what it is a part of: grants may name each.

        Raises:
            NotFound: The permission does not reach it; the caller shall not learn that it is there.
        """
        if not self.reaches(owner_id, *things):
            raise NotFound

    def reaches(self, owner_id: str | None, *things: str | None) -> bool:
        """Whether the permission reaches a thing; see `require_owner`."""
        self.weighed = True
        reach = self.reach.on(*(thing for thing in things if thing is not None))
        return reach.scope == "all" or (reach.scope == "own" and owner_id == self.principal.id)

    def reached(
        self, page: Page[R], owner_and_names: Callable[[R], tuple[str | None, ...]]
    ) -> Page[R]:
        """A page without what the permission does not reach; what is named by no id needs this."""
        self.weighed = True
        items = tuple(item for item in page.items if self.reaches(*owner_and_names(item)))
        return page.model_copy(update={"items": items})

    @property
    def visible(self) -> tuple[str | None, list[UUID], list[UUID]]:
        """What a list is limited to: an owner (None is everybody), and ids beside and except it."""
        self.weighed = True
        owner = {"all": None, "own": self.principal.id, "none": ""}[self.reach.scope]
        return owner, uuids(self.reach.allowed), uuids(self.reach.denied)

    def part_of(self, correlation_id: str) -> None:
        """Everything recorded or asked from here on belongs to this larger thing."""
        self.origin = self.origin.correlated(correlation_id)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """What is written together. See the module for when it is committed."""
        if self.transaction_open is not None:
            raise RuntimeError("an operation has one transaction")
        transaction = await self.database.begin(self.origin)
        try:
            if self._boundary is not None:
                await self._boundary.begun(transaction)
                self.transaction_open = transaction
            yield transaction
        except BaseException:
            self.transaction_open = None
            await transaction.roll_back()
            raise
        if self._boundary is None:
            faults.point("before-commit")
            await transaction.commit()

    async def row(self, statement: Statement, *values: object) -> dict[str, object]:
        """The one row of a read.

        Raises:
            NotFound: There is none.
        """
        row = await self.database.row(statement, *values)
        if row is None:
            raise NotFound
        return dict(row)

    async def page(
        self,
        request: Listing,
        item: type[R],
        statement: Statement,
        *filters: object,
        sort: Mapping[str, type] = pages.NEWEST_FIRST,
    ) -> Page[R]:
        """A page of rows; the statement takes filters, the key to go on behind, and a limit.

        Raises:
            Malformed: The cursor is not one of this list.
        """
        key = pages.after(request, tuple(sort.values()))
        rows = await self.database.rows(statement, *filters, *key, request.limit + 1)
        return pages.page(request, item, rows, tuple(sort))

    async def call(
        self,
        operation: Operation[C, R],
        command: C,
        *,
        key: str | None = None,
        stream_id: str | None = None,
        timeout_s: float | None = None,
    ) -> R:
        """Ask another domain, on behalf of the same principal and never past the deadline.

        Cancelled for good (`stopping.py`), it stops what it has asked for.
        """
        behalf = acting(self.principal)
        limit_ms = self.platform.clock.unix_ms() + int((timeout_s or operation.timeout_s) * 1000)
        deadline_ms = min(limit_ms, self.deadline_ms or limit_ms)
        signed, call_id = self.platform.signer.sign(behalf), stopping.new_call(operation)
        ask = Ask(signed, self.origin, deadline_ms, key, stream_id, call_id)
        try:
            return await self.platform.client.ask(operation, command, ask)
        except asyncio.CancelledError as cancelled:
            if call_id is not None and stopping.is_for_good(cancelled):
                await stopping.tell(self.platform.connection, operation, call_id)
            raise

    def as_principal(self, principal: Principal) -> "Context":
        """The same work on behalf of somebody else: how a job or reaction acts for an owner."""
        origin = replace(
            self.origin,
            actor=principal.id,
            roles=principal.roles,
            scopes=principal.scopes,
            credential=principal.credential,
            kind=principal.kind,
        )
        return Context(
            self.platform,
            principal,
            origin,
            deadline_ms=self.deadline_ms,
            job_id=self.job_id,
            attempt=self.attempt,
        )


def uuids(things: Iterable[str]) -> list[UUID]:
    """Those of some things that are named by an id."""
    return [UUID(thing) for thing in things if IDS.fullmatch(thing)]


def acting(principal: Principal) -> Principal:
    """The same principal, marked as asked for by a layer and not by the edge."""
    if principal.via == "bus":
        return principal
    return principal.model_copy(update={"via": "bus"})
