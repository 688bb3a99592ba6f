"""The runs that this process drives, and which it takes when there is room for more.

A run that finds no room waits as a row in `flow.drivers` that nobody holds and whose time has come;
so does one that has waited long enough, and one whose driver has died. A process that has room
takes such rows in the order of `fairness.py`: when one of its drivers lets go, and at each tick.
While rows wait, what has just been started waits behind them.

    held by nobody, due ──take──► held under a lease ──let go──► held by nobody, due later or never
            ▲                             │
            └───────── its process died ──┘
"""

import asyncio
from collections.abc import Sequence

from bus import telemetry
from bus.background import end
from bus.context import Context, Platform
from bus.database import Row
from bus.service import own_context
from handlers.workflows import fairness, service, store
from handlers.workflows.fairness import Standing, Waiting
from handlers.workflows.reactions import holding
from handlers.workflows.reactions.driving import Driver, carry_on

DRIVEN_MAX = 128
TICK_S = 0.5
TAKEN_AT_ONCE_MAX = 16
OWNERS_MAX = 200
DEAD_AT_ONCE_MAX = 200


class Room:
    """Who is driven here, and whether others wait for it."""

    def __init__(self) -> None:
        self.driven: dict[str, asyncio.Task[None]] = {}
        self._platform: Platform | None = None
        self._search: asyncio.Task[None] | None = None
        self._crowded, self._asked, self._behind = False, False, ""

    def open(self, platform: Platform) -> None:
        """Runs may be taken from here on."""
        self._platform, self._crowded, self._behind = platform, False, ""

    async def close(self) -> None:
        """Take nothing more."""
        search, self._search, self._platform = self._search, None, None
        if search is not None:
            await end([search])

    @property
    def free(self) -> int:
        """How many more may be driven here."""
        return DRIVEN_MAX - len(self.driven)

    @property
    def full(self) -> bool:
        """Whether one more has to wait: for room, or because others do."""
        return self._crowded or self.free <= 0

    def take(self, driver: Driver, *, known: bool) -> None:
        """Carry a run on here; read it first unless its driver knows it."""
        holder = str(driver.ctx.job_id)
        task = asyncio.create_task(driven(driver, known=known))
        self.driven[holder] = task
        task.add_done_callback(lambda _: self._left(holder))

    def _left(self, holder: str) -> None:
        self.driven.pop(holder, None)
        if self._crowded:
            self.seek()

    def seek(self) -> None:
        """Somebody waits: take whose turn it is, if there is room."""
        self._crowded = self._asked = True
        searching = self._search is not None and not self._search.done()
        if self.free > 0 and self._platform is not None and not searching:
            self._search = asyncio.create_task(self._fill(self._platform))

    async def _fill(self, platform: Platform) -> None:
        """Take until there is no room, or a round over all owners finds nobody who waits."""
        whole, found, self._asked = self._behind == "", False, False
        try:
            while self.free > 0:
                found = await self._fill_some(platform) or found
                if self._behind:
                    continue
                if whole and not found and not self._asked:
                    self._crowded = False
                    return
                whole, found, self._asked = True, False, False
        except Exception as failure:  # the next tick seeks again
            telemetry.log().warning("no run could be taken", exc_info=failure)

    async def _fill_some(self, platform: Platform) -> bool:
        """Take those whose turn it is in one page of owners; whether there were any."""
        ctx, most = own_context(service, platform), min(self.free, TAKEN_AT_ONCE_MAX)
        rows = await ctx.database.rows(store.CANDIDATES, ctx.now(), most, OWNERS_MAX, self._behind)
        last = max(rows, key=lambda row: row["place"], default=None)
        self._behind = (last and last["owner_id"]) or ""
        drivers = await taken(chosen(rows, most, ctx), platform)
        for driver in drivers:
            self.take(driver, known=False)
        return bool(drivers)


room = Room()


def chosen(rows: Sequence[Row], free: int, ctx: Context) -> list[str]:
    """The ids of the runs whose turn it is."""
    waiting = [
        Waiting(str(r["run_id"]), r["owner_id"], r["priority"], r["since"])
        for r in rows
        if r["run_id"] is not None
    ]
    standings = {r["owner_id"]: Standing(r["in_hand"], r["turn_at"]) for r in rows}
    return [one.run_id for one in fairness.chosen(waiting, standings, free, ctx.now())]


async def taken(run_ids: Sequence[str], platform: Platform) -> list[Driver]:
    """Drivers of those that no other process has taken meanwhile; each has its turn."""
    if not run_ids:
        return []
    ctx = own_context(service, platform)
    holders = [ctx.new_id() for _ in run_ids]
    rows = await ctx.database.rows(
        store.TAKE, list(run_ids), holders, holding.LEASE_S, ctx.now()
    )  # fmt: skip
    return [
        Driver(str(row["run_id"]), held_by(own_context(service, platform), str(row["holder"])),
               row["wakes"])
        for row in rows
    ]  # fmt: skip


def held_by(ctx: Context, holder: str) -> Context:
    """The context of a driver: it goes on when the request or job that began it is over."""
    return Context(ctx.platform, ctx.principal, ctx.origin, job_id=holder)


async def driven(driver: Driver, *, known: bool) -> None:
    """A driver that fails leaves the run to the next one, once its lease is over."""
    try:
        if not known:
            await driver.load()
            driver.ctx.part_of(driver.run.goal_id or driver.run.id)
        await carry_on(driver)
    except Exception as failure:
        telemetry.log().warning("driver failed", run=driver.run_id, exc_info=failure)


@service.every(seconds=TICK_S)
async def take_due(ctx: Context) -> None:
    """Take what has waited long enough, and what the dead have left."""
    if room.free > 0 and await ctx.database.row(store.ANY_DUE, ctx.now()) is not None:
        await ctx.database.execute(store.LET_GO_DEAD, ctx.now(), DEAD_AT_ONCE_MAX)
        room.seek()


@service.starts
async def enter(ctx: Context) -> None:
    """Begin to take runs."""
    room.open(ctx.platform)


async def let_all_go(ctx: Context) -> None:
    """Stop driving; others go on at once."""
    holders = list(room.driven)
    await end(room.driven.values())
    if holders:
        await ctx.database.execute(store.HAND_OVER, holders, ctx.now())


@service.stops
async def leave(ctx: Context) -> None:
    """Take and drive nothing more."""
    await room.close()
    await let_all_go(ctx)
