"""A replay: batches of the log, in order, at a pace, to a target, from where it had got to.

    Subscribers  publishes; the stream REPLAY knows the last event that it took
    Scratch      one statement a batch, in the transaction that keeps the position

Its end is fixed when it begins, behind which no entry can appear any more.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from nats.js.errors import NotFoundError

from bus import envelope, faults, position, rebuild, subjects
from bus.acknowledged import Outgoing, Outlet, outlet
from bus.context import Context
from bus.database import Row
from handlers.events import store
from handlers.events.pacing import Pace
from schemas import catalogue
from schemas.contract import Schema
from schemas.events import Comparison, Replayed, ReplayEvents
from schemas.problems import Unavailable

SHIFT_S = 3000.0
"""After so long another attempt goes on, before the time of this one is over."""
LOOK_S = 0.5
SETTLE_S = 0.05
PUBLISHED_AT_ONCE = 200
PLAYED_AT_ONCE = 10_000


class Reached(Schema):
    """How far a replay is; kept in its job."""

    seq: int
    until: int
    done: int
    total: int
    at: float | None = None
    recorded: datetime | None = None

    @property
    def progress(self) -> float:
        """From 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 1.0


class Scratch:
    """Makes entities out of events, in tables of the job's own."""

    batch = PLAYED_AT_ONCE
    subject = None

    def __init__(self, command: ReplayEvents, ctx: Context) -> None:
        self._command, self._ctx = command, ctx

    async def caught_up(self, reached: Reached) -> Reached:
        """Nothing is ahead of the position: both are written together."""
        return reached

    async def play(self, before: Reached, after: Reached) -> None:
        """The events between two positions, once."""
        chosen = selection(self._command, before.seq, after.seq)
        async with self._ctx.transaction() as tx:
            await tx.execute(store.PLAY, *chosen, self._ctx.job_id)
            await position.keep(tx, self._ctx, kept(before), kept(after), after.progress)

    async def compared(self) -> tuple[Comparison, ...]:
        """Each kind of entity against its live table, in one snapshot of the database."""
        async with self._ctx.transaction() as tx:
            await tx.execute(rebuild.SNAPSHOT)
            found = []
            for entity, name in rebuild.carriers(catalogue.events()).items():
                row = await tx.row(store.PLAYED, self._ctx.job_id, entity.noun())
                different = await tx.rows(
                    rebuild.played_difference(entity, name),
                    self._ctx.job_id, entity.noun(), rebuild.DIFFERENCES_SHOWN,
                )  # fmt: skip
                if row and row["aggregates"]:
                    ids = tuple(str(each["id"]) for each in different)
                    found.append(Comparison(entity=entity.noun(), different=ids, **row))
        return tuple(found)


class Subscribers:
    """Publishes events for whoever may read them."""

    batch = PUBLISHED_AT_ONCE

    def __init__(self, command: ReplayEvents, ctx: Context, out: Outlet) -> None:
        self._command, self._ctx, self._out = command, ctx, out
        self.subject = f"{subjects.REPLAY}.{subjects.token(str(ctx.job_id))}.>"

    async def caught_up(self, reached: Reached) -> Reached:
        """The position, or what the stream has behind it: published and not yet written down."""
        jetstream = self._ctx.platform.connection.jetstream()
        try:
            last = await jetstream.get_last_msg(subjects.REPLAY.upper(), self.subject)
        except NotFoundError:
            return reached
        seq = int((last.headers or {}).get(envelope.REPLAY_SEQ, 0))
        if seq <= reached.seq:
            return reached
        chosen = selection(self._command, reached.seq, seq)
        row = await self._ctx.database.row(store.COUNT_CHOSEN, *chosen)
        done = reached.done + (row["events"] if row else 0)
        now = reached.model_copy(update={"seq": seq, "done": done})
        await keep(self._ctx, kept(reached), now)
        return now

    async def play(self, before: Reached, after: Reached) -> None:
        """Publish what is between two positions, then write the position."""
        chosen = selection(self._command, before.seq, after.seq)
        rows = await self._ctx.database.rows(store.CHOSEN, *chosen)
        await self._out.send([self._message(row) for row in rows])
        faults.point("after-replay-before-position")
        await keep(self._ctx, kept(before), after)

    def _message(self, row: Row) -> Outgoing:
        job_id = str(self._ctx.job_id)
        headers = envelope.of_row(row) | {
            envelope.MESSAGE_ID: f"{job_id}-{row['seq']}",
            envelope.REPLAY: job_id,
            envelope.REPLAY_OF: row["event_id"],
            envelope.REPLAY_SEQ: str(row["seq"]),
        }
        return Outgoing(subjects.replay(job_id, row["type"]), row["body"].encode(), headers)

    async def compared(self) -> tuple[Comparison, ...]:
        """Nothing was made that could be compared."""
        return ()


Player = Scratch | Subscribers


async def run(command: ReplayEvents, ctx: Context) -> Replayed:
    """Begin, or go on, and play to the end."""
    if command.target == "scratch":
        return await played(command, ctx, Scratch(command, ctx))
    async with outlet(ctx.platform.connection) as out:
        return await played(command, ctx, Subscribers(command, ctx, out))


async def played(command: ReplayEvents, ctx: Context, player: Player) -> Replayed:
    """Every batch of the selection.

    Raises:
        Unavailable: This attempt's time is nearly over; another goes on.
    """
    before = await position.read(ctx)
    start = Reached.model_validate(before) if before else await begin(command, ctx)
    reached = await player.caught_up(start)
    pace = Pace(command.speed, command.per_second, reached.at, reached.recorded)
    ends = time.monotonic() + SHIFT_S
    size = player.batch if pace.free else PUBLISHED_AT_ONCE
    while rows := await next_batch(command, ctx, reached, size):
        while rows:
            count, wait_s = pace.take([row["recorded_at"] for row in rows], time.time())
            if count:
                now = further(reached, rows[:count], pace)
                await player.play(reached, now)
                reached, rows = now, rows[count:]
            if time.monotonic() > ends:
                raise Unavailable("The replay goes on in another attempt.")
            await asyncio.sleep(min(wait_s, LOOK_S))
    entities = await player.compared()
    return Replayed(
        ok=not any(each.different for each in entities), target=command.target,
        subject=player.subject, events=reached.done, last_seq=reached.seq, entities=entities,
    )  # fmt: skip


async def begin(command: ReplayEvents, ctx: Context) -> Reached:
    """Fix the end, wait until everything before it is committed or gone, and count."""
    await ctx.database.execute(store.FORGET_SCRATCH, PLAYED_AT_ONCE)
    horizon = await ctx.row(store.HORIZON)
    await settled(ctx, horizon["behind"])
    last = horizon["seq"]
    assert isinstance(last, int)
    until = min(last, command.to_seq or last)
    first = command.from_seq - 1
    counted = await ctx.database.row(store.COUNT_CHOSEN, *selection(command, first, until))
    reached = Reached(seq=first, until=until, done=0, total=counted["events"] if counted else 0)
    await keep(ctx, None, reached)
    return reached


async def settled(ctx: Context, behind: object) -> None:
    """Return when every transaction that had begun by then is committed or gone."""
    while True:
        row = await ctx.row(store.SETTLED, behind)
        if row["settled"]:
            return
        await asyncio.sleep(SETTLE_S)


def further(reached: Reached, rows: Sequence[Row], pace: Pace) -> Reached:
    """The position behind some rows."""
    update = {
        "seq": rows[-1]["seq"], "done": reached.done + len(rows),
        "at": pace.at, "recorded": pace.recorded,
    }  # fmt: skip
    return reached.model_copy(update=update)


async def next_batch(
    command: ReplayEvents, ctx: Context, reached: Reached, limit: int
) -> list[Row]:
    """Position and time of the events that come next."""
    chosen = selection(command, reached.seq, reached.until)
    return await ctx.database.rows(store.NEXT_CHOSEN, *chosen, limit)


async def keep(ctx: Context, before: dict[str, Any] | None, now: Reached) -> None:
    """Write the position by itself."""
    async with ctx.transaction() as tx:
        await position.keep(tx, ctx, before, kept(now), now.progress)


def kept(reached: Reached) -> dict[str, Any]:
    """As it stands in the job."""
    return reached.model_dump(mode="json")


def selection(command: ReplayEvents, after: int, until: int) -> tuple[Any, ...]:
    """The parameters of every statement that reads what a replay is about."""
    named = command.type is not None and "." in command.type
    return (
        after, until, command.since, command.until, command.aggregate_type, command.aggregate_id,
        command.type if named else None,
        f"{command.type}." if command.type and not named else None,
    )  # fmt: skip
