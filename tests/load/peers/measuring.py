"""Each peer started, given the same load as our durable runs, and ended."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from deploy.embedded.stack import Servers
from tests.load import keepalive
from tests.load.keepalive import Doors, Measured
from tests.load.peers.installed import PROGRAMS, Peers
from tests.load.rows import Row, with_cpu
from tests.load.runs import SECONDS
from tests.servers import free_port

READY_S = 60.0
LOOK_S = 0.2
PLACE = "/Bench/run"


async def dbos(peers: Peers, at_once: int) -> Row:
    """On the Postgres of the platform: same wheel, same settings, same disk."""
    folder = peers.folder / "dbos"
    async with Servers(folder, durable=True, want={"postgres"}) as servers:
        postgres = int((folder / "postgres/data/postmaster.pid").read_text().split()[0])
        worker = await asyncio.create_subprocess_exec(
            peers.python, str(PROGRAMS / "dbos_runs.py"), servers.postgres_url,
            str(at_once), str(SECONDS),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, limit=2**24, env=own_environment(),
        )  # fmt: skip
        assert worker.stdin is not None
        assert worker.stdout is not None
        write, lines = worker.stdin.write, worker.stdout

        async def load() -> Measured:
            write(b"go\n")
            return Measured(**json.loads(await lines.readline()))

        try:
            await asyncio.wait_for(lines.readline(), READY_S)
            return await with_cpu({"dbos and starter": worker.pid, "postgres": postgres}, load)
        finally:
            worker.kill()
            await worker.wait()


async def restate(peers: Peers, at_once: int) -> Row:
    """Its server, and a service in Python beside it; started over HTTP."""
    ingress, admin, service = free_port(), free_port(), free_port()
    async with started(peers, ingress, admin, service) as pids:
        async with Doors("127.0.0.1", admin, "", 1) as doors:
            await doors.post("/deployments", {"uri": f"http://127.0.0.1:{service}"})
        request = keepalive.post(PLACE, "127.0.0.1", "", b"1")
        how = ("127.0.0.1", ingress, lambda _: request, at_once)
        await keepalive.load(*how, 1.0)  # the first call takes a second
        return await with_cpu(pids, lambda: keepalive.load(*how, SECONDS))


@asynccontextmanager
async def started(
    peers: Peers, ingress: int, admin: int, service: int
) -> AsyncIterator[dict[str, int]]:
    """Both processes, ready; gone at the end, with what the server has kept."""
    surroundings = own_environment() | {
        "RESTATE_BIND_IP": "127.0.0.1",
        "RESTATE_LISTEN_MODE": "tcp",
        "RESTATE_BIND_PORT": str(free_port()),
        "RESTATE_INGRESS__BIND_PORT": str(ingress),
        "RESTATE_ADMIN__BIND_PORT": str(admin),
        "RESTATE_ADMIN__DISABLE_WEB_UI": "true",
        "RESTATE_DISABLE_TELEMETRY": "true",
        "RESTATE_LOG_FILTER": "error,octocrab=off",  # it looks for newer versions of itself
    }
    kept = peers.folder / f"restate-{ingress}"
    commands = {
        "restate": [peers.restate, "--no-logo", "--node-name=bench", f"--base-dir={kept}"],
        "service": [peers.python, str(PROGRAMS / "restate_runs.py"), str(service)],
    }
    running = {
        name: subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL)
        for name, command in commands.items()
    }
    try:
        await asyncio.wait_for(ready(admin, ingress, service), READY_S)
        yield {name: process.pid for name, process in running.items()}
    finally:
        for process in running.values():
            process.kill()
        for process in running.values():
            await asyncio.to_thread(process.wait)


async def ready(admin: int, *ports: int) -> None:
    """Until the server says so and everybody listens."""
    for port in (admin, *ports):
        while not await listens(port):
            await asyncio.sleep(LOOK_S)
    while not await healthy(admin):
        await asyncio.sleep(LOOK_S)


async def listens(port: int) -> bool:
    """Whether somebody does."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def healthy(admin: int) -> bool:
    """Whether the server says that it is."""
    reader, writer = await asyncio.open_connection("127.0.0.1", admin)
    writer.write(keepalive.get("/health", "127.0.0.1"))
    try:
        return await keepalive.answer(reader)
    finally:
        writer.close()


def own_environment() -> dict[str, str]:
    """Ours without what would lead their Python to our code."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
