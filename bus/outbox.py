"""The relay: publishes what was committed, in order for each aggregate, and then forgets it.

Any number of relays may run. Each takes lanes (of 16) by advisory lock on a connection of its
own; a lane's rows go out in order, one in flight for each aggregate. A row is deleted only after
the stream has acknowledged it; a crash in between publishes it again under the same message id,
which the stream's de-duplication window and the consumers' inbox make harmless.

Who rebuilds a stream needs every lane: a relay that is asked to yield finishes its batch, lets its
lanes go, and asks for them again a moment later.

A relay that slept (SIGSTOP, a frozen machine) asks for its lock again before it goes on.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from typing import Any

import asyncpg
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from bus import faults, telemetry
from bus.background import forever
from bus.context import Platform
from bus.recording import PARTITIONS
from bus.statement import Statement

LOCK_SPACE = 0x5350
BATCH = 256
POLL_S = 0.5
RETRY_LANES_S = 2.0
ACK_TIMEOUT_S = 12.0
ASLEEP_S = 5.0
IN_FLIGHT_MAX = 64
YIELD = "yield"
YIELD_S = 1.0

PENDING = Statement(
    """
    SELECT position, message_id, aggregate_id, subject, headers, body FROM ops.outbox
    WHERE lane = ANY($1::smallint[]) AND available_at <= now() ORDER BY position LIMIT $2
    """
)
PUBLISHED = Statement("DELETE FROM ops.outbox WHERE position = ANY($1::bigint[])")
COUNT_PENDING = Statement("SELECT count(*) AS pending FROM ops.outbox WHERE available_at <= now()")
TAKE_LANE = Statement("SELECT pg_try_advisory_lock($1, $2) AS taken")
GIVE_LANE = Statement("SELECT pg_advisory_unlock($1, $2) AS given")


class Relay:
    """Publishes the outbox until cancelled."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._lanes: set[int] = set()
        self._wake = asyncio.Event()
        self._yielding = False
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)

    async def run(self) -> None:
        """Publish; a lost database or bus is waited for."""
        await forever("relay", self._with_connection, RETRY_LANES_S)

    async def _with_connection(self) -> None:
        connection = await self._platform.database.connect()
        try:
            await connection.add_listener("outbox", self._told)
            while True:
                if self._yielding:
                    await self._let_go(connection)
                await self._take_lanes(connection)
                await self._until_retake(connection)
        finally:
            self._lanes.clear()  # the locks end with the connection
            connection.terminate()

    def _told(self, *told: Any) -> None:
        self._yielding = self._yielding or told[-1] == YIELD
        self._wake.set()

    async def _let_go(self, connection: asyncpg.Connection) -> None:
        for lane in self._lanes:
            await connection.fetchrow(GIVE_LANE.text, LOCK_SPACE, lane)
        self._lanes.clear()
        self._yielding = False
        await asyncio.sleep(YIELD_S)

    async def _until_retake(self, connection: asyncpg.Connection) -> None:
        until = time.monotonic() + RETRY_LANES_S
        while time.monotonic() < until or len(self._lanes) == PARTITIONS:
            self._wake.clear()
            if self._yielding:
                return
            if await self._publish_batch(connection) == 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()

    async def _take_lanes(self, connection: asyncpg.Connection) -> None:
        for lane in set(range(PARTITIONS)) - self._lanes:
            row = await connection.fetchrow(TAKE_LANE.text, LOCK_SPACE, lane)
            if row and row["taken"]:
                self._lanes.add(lane)

    async def _publish_batch(self, connection: asyncpg.Connection) -> int:
        if not self._lanes:
            return 0
        asked = time.monotonic()
        rows = await connection.fetch(PENDING.text, sorted(self._lanes), BATCH)
        if time.monotonic() - asked > ASLEEP_S:
            return 0  # the locks may be gone: read again
        telemetry.outbox_pending.set(len(rows))
        by_aggregate: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_aggregate[row["aggregate_id"]].append(row)
        done = await asyncio.gather(*(self._publish_in_order(r) for r in by_aggregate.values()))
        positions = [position for positions in done for position in positions]
        faults.point("after-publish-before-delete")
        if positions:
            await connection.execute(PUBLISHED.text, positions)
            telemetry.outbox_published_total.inc(len(positions))
        if rows and not positions:
            await asyncio.sleep(POLL_S)  # the bus refuses: do not spin
        return len(positions)

    async def _publish_in_order(self, rows: list[Any]) -> list[int]:
        """Publish the rows of one aggregate; stops at the first that is not acknowledged."""
        published: list[int] = []
        jetstream = self._platform.connection.jetstream()
        for row in rows:
            try:
                async with self._in_flight:
                    await jetstream.publish(
                        row["subject"], row["body"], headers=row["headers"], timeout=ACK_TIMEOUT_S
                    )
            except (NatsError, APIError, TimeoutError, OSError) as refused:
                telemetry.log().warning("not published", subject=row["subject"], error=str(refused))
                break
            published.append(row["position"])
        return published
