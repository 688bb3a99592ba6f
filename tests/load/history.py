"""What the log gives back: entities replayed into scratch, and the stream EVENTS filled again.

Both rows read the same 100,000 events of many entities, a few each, as large as a goal's, written
into the log past the platform. Their type is one that a handlers process may publish and to which
nobody reacts; their entities are of a kind that the platform does not have.
"""

import asyncio
import json
import subprocess
import time

import psycopg

from deploy.embedded.folder import DataFolder
from tests.load.keepalive import Doors, Measured
from tests.load.machine import PORTAL, Machine
from tests.load.rows import Row, with_cpu

EVENTS, VERSIONS, PAYLOAD_BYTES = 100_000, 4, 1_000
LOOK_S = 0.1
JOB_S, REBUILD_S = 120.0, 180.0
ENDS = ("succeeded", "failed", "cancelled")
THERE = "SELECT count(*) FROM mcp_documents.events WHERE aggregate_type = 'load'"
FILL = """
    INSERT INTO mcp_documents.events (event_id, type, category, aggregate_type, aggregate_id,
        aggregate_version, payload, actor, request_id, occurred_at, hash)
    SELECT uuidv7(), 'agents.created', 'application', 'load',
           md5((n / {versions})::text)::uuid, n % {versions} + 1,
           json_build_object('agent', json_build_object('id', n, 'text', repeat('x', {bytes}))),
           'load', 'load', now(), sha256(n::text::bytea)
    FROM generate_series(0, {events} - 1) n
"""


def fill(machine: Machine) -> None:
    """Put the events into the log, unless they are there."""
    owner = DataFolder(machine.data).of_migrations / "portal_postgres_url"
    with psycopg.connect(owner.read_text().strip(), autocommit=True) as connection:
        found = connection.execute(THERE).fetchone()
        if found is None or not found[0]:
            statement = FILL.format(events=EVENTS, versions=VERSIONS, bytes=PAYLOAD_BYTES)
            connection.execute(statement)
            connection.execute("VACUUM ANALYZE mcp_documents.events")


async def replay(machine: Machine) -> Row:
    """The whole job, from its request to its result."""
    await asyncio.to_thread(fill, machine)

    async def replayed() -> Measured:
        began = time.perf_counter()
        async with Doors(*machine.place, machine.key, 1) as doors:
            asked = {"target": "scratch", "aggregate_type": "load"}
            job = await doors.post("/api/v1/events/replay", asked)
            while job["status"] not in ENDS:
                if time.perf_counter() - began > JOB_S:
                    raise TimeoutError(f"the job is {job['status']} after {JOB_S:g} s")
                await asyncio.sleep(LOOK_S)
                job = await doors.get(f"/api/v1/jobs/{job['id']}")
        if job["status"] != "succeeded":
            raise RuntimeError(f"the job has {job['status']}: {job['error']}")
        return Measured(time.perf_counter() - began, count=job["result"]["events"])

    return await with_cpu(machine.pids(), replayed)


async def rebuild(machine: Machine) -> Row:
    """`portal events rebuild-stream` with its start, to the last event published again."""
    await asyncio.to_thread(fill, machine)
    command = [str(PORTAL), "events", "rebuild-stream", "--yes", "--json"]

    async def rebuilt() -> Measured:
        began = time.perf_counter()
        ran = await asyncio.to_thread(
            subprocess.run, command, env=machine.environment, capture_output=True,
            check=False, timeout=REBUILD_S,
        )  # fmt: skip
        if ran.returncode:
            raise RuntimeError(ran.stderr.decode()[-500:])
        done = json.loads(ran.stdout)
        took_s = time.perf_counter() - began
        return Measured(took_s, count=done["events"] - done["waiting"], failed=done["waiting"])

    row = await with_cpu(machine.pids(), rebuilt)
    row.note = f"{row.measured.good} events in {row.measured.seconds:.1f} s"
    return row
