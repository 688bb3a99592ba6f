"""A reaction of a test's own: fails for whom it is told to, and leaves one row for each effect."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bus.background import end
from bus.context import Context, Platform
from bus.statement import Statement
from bus.work import Follower
from schemas.agents import AgentConfigured, AgentCreated, AgentMoved
from schemas.contract import Reaction
from tests.conftest import look

AT_ONCE = 4
EFFECT = Statement(
    "INSERT INTO ops.idempotency (actor, key, fingerprint, created_at)"
    " VALUES ($1, $2, $3, clock_timestamp())"
)


class Digesting(Follower):
    """Follows agents. An effect that comes twice breaks the key of its row."""

    def __init__(self, platform: Platform, durable: str = "tests-digest") -> None:
        reaction = Reaction(durable, (AgentCreated, AgentConfigured, AgentMoved))
        super().__init__(reaction, self.digest, platform)
        self.platform = platform
        self.poison: set[str] = set()

    async def digest(self, event: Any, ctx: Context) -> None:
        """The reaction."""
        agent = event.agent
        if agent.id in self.poison:
            raise RuntimeError(f"cannot digest version {agent.version}")
        async with ctx.transaction() as tx:
            key = f"{agent.id}/{agent.version}"
            await tx.execute(EFFECT, self.reaction.durable, key, str(agent.version))

    async def effects(self, agent_id: str) -> list[int]:
        """Versions of an agent that took effect, in order."""
        rows = await look(
            self.platform,
            "SELECT fingerprint FROM ops.idempotency WHERE actor = $1 AND starts_with(key, $2)"
            " ORDER BY created_at",
            self.reaction.durable, agent_id,
        )  # fmt: skip
        return [int(row["fingerprint"]) for row in rows]

    async def letters(self, **wanted: Any) -> list[Any]:
        """Rows of this consumer's letters, in the order of their versions."""
        rows = await look(
            self.platform,
            "SELECT * FROM ops.dead_letters WHERE consumer = $1 ORDER BY aggregate_version, id",
            self.reaction.durable,
        )
        return [row for row in rows if all(row[name] == value for name, value in wanted.items())]


@asynccontextmanager
async def at_work(follower: Follower) -> AsyncIterator[None]:
    """Hand a consumer its messages, several at once, until the block ends."""
    jetstream = follower._platform.connection.jetstream()
    durable, subject = follower.reaction.durable, follower.reaction.subject
    pulled = await jetstream.pull_subscribe(subject, durable, stream="EVENTS")

    async def pull() -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                messages = await pulled.fetch(AT_ONCE, timeout=0.5)
                await asyncio.gather(*(follower.consume(message) for message in messages))

    working = asyncio.create_task(pull())
    try:
        yield
    finally:
        await end([working])
        await pulled.unsubscribe()
