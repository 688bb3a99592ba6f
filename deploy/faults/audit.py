"""What the stores hold in the end: read past the platform, as the databases' own administrator.

`Watch` is begun before a fault: it keeps the hashes of the log and where the stream ends, so that
afterwards the old part can be compared and only the new part need be read.
"""

import asyncio
import contextlib
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import httpx2
import nats.errors
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError

from deploy.embedded.postgres_server import DATABASE
from deploy.faults.checker import CONVERGED_S_MAX, Final, Logged, Ran
from deploy.faults.history import Operation
from deploy.faults.rig import Rig
from deploy.faults.workload import API, Load, Outside
from schemas.tools import ToolTimedOut

EVENTS = """
    SELECT event_id::text AS id, aggregate_type || '/' || aggregate_id AS thing,
           encode(hash, 'hex') AS hash
    FROM mcp_documents.events
"""
AGENTS = """
    SELECT event_id::text AS id, aggregate_id::text AS thing, aggregate_version AS version,
           payload::jsonb -> 'agent' -> 'config' ->> 'instructions' AS value,
           encode(hash, 'hex') AS hash
    FROM mcp_documents.events
    WHERE type IN ('agents.created', 'agents.configured')
      AND payload::jsonb -> 'agent' -> 'config' ->> 'instructions' LIKE $1
    ORDER BY seq
"""
UNPUBLISHED = "SELECT count(*) FROM ops.outbox WHERE available_at <= now()"
OPEN_JOBS = """
    SELECT count(*) FROM ops.jobs WHERE status IN ('queued', 'running') AND available_at <= now()
"""
LETTERS = """
    SELECT consumer || ' ' || subject || ': ' || coalesce(error, '') FROM ops.dead_letters
    WHERE state IN ('dead', 'parked')
"""
RUNS = """
    SELECT id::text AS id,
           CASE WHEN status = 'failed' AND error ->> 'code' = $2
                THEN 'timed out' ELSE status END AS status, error::text AS error
    FROM flow.runs WHERE id = ANY($1::text[]::uuid[])
    UNION ALL
    SELECT id::text,
           CASE WHEN status = 'completed' THEN 'succeeded'
                WHEN status = 'failed' AND strpos(error::text, $2) > 0
                THEN 'timed out' ELSE status END, error::text
    FROM mcp_documents.goals WHERE id = ANY($1::text[]::uuid[])
"""
DONE = """
    SELECT payload::jsonb -> 'step' ->> 'run_id' AS run, payload::jsonb -> 'step' ->> 'path' AS step
    FROM mcp_documents.events
    WHERE type IN ('workflows.step_finished', 'workflows.plan_step_finished')
      AND payload::jsonb -> 'step' ->> 'status' = 'done'
    UNION ALL
    SELECT payload::jsonb -> 'step' ->> 'goal_id', aggregate_id::text
    FROM mcp_documents.events WHERE type = 'agents.step_finished'
    UNION ALL
    SELECT payload::jsonb -> 'task' ->> 'goal_id', aggregate_id::text
    FROM mcp_documents.events WHERE type = 'goals.task_succeeded'
"""
REST_S_MAX = CONVERGED_S_MAX * 5
LOOK_EVERY_S = 0.3
BATCH = 500
READS_MAX = 5
FETCH_S = 2.0
VERIFY_S = 130.0
OVER = ("succeeded", "timed out", "failed", "undone", "cancelled")


@dataclass
class Watch:
    """The log and the stream as they were before a fault."""

    rig: Rig
    hashes: Mapping[str, str]
    sequence: int

    @classmethod
    async def begin(cls, rig: Rig) -> "Watch":
        """Look at everything, when nothing is on its way from the log to the stream.

        Raises:
            TimeoutError: It never comes to rest.
        """
        connection = await rig.databases[rig.primary].connect(DATABASE)
        bus = await rig.bus("admin")
        try:
            async with asyncio.timeout(CONVERGED_S_MAX):
                while True:
                    sequence = await last_of(bus.jetstream())
                    events = await connection.fetch(EVENTS)
                    left = await connection.fetchval(UNPUBLISHED)
                    if not left and sequence == await last_of(bus.jetstream()):
                        return cls(rig, {row["id"]: row["hash"] for row in events}, sequence)
                    await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await connection.close()
            await bus.close()

    async def rest(self, load: Load) -> float:
        """Wait until everything has come to rest; how long it took.

        Longer than the rule allows, so that what is only late is not called lost.
        """
        began = time.monotonic()
        await self.rig.healthy()
        bus = await self.rig.bus("admin")
        try:
            while time.monotonic() - began < REST_S_MAX:
                if await self._rests(bus.jetstream(), load):
                    break
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            await bus.close()
        return time.monotonic() - began

    async def _rests(self, jetstream: JetStreamContext, load: Load) -> bool:
        try:
            connection = await self.rig.databases[self.rig.primary].connect(DATABASE)
        except (OSError, asyncpg.PostgresError):
            return False
        try:
            runs = await connection.fetch(RUNS, list(load.runs), ToolTimedOut.code)
            if any(run["status"] not in OVER for run in runs):
                return False
            if await connection.fetchval(UNPUBLISHED) or await connection.fetchval(OPEN_JOBS):
                return False
        finally:
            await connection.close()
        return not await lagging(jetstream)

    async def final(
        self, load: Load, outside: Outside, history: Sequence[Operation], converged_s: float
    ) -> Final:
        """Everything that the rules ask about."""
        connection = await self.rig.databases[self.rig.primary].connect(DATABASE)
        bus = await self.rig.bus("admin")
        try:
            log = await connection.fetch(AGENTS, f"{load.mark}-%")
            events = {row["id"]: row for row in await connection.fetch(EVENTS)}
            published = [
                (id_, events[id_]["thing"] if id_ in events else "", version)
                for id_, version in await published_since(bus.jetstream(), self.sequence)
            ]
            runs = await runs_of(connection, load)
            letters = [row[0] for row in await connection.fetch(LETTERS)]
            left = await connection.fetchval(UNPUBLISHED)
            missing = await lagging(bus.jetstream())
        finally:
            await connection.close()
            await bus.close()
        late = {run.id for run in runs if run.status == "timed out"}
        started = [
            o.value for o in history
            if o.verb == "start" and o.outcome == "ok" and o.thing not in late
        ]  # fmt: skip
        return Final(
            log=[Logged(**dict(row)) for row in log],
            log_ids=set(events) - set(self.hashes),
            published=published,
            missing=missing,
            effects={
                key: times for key, times in outside.effects.items()
                if key.startswith(f"{load.mark}-")
            },
            wanted=[effect for key in started for effect in load.effects_of(key)],
            runs=runs,
            before=self.hashes,
            hashes={id_: row["hash"] for id_, row in events.items()},
            replayed=await replay(self.rig),
            letters=letters,
            converged_s=converged_s,
            unpublished=left,
        )  # fmt: skip


async def runs_of(connection: asyncpg.Connection, load: Load) -> list[Ran]:
    """The runs that clients started, with how often each step was recorded as done."""
    ids = list(load.runs)
    steps: dict[str, Counter[str]] = defaultdict(Counter)
    for row in await connection.fetch(DONE):
        steps[row["run"]][row["step"]] += 1
    return [
        Ran(row["id"], row["status"], steps[row["id"]], row["error"] or "")
        for row in await connection.fetch(RUNS, ids, ToolTimedOut.code)
    ]


async def lagging(jetstream: JetStreamContext) -> list[str]:
    """Durable consumers that have not dealt with everything."""
    found: list[Any] = []
    for stream in ("EVENTS", "JOBS"):
        offset = 0
        while page := await jetstream.consumers_info(stream, offset):
            found += page
            offset += len(page)
    return [
        f"{one.name}: {one.num_pending} waiting, {one.num_ack_pending} not acknowledged"
        for one in found
        if one.config.durable_name and (one.num_pending or one.num_ack_pending)
    ]


async def last_of(jetstream: JetStreamContext) -> int:
    """The sequence of the stream's last message."""
    return int((await jetstream.stream_info("EVENTS")).state.last_seq)


async def published_since(jetstream: JetStreamContext, sequence: int) -> list[tuple[str, int]]:
    """Event and version of every message behind a sequence, in order; read until it is whole."""
    for _ in range(READS_MAX):
        with contextlib.suppress(nats.errors.Error, APIError):
            return await read_behind(jetstream, sequence)
        await asyncio.sleep(FETCH_S)
    return await read_behind(jetstream, sequence)


async def read_behind(jetstream: JetStreamContext, sequence: int) -> list[tuple[str, int]]:
    """One reading of it."""
    left = await last_of(jetstream) - sequence
    if left == 0:
        return []
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=sequence + 1,
        ack_policy=AckPolicy.NONE, headers_only=True, inactive_threshold=30.0,
    )  # fmt: skip
    reading = await jetstream.pull_subscribe("evt.>", stream="EVENTS", config=config)
    found: list[tuple[str, int]] = []
    while len(found) < left:
        for message in await reading.fetch(min(BATCH, left - len(found)), timeout=FETCH_S):
            headers = message.headers or {}
            found.append((headers.get("ce-id", ""), int(headers.get("ce-version", 0))))
    await reading.unsubscribe()
    return found


async def replay(rig: Rig) -> list[str]:
    """Have the whole log replayed and compared with the tables; what differs."""
    headers = {"authorization": f"Bearer {rig.key}"}
    edges = itertools.cycle(rig.edges.values())
    async with httpx2.AsyncClient(timeout=VERIFY_S, headers=headers) as http:
        answer: dict[str, Any] = {}
        for _ in range(READS_MAX):
            with contextlib.suppress(httpx2.HTTPError, ValueError):
                answer = (await http.post(f"{next(edges)}{API}/events/verify", json={})).json()
            if "entities" in answer:
                break
            await asyncio.sleep(FETCH_S)
    if "entities" not in answer:
        return [f"not shown: {answer}"]
    return [
        f"{one['entity']}: {kind} {', '.join(one[kind])}"
        for one in answer["entities"]
        for kind in ("different", "broken_chains", "gaps")
        if one[kind]
    ]
