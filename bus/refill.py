"""An emptied stream EVENTS, filled again from the log.

    every lane of the relay is ours        nobody publishes meanwhile
    the stream and its consumers are new   what was in it is gone
    each event that is not waiting anyhow  goes into the outbox, before all that wait
    the lanes are given back               relays publish, in order for each aggregate

What is in the outbox was never published, and is newer than all of its aggregate that was; while no
relay runs it stays there. So "not in the outbox" is exactly what the stream had, and the order
holds however many requests go on writing. Consumers get everything again; their inbox knows what
they have done, which is why no more days are filled in than it remembers.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from bus import envelope, outbox, topology
from bus.database import Database, hang_up, translated
from bus.recording import PARTITIONS, partition_of
from bus.statement import Statement
from bus.topology import Consumer

STREAM = "EVENTS"
BATCH = 1_000
DAYS = 7
DAYS_MAX = 13
"""An inbox remembers for 14 days what its consumer has done."""
BEFORE_ALL = -(2**62)
LANES_S = 60.0
LOOK_S = 0.2
STANDSTILL_S = 15.0

ASK_FOR_LANES = Statement("SELECT pg_notify('outbox', $1)")
PUBLISHED = Statement(
    """
    SELECT e.seq, e.event_id, e.type, e.category, e.aggregate_id, e.aggregate_version,
           e.payload::text AS body, e.actor, e.request_id, e.correlation_id, e.causation_id,
           e.occurred_at, encode(e.hash, 'hex') AS hash
    FROM mcp_documents.events e
    WHERE e.seq > $1 AND e.recorded_at > now() - make_interval(days => $2)
      AND NOT EXISTS (SELECT 1 FROM ops.outbox o WHERE o.message_id = e.event_id::text)
    ORDER BY e.seq LIMIT $3
    """
)
QUEUE_BEFORE_ALL = Statement(
    """
    INSERT INTO ops.outbox (position, message_id, lane, aggregate_id, subject, headers, body)
    OVERRIDING SYSTEM VALUE
    VALUES ($1, $2, $3, $4, $5, $6, convert_to($7::text, 'UTF8'))
    """
)
LEFT = Statement("SELECT count(*) AS events FROM ops.outbox WHERE position < 0")

Tell = Callable[[str, int], None]


@dataclass(frozen=True)
class Refilled:
    """What was done: events put into the stream's way, and those that still wait for a relay."""

    stream: str
    days: int
    events: int
    waiting: int


class LanesHeld(Exception):
    """A relay does not let its lanes go."""


async def rebuild_stream(
    database: Database,
    jetstream: JetStreamContext,
    wanted: Sequence[Consumer],
    replicas: int,
    days: int,
    tell: Tell,
) -> Refilled:
    """Make the stream anew and fill it with the events of some days; `tell` hears of progress.

    Raises:
        LanesHeld: A relay of an older version, or a frozen one, still publishes.
    """
    connection = await database.connect()
    try:
        with translated(connection):
            await take_lanes(connection)
            await make_anew(jetstream, wanted, replicas)
            count = await queue_all(connection, days, tell)
    finally:
        await hang_up(connection)
    return Refilled(STREAM, days, count, await relayed(database, count, tell))


async def take_lanes(connection: asyncpg.Connection) -> None:
    """Take every lane; relays are asked to yield until they did."""
    missing, until = set(range(PARTITIONS)), time.monotonic() + LANES_S
    while True:
        for lane in sorted(missing):
            row = await connection.fetchrow(outbox.TAKE_LANE.text, outbox.LOCK_SPACE, lane)
            missing -= {lane} if row["taken"] else set()
        if not missing:
            return
        if time.monotonic() > until:
            raise LanesHeld(f"{len(missing)} of {PARTITIONS} lanes are held by a relay")
        await connection.execute(ASK_FOR_LANES.text, outbox.YIELD)
        await asyncio.sleep(LOOK_S)


async def make_anew(jetstream: JetStreamContext, wanted: Sequence[Consumer], replicas: int) -> None:
    """Delete the stream, if it is there, and make it and its consumers."""
    with contextlib.suppress(NotFoundError):
        await jetstream.delete_stream(STREAM)
    await topology.apply(jetstream, wanted, replicas)


async def queue_all(connection: asyncpg.Connection, days: int, tell: Tell) -> int:
    """Put what was published into the outbox again, before everything that waits there."""
    count, after = 0, 0
    while rows := await connection.fetch(PUBLISHED.text, after, days, BATCH):
        await connection.executemany(QUEUE_BEFORE_ALL.text, [values(row) for row in rows])
        count, after = count + len(rows), rows[-1]["seq"]
        tell("queued", count)
    return count


def values(row: Any) -> tuple[Any, ...]:
    """An outbox row of a stored event."""
    return (
        BEFORE_ALL + row["seq"], row["event_id"], partition_of(row["aggregate_id"]),
        row["aggregate_id"], f"evt.{row['type']}.{row['aggregate_id']}", envelope.of_row(row),
        row["body"],
    )  # fmt: skip


async def relayed(database: Database, count: int, tell: Tell) -> int:
    """Watch relays publish until nothing is left, or nothing moves; returns what is left."""
    left, moved = count, time.monotonic()
    while left and time.monotonic() - moved < STANDSTILL_S:
        await asyncio.sleep(LOOK_S)
        row = await database.row(LEFT)
        now = row["events"] if row else 0
        if now != left:
            left, moved = now, time.monotonic()
            tell("published", count - left)
    return left
