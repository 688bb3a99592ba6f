"""One installation in the foreground: from the lock to the last process gone.

    lock -> end orphans -> servers -> migrate, apply -> handlers, edge -> wait -> stop in order
                       +> models, side by side with all of this

A signal at any of these moments leads to the same ordered stop; a second one ends everything at
once. Whatever happens, the state file always tells the truth or is not there.
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from bus.credentials import ensure_signing_keys
from bus.sealing import ensure_master_key
from deploy.embedded import (
    admin_key,
    certificates,
    orphans,
    platform_processes,
    refusal,
    servers,
)
from deploy.embedded.certificates import Secured
from deploy.embedded.folder import DataFolder, write_private
from deploy.embedded.handing_out import hand_out
from deploy.embedded.lock import Lock
from deploy.embedded.platform_processes import EDGE_PORT, Platform
from deploy.embedded.ports import LOOPBACK, SERVICES, Ports
from deploy.embedded.progress import Progress
from deploy.embedded.supervisor import Supervisor

PORT_MAX = 65_535
BESIDE = ("models",)  # loads for seconds, and nothing needs it to start
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Installation:
    """Runs servers and platform until it is told to stop; no platform means servers only."""

    def __init__(
        self,
        folder: DataFolder,
        progress: Progress,
        *,
        external: Mapping[str, str],
        platform: Platform | None,
        tls: bool = False,
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._external = dict(external)
        self._platform = platform
        self._with_tls = tls
        self._tls: Secured | None = None
        self._supervisor = Supervisor(folder, progress, self._write_state)
        self._addresses: dict[str, str | None] = {}
        self._started = False
        self._stop = asyncio.Event()

    async def run(self) -> int:
        """Start, wait for a signal, stop; returns the exit status.

        Raises:
            Refused: It cannot start (exit 2), already runs (3), or a process failed to start (1).
        """
        self._folder.make()
        with Lock(self._folder.lock) as lock:
            self._folder.state.unlink(missing_ok=True)  # a crash may have left one
            loop = asyncio.get_running_loop()
            for number in STOP_SIGNALS:
                loop.add_signal_handler(number, self._told_to_stop)
            self._tls = certificates.secured(self._folder) if self._with_tls else None
            starting = asyncio.create_task(self._start(lock))
            renewing = asyncio.create_task(self._keep_renewed())
            try:
                await self._until_stopped(starting)
            finally:
                for task in (starting, renewing):
                    task.cancel()
                await asyncio.gather(starting, renewing, return_exceptions=True)
                self._progress.settle()
                self._started = False
                await self._supervisor.stop()
                self._folder.forget_run()
        self._progress.tell("stopped", "Stopped.")
        return 0

    async def _until_stopped(self, starting: asyncio.Task[None]) -> None:
        stop = asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, stop}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stop
        else:
            stop.cancel()

    async def _keep_renewed(self) -> None:
        """Replace certificates before they end, for as long as this runs."""
        while self._tls is not None:
            await asyncio.sleep(certificates.RENEW_EVERY_S)
            try:
                if names := self._tls.renew():
                    self._progress.note("certificates", "renewed", ", ".join(names))
            except OSError as failed:
                self._progress.note("certificates", "not renewed", str(failed))

    def _told_to_stop(self) -> None:
        if self._stop.is_set():
            self._supervisor.kill()
        self._progress.settle()
        self._progress.tell("stopping", "Stopping; once more ends everything at once.")
        self._stop.set()

    async def _start(self, lock: Lock) -> None:
        started = time.monotonic()
        for name in await orphans.end_all(self._folder.pids):
            self._progress.note(name, "ended", "left over from a crash")
        ports = Ports(self._folder.ports, lambda name, text: self._progress.note(name, "", text))
        plan = servers.plan(
            self._folder, ports, set(SERVICES) - set(self._external),
            durable=True, fixed=True, tls=self._tls,
        )  # fmt: skip
        urls = plan.urls | self._external
        self._addresses = {name: servers.without_credentials(url) for name, url in urls.items()}
        lock.tell(str(self._addresses["nats"]))
        loading = asyncio.create_task(
            self._supervisor.start(spec for spec in plan.specs if spec.role in BESIDE)
        )
        try:
            await self._supervisor.start(spec for spec in plan.specs if spec.role not in BESIDE)
            key = token = None
            if self._platform is not None:
                key = await self._start_platform(self._platform, urls, ports, lock)
                edge_port = int(str(self._addresses["edge"]).rpartition(":")[2])
                trust = self._tls.trust if self._tls else None
                token = await admin_key.unused_setup_token(self._folder, edge_port, trust)
            await loading
        finally:
            loading.cancel()
            await asyncio.gather(loading, return_exceptions=True)
        self._ready(time.monotonic() - started, key, token)

    async def _start_platform(
        self, platform: Platform, urls: Mapping[str, str], ports: Ports, lock: Lock
    ) -> str | None:
        """Bring database and bus up to date and start the platform; returns a fresh admin key."""
        edge_port = ports.take("edge", usual_edge_port())
        scheme, host = "https" if self._tls else "http", certificates.edge_host()
        shown = LOOPBACK if host in certificates.EVERYWHERE else host
        self._addresses["edge"] = f"{scheme}://{shown}:{edge_port}"
        lock.tell(str(self._addresses["edge"]))
        admin, key = admin_key.ensure(self._folder)
        first, _ = admin_key.setup_token(self._folder)
        environment = platform_processes.surroundings(
            self._folder, urls, edge_port, admin | first, self._tls
        )
        ensure_signing_keys(self._folder.secrets)  # before two processes would make them
        ensure_master_key(self._folder.secrets)
        hand_out(self._folder, own_bus="nats" not in self._external)
        async with asyncio.TaskGroup() as preparing:
            for program in platform.first:
                once = platform_processes.once(program, environment, self._folder)
                preparing.create_task(self._supervisor.run(once))
                if program.renews is not None:
                    self._supervisor.renew_with(program.renews, once)
        specs = [
            spec
            for program in platform.programs
            for spec in platform_processes.specs(program, environment, ports, edge_port, self._tls)
        ]
        await self._supervisor.start(specs)
        return key

    def _ready(self, seconds: float, key: str | None, token: str | None) -> None:
        self._started = True
        self._supervisor.supervise()
        self._write_state()
        self._progress.settle()
        where = self._addresses.get("edge") or self._addresses["nats"]
        facts: dict[str, Any] = {"addresses": self._addresses, "data": str(self._folder.root)}
        text = f"Story Portal is ready at {where} ({seconds:.1f} s). Ctrl-C stops it."
        self._progress.tell("ready", text, seconds=round(seconds, 3), **facts)
        if key is not None:
            kept = str(self._folder.admin_key)
            self._progress.tell(
                "admin-key", f"Admin key, shown once: {key}\nKept in {kept}", file=kept
            )
        if token is not None:
            text = (
                f"Set-up token, until the first user is created: {token}\nUse it at {where}/sign-in"
            )
            self._progress.tell("setup-token", text)

    def _write_state(self) -> None:
        """Tell `status` what is; a full disk must not end the supervision."""
        with contextlib.suppress(OSError):
            write_private(self._folder.state, json.dumps(self._state()))

    def _state(self) -> dict[str, Any]:
        processes = [
            {
                "name": child.spec.name,
                "role": child.spec.role,
                "pid": child.pid,
                "state": child.state,
                "address": child.spec.address,
                "healthy": child.healthy,
                "restarts": child.restarts,
                "stops_at": child.spec.stop_signal.name,
            }
            for child in self._supervisor.children
        ]
        return {
            "pid": os.getpid(),
            "ready": self._started and all(process["healthy"] for process in processes),
            "processes": processes,
            "addresses": {name: self._addresses.get(name) for name in ("edge", *SERVICES)},
            "admin_key_file": self._folder.made_admin_key,
            "certificates": str(self._tls.folder.root) if self._tls else None,
            "data": str(self._folder.root),
        }


def usual_edge_port() -> int:
    """The port that the user asked for, or the default.

    Raises:
        Refused: It is not a port (ERR_706).
    """
    asked = os.environ.get("PORTAL_EDGE_PORT") or str(EDGE_PORT)
    if not asked.isdecimal() or not 0 < int(asked) <= PORT_MAX:
        raise refusal.bad_argument(f"PORTAL_EDGE_PORT is not a port: {asked}")
    return int(asked)


def chosen_platform(only: str | None, handlers: int) -> Platform | None:
    """What runs besides the servers; None for nothing.

    Raises:
        Refused: The choice makes no sense (ERR_706).
    """
    if only not in (None, "servers"):
        raise refusal.bad_argument(f"--only knows 'servers', not '{only}'")
    if handlers < 1:
        raise refusal.bad_argument("at least one handlers process is needed")
    return None if only == "servers" else platform_processes.platform(handlers)
