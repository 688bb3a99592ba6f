"""Twelve ways to build it wrong, each as somebody once has; more are in the engine's tests.

Nothing here can be turned on but by a test: each takes the place of a part of one simulated world.
"""

import asyncio
from collections import defaultdict
from typing import Any

from bus.boundary import Endpoint, Replay
from bus.context import Boundary, Context
from bus.outbox import BATCH, PENDING, PUBLISHED, Relay
from bus.work import BACK_OFF_FOR, JOB_STATE, LEASE_S, Follower, Worker, nak
from tests.simulator import domain, store
from tests.simulator.store import Store
from tests.simulator.world import Bugs


class AcknowledgesFirst(Follower):
    """Acknowledges before the effect is committed."""

    async def consume(self, message: Any) -> None:
        await message.ack()
        await super().consume(message)


class NoInbox(Follower):
    """Has its effect as often as it is told."""

    def _context(self, what: Any, boundary: Any = None) -> Context:
        return super()._context(what, boundary and Boundary())


class RejectsOnError(Follower):
    """What its framework does by default: whatever fails is not delivered again."""

    async def _failed(self, message: Any, what: Any, failure: Exception) -> str:
        await message.term()
        return "rejected"


class TerminatesWhenAway(Follower):
    """A database that is away is taken for a failure of the message."""

    async def _failed(self, message: Any, what: Any, failure: Exception) -> str:
        if isinstance(failure, BACK_OFF_FOR):
            await message.term()
            return "rejected"
        return await super()._failed(message, what, failure)


class AcknowledgesWhatWasGivenBack(Worker):
    """Takes a job that is not running for one that is done, and ends its only message."""

    async def _skip(self, message: Any, job_id: str) -> None:
        row = await self._platform.database.row(JOB_STATE, job_id)
        if row is not None and row["status"] == "running":
            await nak(message, LEASE_S)
        else:
            await message.ack()


class DeletesFirst(Relay):
    """Forgets the row and then publishes."""

    async def _publish_batch(self, connection: Any) -> int:
        rows = await connection.fetch(PENDING.text, sorted(self._lanes), BATCH)
        await connection.execute(PUBLISHED.text, [row["position"] for row in rows])
        by_aggregate: dict[str, list[Any]] = defaultdict(list)
        for row in rows:
            by_aggregate[row["aggregate_id"]].append(row)
        await asyncio.gather(*(self._publish_in_order(r) for r in by_aggregate.values()))
        return len(rows)


class BehindThePosition(Store):
    """The relay goes on behind the last row that it has seen."""

    def __init__(self, world: Any) -> None:
        super().__init__(world)
        self._last: dict[int, int] = defaultdict(int)

    def pending(self, lanes: list[int], limit: int) -> list[dict[str, Any]]:
        rows = [r for r in super().pending(lanes, limit) if r["position"] > self._last[r["lane"]]]
        for row in rows:
            self._last[row["lane"]] = row["position"]
        return rows

    def forget(self, node: Any) -> None:
        super().forget(node)
        self._last.clear()  # a new relay begins with what is there


class Remembers(Endpoint):
    """Keeps its answers elsewhere than in the handler's transaction."""

    world: Any

    async def _run(self, context: Any, command: Any, data: bytes) -> Any:
        key, context.key = context.key, None
        known = await self.answers(key) if key else None
        if known is not None:
            raise Replay(*known)
        answer, headers = await super()._run(context, command, data)
        await self.keep(key, (answer, None))
        return answer, headers

    async def answers(self, key: str) -> Any:
        """What was answered under this key."""
        await self.world.io("database")
        return self.world.store.keys.get(("kept", key))

    async def keep(self, key: str, answer: Any) -> None:
        """Keep it, in a transaction of its own."""
        await self.world.io("database")
        self.world.store.keys["kept", key] = answer


class Caches(Remembers):
    """The cache is asked what was answered, and nothing else."""

    async def answers(self, key: str) -> Any:
        await self.world.io("network")
        return self.world.cache.get(key)

    async def keep(self, key: str, answer: Any) -> None:
        await self.world.io("network")
        self.world.cache[key] = answer


class ClaimsWhatIsClaimed(Store):
    """A timer that is due is whose who sees it, and of who sees it next."""

    exclusive = False


async def fires_twice(job: domain.Fire, ctx: Context) -> None:
    """Looks whether it has fired, and then fires."""
    if await ctx.database.row(store.FIRED, job.key) is None:
        async with ctx.transaction() as tx:
            await tx.execute(store.FIRE_BLINDLY, job.key)


PLANTED = {
    "ack before commit": Bugs(follower=AcknowledgesFirst),
    "no inbox": Bugs(follower=NoInbox),
    "default ack policy": Bugs(follower=RejectsOnError),
    "default sync": Bugs(unsynced=True),
    "relay deletes before the acknowledgement": Bugs(relay=DeletesFirst),
    "relay reads behind the position": Bugs(store=BehindThePosition),
    "answer outside of the transaction": Bugs(endpoint=Remembers),
    "retry without the key": Bugs(fresh_keys=True),
    "timer claimed twice": Bugs(store=ClaimsWhatIsClaimed, fire=fires_twice),
    "cache as truth": Bugs(endpoint=Caches),
    "a job given back loses its message": Bugs(worker=AcknowledgesWhatWasGivenBack),
    "database away ends the message": Bugs(follower=TerminatesWhenAway),
}
HARDER = {
    "a job given back loses its message": {
        "commit lost": 0.15, "commit unheard": 0.15, "delivered twice": 0.8,
    },
}  # fmt: skip
"""What must happen more often for some to be caught soon."""
