"""The faults, as data: what each is, what it needs, and how it is provoked.

A fault returns when it is over and what it hit is running again; the clients go on meanwhile. One
that did not happen (a point that was never reached) is an error, never a pass.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bus import faults, topology
from bus.reconciler import REQUEUE
from deploy.embedded.postgres_server import DATABASE
from deploy.faults import disk, long_run
from deploy.faults.fault import Fault, NotProvoked, Provoke, World, strace
from deploy.faults.rig import BUSES, DATABASES, EDGES, LAYERS, Rig
from deploy.faults.workload import asking_the_model
from schemas import catalogue

REACHED_S_MAX = 60.0
LEAD_EVERY_S = 4.0
AWAY_S = 5.0
ASLEEP_S = 15.0
ERRORS_S = 4.0
STEADY = 20
OF_LETTERS = ("before-letter", "after-letter-before-end")
AT_A_REPLAY = "after-replay-before-position"
REPLAY = {"target": "subject", "to_seq": 400}
AT_THE_RELAY = "after-publish-before-delete"
ALONE = (AT_THE_RELAY, AT_A_REPLAY)
"""Where only one process at a time gets to."""
AT_A_MODEL = "after-model-before-checkpoint"
ALL_JOBS = """
    SELECT id::text AS id, kind, payload::text AS payload, request_id FROM ops.jobs
    WHERE status = 'succeeded' ORDER BY created_at DESC LIMIT 500
"""
EACH = f"{len(faults.POINTS_OF_EDGE) + len(faults.POINTS)} points"
POISON = "job.documents.ingest"


def dies_at(name: str, *points: str) -> Provoke:
    """End a process as if by kill -9 exactly at points of its code, one after the other."""

    async def provoke(world: World) -> None:
        pid = await world.rig.arm(name, points[0])
        for point, following in zip(points, (*points[1:], None), strict=True):
            world.rig.arm_next(name, following)
            async with reaching(world, point):
                if not await world.rig.died(name, pid, REACHED_S_MAX):
                    world.rig.arm_next(name, None)
                    world.rig.kill(name)  # it would die there later
                    raise NotProvoked(f"{name} never reached {point}")
            pid = await world.rig.started(name, pid)
            if point in OF_LETTERS:
                await settle_letters(world)
        await world.rig.healthy()

    return provoke


@asynccontextmanager
async def reaching(world: World, point: str) -> AsyncIterator[None]:
    """Do what leads to a point to which the clients' work does not lead; end it afterwards."""

    async def lead() -> None:
        while True:
            await lead_to(world, point)
            await asyncio.sleep(LEAD_EVERY_S)

    if point == AT_A_MODEL:
        await world.rig.with_models()
    if point in ALONE:
        await world.rig.down(LAYERS[1])
    leading = asyncio.create_task(lead())
    try:
        yield
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        if point in ALONE:
            await world.rig.up(LAYERS[1])


async def lead_to(world: World, point: str) -> None:
    """Once."""
    if point == AT_A_MODEL:
        await world.load.first.ask(
            "POST", "/goals", asking_the_model(), f"model-{world.draw.random()}"
        )
    elif point == AT_A_REPLAY:
        await world.load.first.ask(
            "POST", "/events/replay", REPLAY, f"replay-{world.draw.random()}"
        )
    elif point in OF_LETTERS:
        bus = await world.rig.bus("handlers")
        with contextlib.suppress(Exception):
            await bus.jetstream().publish(
                POISON, b"poison", headers={"Nats-Msg-Id": f"poison-{world.draw.random()}"}
            )
        await bus.close()


async def settle_letters(world: World) -> None:
    """Drop the letters of the poison that was given."""
    first = world.load.first
    while True:
        _, page = await first.ask("GET", "/dead-letters?consumer=documents-ingest&state=dead")
        if not page["items"]:
            return
        for letter in page["items"]:
            body = {"reason": "It was given by a proof."}
            await first.ask(
                "POST", f"/dead-letters/{letter['id']}/drop", body, f"drop-{letter['id']}"
            )


async def kill_edges(world: World) -> None:
    """One after the other, with work in between."""
    for name in EDGES:
        world.rig.kill(name)
        await world.load.more(STEADY)
        await world.rig.healthy()


async def kill_layers(world: World) -> None:
    """One after the other, with work in between."""
    for name in LAYERS:
        world.rig.kill(name)
        await world.load.more(STEADY)
        await world.rig.healthy()


async def restart_one_by_one(world: World) -> None:
    """Each process is told to end, drains, and comes back before the next is told."""
    for name in (*LAYERS, *EDGES, *BUSES):
        pid = world.rig.pid(name)
        os.kill(pid, signal.SIGTERM)
        if not await world.rig.died(name, pid, REACHED_S_MAX):
            raise NotProvoked(f"{name} did not end")
        await world.rig.healthy()
        await world.load.more(STEADY)


async def leader(rig: Rig) -> str:
    """The server that leads the stream EVENTS."""
    bus = await rig.bus("admin")
    try:
        info = await bus.jetstream().stream_info("EVENTS")
        assert info.cluster is not None
        return str(info.cluster.leader)
    finally:
        await bus.close()


async def kill_stream_leader(world: World) -> None:
    """The others elect another; nothing is acknowledged meanwhile."""
    world.rig.kill(await leader(world.rig))
    await world.load.more(STEADY)
    await world.rig.healthy()


async def kill_every_bus(world: World) -> None:
    """Each server once, leaders among them, when the one before is well again."""
    for name in BUSES:
        world.rig.kill(name)
        await world.load.more(STEADY)
        await world.rig.healthy()


async def lose_the_quorum(world: World) -> None:
    """Two of three servers are away for a while: nothing can be acknowledged by the bus."""
    lost = world.draw.sample(BUSES, 2)
    await world.rig.down(*lost)
    await asyncio.sleep(AWAY_S)
    await world.rig.up(*lost)


async def lose_power_of_all_buses(world: World) -> None:
    """All three at the same moment; what they had not synced is gone."""
    await world.rig.lose_power(*BUSES)


async def lose_power_and_pause(world: World) -> None:
    """One server loses its power while another sleeps: the quorum is the damaged one's.

    It cannot be ready before the other wakes up: of streams in memory it knows nothing any more,
    and must not elect their leader.
    """
    damaged, asleep = world.draw.sample(BUSES, 2)
    await asyncio.gather(sleep(world.rig, asleep), world.rig.lose_power(damaged))


async def kill_primary(world: World) -> None:
    """It recovers from its own log and is the primary as before."""
    world.rig.kill(world.rig.primary)
    await world.load.more(STEADY)
    await world.rig.healthy()


async def lose_power_of_primary(world: World) -> None:
    """What it had acknowledged it must have again."""
    await world.rig.lose_power(world.rig.primary)


async def lose_power_of_all(world: World) -> None:
    """Buses and databases at the same moment: the whole cluster's plug."""
    await world.rig.lose_power(*BUSES, *DATABASES)


async def fail_over(world: World) -> None:
    """The primary is dead, the standby becomes it; later the old one is the standby."""
    await world.rig.fail_over()
    await world.load.more(STEADY)
    await world.rig.rejoin()


async def kill_standby(world: World) -> None:
    """Commits wait until it is back: nothing is acknowledged that is only in one place."""
    await world.rig.down(world.rig.standby)
    await asyncio.sleep(AWAY_S)
    await world.rig.up(world.rig.standby)


async def forget_the_cache(world: World) -> None:
    """Valkey is killed, its files are removed, and it begins with nothing."""
    await world.rig.down("valkey")
    home = world.rig.folder.of("valkey")
    for path in home.iterdir():
        if path.name != "valkey.conf":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    await world.load.more(STEADY)
    await world.rig.up("valkey")


async def sleep(rig: Rig, name: str) -> None:
    """A process is as good as dead for a while, and knows nothing of it."""
    async with rig.paused(name):
        await asyncio.sleep(ASLEEP_S)


async def sleep_layer(world: World) -> None:
    """A worker sleeps past its leases and goes on as if nothing had been: it must be fenced."""
    await sleep(world.rig, LAYERS[0])


async def sleep_stream_leader(world: World) -> None:
    """The bus's leader sleeps until it is deposed."""
    await sleep(world.rig, await leader(world.rig))


async def part_stream_leader(world: World) -> None:
    """The bus's leader and the others hear nothing of each other; clients go on at all of them."""
    with world.rig.parted(await leader(world.rig)):
        await asyncio.sleep(ASLEEP_S)


async def fill_a_bus(world: World) -> None:
    """No room on the disk of the stream's leader."""
    name = await leader(world.rig)
    ballast = await asyncio.to_thread(world.rig.disks[name].fill)
    try:
        await world.load.more(STEADY)
        await asyncio.sleep(AWAY_S)
    finally:
        ballast.unlink()
    world.rig.kill(name)
    await world.load.more(STEADY)


async def fail_syncs(world: World, name: str) -> None:
    """Every fsync of a server fails for some seconds; it is started anew afterwards."""
    calls = "fsync,fdatasync"
    tracer = await asyncio.create_subprocess_exec(
        "strace", "-f", "-qq", "-o", "/dev/null", "-p", str(world.rig.pid(name)),
        "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO",
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await asyncio.sleep(ERRORS_S)
        if tracer.returncode is not None:
            raise NotProvoked("strace could not attach")
    finally:
        with contextlib.suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGINT)
        await tracer.wait()
    with contextlib.suppress(ProcessLookupError):
        world.rig.kill(name)
    await world.load.more(STEADY)
    await world.rig.healthy()


async def fail_syncs_of_a_bus(world: World) -> None:
    """Of the stream's leader."""
    await fail_syncs(world, await leader(world.rig))


async def deliver_everything_twice(world: World) -> None:
    """Every event goes to every consumer again, and every job that is done is queued again."""
    bus = await world.rig.bus("admin")
    try:
        jetstream = bus.jetstream()
        wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
        for consumer in wanted:
            if consumer.stream == "EVENTS":
                await jetstream.delete_consumer(consumer.stream, consumer.durable)
        await topology.apply(jetstream, wanted, len(BUSES))
    finally:
        await bus.close()
    connection = await world.rig.databases[world.rig.primary].connect(DATABASE)
    try:
        for job in await connection.fetch(ALL_JOBS):
            headers = f'{{"Nats-Msg-Id": "again-{job["id"]}", "x-job-id": "{job["id"]}"}}'
            await connection.execute(
                REQUEUE.text, f"again-{job['id']}", 0, job["id"], f"job.{job['kind']}",
                headers, job["payload"],
            )  # fmt: skip
    finally:
        await connection.close()
    await world.load.more(STEADY)


async def die_at_each_point(world: World) -> None:
    """Layers and edges, one point after the other."""
    await dies_at(EDGES[0], *faults.POINTS_OF_EDGE)(world)
    await dies_at(LAYERS[0], *faults.POINTS)(world)


def points() -> list[Fault]:
    """A fault for each point in the code, by itself."""
    return [
        Fault(f"{role}-{point}", f"kill -9 of {article} process exactly there", point,
              dies_at(name, point), smoke=False, part=True)
        for role, article, name, known in (
            ("edge", "an edge", EDGES[0], faults.POINTS_OF_EDGE),
            ("handlers", "a handlers", LAYERS[0], faults.POINTS),
        )
        for point in known
    ]  # fmt: skip


FAULTS: tuple[Fault, ...] = (
    Fault("edges-killed", "kill -9 of each edge", "any time", kill_edges),
    Fault("handlers-killed", "kill -9 of each handlers process", "any time", kill_layers),
    Fault("each-point", "kill -9 at every fault point of edge and layers", EACH,
          die_at_each_point),
    Fault("rolling-restart", "SIGTERM to each layer, edge and bus", "one by one",
          restart_one_by_one, smoke=False),
    Fault("bus-leader-killed", "kill -9 of the leader of EVENTS", "any time", kill_stream_leader),
    Fault("bus-each-killed", "kill -9 of each nats-server", "one by one", kill_every_bus,
          smoke=False),
    Fault("bus-quorum-lost", "two of three nats-servers away", f"{AWAY_S:.0f} s", lose_the_quorum),
    Fault("bus-power-lost", "power loss of all three nats-servers", "at once",
          lose_power_of_all_buses, disk.missing),
    Fault("bus-power-and-pause", "power loss of one nats-server, another asleep", "at once",
          lose_power_and_pause, disk.missing, smoke=False),
    Fault("bus-asleep", "SIGSTOP of the leader of EVENTS", f"{ASLEEP_S:.0f} s",
          sleep_stream_leader),
    Fault("bus-parted", "the leader of EVENTS cut off from the others", f"{ASLEEP_S:.0f} s",
          part_stream_leader),
    Fault("bus-disk-full", "no room on the disk of the leader", f"{AWAY_S:.0f} s", fill_a_bus,
          disk.missing, smoke=False),
    Fault("bus-sync-fails", "fsync of the leader fails with EIO", f"{ERRORS_S:.0f} s",
          fail_syncs_of_a_bus, strace),
    Fault("database-killed", "kill -9 of the primary", "any time", kill_primary),
    Fault("database-fails-over", "the primary is lost, the standby promoted", "any time",
          fail_over),
    Fault("standby-killed", "the standby away", f"{AWAY_S:.0f} s", kill_standby),
    Fault("database-power-lost", "power loss of the primary", "any time", lose_power_of_primary,
          disk.missing, smoke=False),
    Fault("everything-power-lost", "power loss of all buses and databases", "at once",
          lose_power_of_all, disk.missing),
    Fault("all-killed", "kill -9 of any process during a run of 200 steps",
          f"every {long_run.KILL_EVERY_S:.0f} s", long_run.outlives_everybody, smoke=False),
    Fault("cache-lost", "Valkey killed, its files removed", "any time", forget_the_cache),
    Fault("handlers-asleep", "SIGSTOP of a handlers process", f"{ASLEEP_S:.0f} s", sleep_layer),
    Fault("everything-twice", "each event and each job delivered again", "any time",
          deliver_everything_twice),
    *points(),
)  # fmt: skip


def named(name: str) -> Fault | None:
    """The fault of that name."""
    return next((fault for fault in FAULTS if fault.name == name), None)
