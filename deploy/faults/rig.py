"""The rig: a small cluster on loopback, run by the supervisor that runs every installation.

    clients ─► edge-1, edge-2 ─► nats-1 ═ nats-2 ═ nats-3 ─► handlers-1, handlers-2 (all layers)
                     └─► valkey                                        └─► postgres-1 ═ postgres-2

What dies comes back by the supervisor, as in an installation; what is put `down` stays down until
it is brought `up`. Everything is in one folder that is removed at the end, and nothing outlives
the process: not at an error, not at Ctrl-C, not at its own kill -9.
"""

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client as Connection

from bus.credentials import ensure_signing_keys, write_secret
from bus.sealing import ensure_master_key
from deploy.embedded import (
    admin_key,
    launch,
    models,
    nats_server,
    platform_processes,
    valkey_server,
)
from deploy.embedded.child import Child
from deploy.embedded.folder import DataFolder
from deploy.embedded.handing_out import hand_out
from deploy.embedded.nats_server import Member
from deploy.embedded.platform_processes import Program
from deploy.embedded.ports import LOOPBACK, Ports
from deploy.embedded.progress import Quiet
from deploy.embedded.spec import Spec, module
from deploy.embedded.supervisor import Supervisor
from deploy.faults import disk, postgres
from deploy.faults.disk import Disk
from deploy.faults.links import Link
from deploy.faults.postgres import Database

BUSES = ("nats-1", "nats-2", "nats-3")
DATABASES = ("postgres-1", "postgres-2")
LAYERS = ("handlers-1", "handlers-2")
EDGES = ("edge-1", "edge-2")
STEP_S = 0.1
HEALTHY_S_MAX = 120.0
FAULT = "PORTAL_FAULT"


class Rig:
    """The running processes, by name."""

    def __init__(self, root: Path, *, with_disks: bool) -> None:
        self.folder = DataFolder(root)
        self.supervisor = Supervisor(self.folder, Quiet())
        self.databases: dict[str, Database] = {}
        self.primary = DATABASES[0]
        self.disks: dict[str, Disk] = {}
        self.edges: dict[str, str] = {}
        self.key = ""
        self._with_disks = with_disks
        self._ports = Ports(None, Quiet().tell)
        self._specs: dict[str, Spec] = {}
        self._environments: dict[str, dict[str, str]] = {}
        self._models_port = self._ports.take("ollama", 0)
        self._nats_ports: dict[str, int] = {}
        self._links: dict[tuple[str, str], Link] = {}

    async def start(self) -> None:
        """Start everything; returns when all is ready."""
        self.folder.make()
        for name in (*BUSES, *DATABASES) if self._with_disks else ():
            self.disks[name] = Disk(self.folder.root / f"{name}.ext4", self.folder.root / name)
            self.disks[name].make()
        urls = await self._start_servers()
        await self._start_platform(urls)
        await asyncio.to_thread(os.sync)  # configurations do not get lost with the power

    async def end(self) -> None:
        """End everything now; what it kept is thrown away with the folder."""
        self.supervisor.kill()
        await self.supervisor.stop()
        for link in self._links.values():
            link.close()
        for mounted in self.disks.values():
            with contextlib.suppress(OSError):
                mounted.unmount()
        self.folder.forget_run()

    async def _start_servers(self) -> dict[str, str]:
        await self._add_buses()
        for name in DATABASES:
            self.databases[name] = Database(self.folder, name, self._ports.take(name, 0))
        first, second = self.databases.values()
        second.source = first
        valkey = self._ports.take("redis", 0)
        self._add(valkey_server.spec(self.folder, valkey, durable=True))
        self._add(first.spec())
        await self.up(*BUSES, "valkey", first.name)
        self._add(second.spec())
        await self.up(second.name)
        await first.require_standby()
        return {
            "nats": ",".join(nats_server.url(port) for port in self._nats_ports.values()),
            "postgres": first.url(),
            "redis": valkey_server.url(self.folder, valkey),
            "ollama": models.url(self._models_port),
        }

    async def _add_buses(self) -> None:
        """Servers that meet over links, and tell nobody of a way around them."""
        routes = {name: self._ports.take(f"{name}.route", 0) for name in BUSES}
        nowhere = self._ports.take("nowhere", 0)
        for name, other in itertools.permutations(BUSES, 2):
            port = self._ports.take(f"{name}-{other}", 0)
            self._links[name, other] = Link(port, routes[other])
            await self._links[name, other].open()
        for name in BUSES:
            port, monitor = self._ports.take(name, 0), self._ports.take(f"{name}.monitor", 0)
            to_others = tuple(link.port for (one, _), link in self._links.items() if one == name)
            member = Member(name, routes[name], to_others, advertised=nowhere)
            self._nats_ports[name] = port
            self._add(nats_server.spec(self.folder, port, monitor, durable=True, member=member))

    async def _start_platform(self, urls: dict[str, str]) -> None:
        ports = {name: self._ports.take(name, 0) for name in EDGES}
        admin, _ = admin_key.ensure(self.folder)
        self.key = self.folder.admin_key.read_text().strip()
        environment = platform_processes.surroundings(self.folder, urls, ports[EDGES[0]], admin)
        environment |= {"PORTAL_STREAMS_REPLICAS": "3", "PORTAL_EDGE_PROCESSES": str(len(EDGES))}
        self._name_both()
        ensure_signing_keys(self.folder.secrets)
        ensure_master_key(self.folder.secrets)
        hand_out(self.folder, own_bus=True)
        async with asyncio.TaskGroup() as preparing:
            for program in platform_processes.platform(1).first:
                once = platform_processes.once(program, environment, self.folder)
                preparing.create_task(self.supervisor.run(once))
        for name in EDGES:
            self.edges[name] = f"http://{LOOPBACK}:{ports[name]}"
            own = environment | {"PORTAL_EDGE_PORT": str(ports[name])}
            edge = Program("edge", module("edge"))
            self._add(platform_processes.spec(name, edge, own, self._ports, ports[name], None))
        for name in LAYERS:
            layer = Program("handlers", module("handlers"))
            self._add(platform_processes.spec(name, layer, environment, self._ports, 0, None))
        await self.up(*LAYERS, *EDGES)

    def _name_both(self) -> None:
        """The platform's address of the database names both servers; migrations know the first."""
        file = self.folder.secrets / "portal_postgres_url"
        write_secret(file, postgres.both(file.read_text(), *self.databases.values()).encode())

    def _add(self, spec: Spec) -> None:
        """Keep how a process is run; its environment may be changed between two starts."""
        self._environments[spec.name] = dict(spec.environment)
        self._specs[spec.name] = replace(spec, environment=self._environments[spec.name])

    async def up(self, *names: str) -> None:
        """Start these; returns when they are ready."""
        await self.supervisor.start(self._specs[name] for name in names)

    async def down(self, *names: str) -> None:
        """Kill these, and keep them from coming back."""
        for name in names:
            child = self.child(name)
            child.kill()
            await child.stop()
            self.supervisor.children.remove(child)

    def child(self, name: str) -> Child:
        """The process of that name."""
        return next(one for one in self.supervisor.children if one.spec.name == name)

    def pid(self, name: str) -> int:
        """Its process id; an error if it is not running at this moment."""
        pid = self.child(name).pid
        if pid is None:
            raise ProcessLookupError(name)
        return pid

    def kill(self, name: str) -> None:
        """End it as if by kill -9."""
        launch.kill_group(self.pid(name))

    @asynccontextmanager
    async def paused(self, *names: str) -> AsyncIterator[None]:
        """SIGSTOP while the block runs: to the others it is as if the machine slept."""
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def parted(self, bus: str) -> Iterator[None]:
        """One server of the bus and the others hear nothing of each other while the block runs."""
        with contextlib.ExitStack() as cut:
            for ends, link in self._links.items():
                if bus in ends:
                    cut.enter_context(link.cut())
            yield

    async def arm(self, name: str, point: str) -> int:
        """Start a process anew, to die at a fault point; returns its id."""
        self.arm_next(name, point)
        before = self.pid(name)
        self.kill(name)
        return await self.started(name, before)

    def arm_next(self, name: str, point: str | None) -> None:
        """Choose where the process that is started after this one dies; None is nowhere."""
        self._environments[name].pop(FAULT, None)
        if point is not None:
            self._environments[name][FAULT] = point

    async def started(self, name: str, before: int) -> int:
        """Wait until another process has been started; returns its id."""
        await self.until(lambda: self.child(name).pid not in (None, before), f"{name} starts")
        return self.pid(name)

    async def died(self, name: str, pid: int, timeout_s: float) -> bool:
        """Whether that process dies in time."""
        try:
            await self.until(lambda: self.child(name).pid != pid, f"{name} dies", timeout_s)
        except TimeoutError:
            return False
        return True

    async def until(
        self, holds: Callable[[], bool], what: str, timeout_s: float = HEALTHY_S_MAX
    ) -> None:
        """Wait until it holds.

        Raises:
            TimeoutError: It does not in time.
        """
        until = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > until:
                raise TimeoutError(f"{what}: not within {timeout_s:.0f} s")
            await asyncio.sleep(STEP_S)

    async def healthy(self) -> None:
        """Wait until every process is ready."""
        children = self.supervisor.children
        for child in children:
            await self.until(lambda child=child: child.healthy, f"{child.spec.name} is ready")  # type: ignore[misc]

    async def fail_over(self) -> None:
        """End the primary for good and promote the standby."""
        old, new = self.primary, self.standby
        await self.down(old)
        await self.databases[new].promote()
        self.primary = new

    async def rejoin(self) -> None:
        """Bring the old primary back as the standby of the new one."""
        old, new = self.databases[self.standby], self.databases[self.primary]
        await asyncio.to_thread(old.follow, new)
        await self.up(old.name)
        await new.require_standby()

    @property
    def standby(self) -> str:
        """The database that is not the primary."""
        return next(name for name in DATABASES if name != self.primary)

    async def bus(self, role: str) -> Connection:
        """A connection to the bus as this role.

        Raises:
            TimeoutError: No server of it answers.
        """
        async with asyncio.timeout(HEALTHY_S_MAX):
            return await nats.connect(
                [nats_server.url(port) for port in self._nats_ports.values()],
                nkeys_seed_str=(self.folder.nats_seeds / f"{role}.seed").read_text(),
                inbox_prefix=f"_INBOX.{role}".encode(), max_reconnect_attempts=-1,
                reconnect_time_wait=0.2, ping_interval=3, max_outstanding_pings=2, error_cb=quiet,
            )  # fmt: skip

    async def with_models(self) -> None:
        """Start the model server, if it does not run."""
        if "models" not in self._specs:
            self._add(models.spec(self._models_port))
            await self.up("models")

    async def lose_power(self, *names: str) -> None:
        """Servers lose their power together, and come back on the disks that are left."""
        pids = [self.pid(name) for name in names]
        for pid in pids:
            os.killpg(pid, signal.SIGSTOP)
        for name in names:
            self.disks[name].lose_power()
        await self.down(*names)
        for name in names:
            await asyncio.to_thread(self.disks[name].unmount)
            await asyncio.to_thread(self.disks[name].mount)
        await self.up(*names)


async def quiet(_: Exception) -> None:
    """Connections are cut here on purpose."""


@asynccontextmanager
async def running(say: Callable[[str], Any]) -> AsyncIterator[Rig]:
    """A rig, ended with all that it started when the block is left."""
    reason = disk.missing()
    if reason is None:
        disk.own_mounts()
    root = Path(tempfile.mkdtemp(prefix="portal-faults-"))
    rig = Rig(root, with_disks=reason is None)
    say(f"starting 3 nats-servers, 2 databases, 2 edges, 2 of each layer in {root}")
    try:
        await ended_by_signal(rig.start())
        yield rig
    finally:
        await rig.end()
        shutil.rmtree(root, ignore_errors=True)


async def ended_by_signal(work: Awaitable[None]) -> None:
    """Let SIGTERM and SIGHUP end us as Ctrl-C does, so that everything is put away."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await work
