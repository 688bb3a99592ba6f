"""One supervised process: kept running until it is told to stop.

    starting -> ready <-> unhealthy -> (ended) restarting -> starting ...      stopped

An end is answered by a new start after a pause that doubles from 0.2 s to 5 s and begins anew
after 30 s of health. A process that runs but does not answer `alive` for a minute is killed, and
so restarted; one that is only not `ready` is left alone and shown.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable

from bus.tls import stamp
from deploy.embedded import logs, orphans, refusal
from deploy.embedded.folder import DataFolder
from deploy.embedded.launch import kill_group, launch, tail
from deploy.embedded.spec import NotReady, Probe, Spec

BACKOFF_S_MIN = 0.2
BACKOFF_S_MAX = 5.0
HEALTHY_S_FOR_RESET = 30.0
PROBE_EVERY_S_STARTING = 0.05
PROBE_EVERY_S = 2.0
UNANSWERED_S_MAX = 60.0
EARLY_ENDS_MAX = 3
TAIL_LINES = 5


class Child:
    """Runs one spec. `changed` is called after each change of what can be seen of it."""

    def __init__(self, spec: Spec, folder: DataFolder, changed: Callable[["Child"], None]) -> None:
        self.spec = spec
        self.state = "stopped"
        self.healthy = False
        self.pid: int | None = None
        self.restarts = 0
        self.problem = "it never answered"
        self._folder = folder
        self._changed = changed
        self._stopping = asyncio.Event()
        self._usable = asyncio.Event()
        self._decided = asyncio.Event()
        self._wake = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._ready_at: float | None = None
        self._alive_at = 0.0
        self._files: list[object] = []

    async def start(self) -> None:
        """Start it and return when it is ready for the first time.

        Raises:
            Refused: It ended three times, or was not ready in its time (ERR_705).
        """
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.spec.name}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.spec.start_s_max):
                await self._decided.wait()
        if not self._usable.is_set():
            log = self._folder.log(self.spec.name)
            reason = "\n  ".join([self.problem, *tail(log, TAIL_LINES)])
            raise refusal.not_started(self.spec.name, reason, log)

    async def stop(self) -> None:
        """Ask it to end, and kill it after its grace; returns when it is gone."""
        self._stopping.set()
        self._wake.set()
        if self._keeper is not None:
            await self._keeper

    def kill(self) -> None:
        """End it now; only for somebody who will not wait."""
        self._stopping.set()
        self._wake.set()
        if self.pid is not None:
            kill_group(self.pid)

    async def _keep(self) -> None:
        backoff_s = BACKOFF_S_MIN
        while not self._stopping.is_set():
            healthy_s = await self._live_once()
            if self._stopping.is_set():
                break
            if healthy_s >= HEALTHY_S_FOR_RESET:
                backoff_s = BACKOFF_S_MIN
            if not self._usable.is_set() and self.restarts + 1 >= EARLY_ENDS_MAX:
                self._decided.set()
            self._show("restarting", healthy=False)
            self._wake.clear()
            await self._pause(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_S_MAX)
            self.restarts += 1
        self._show("stopped", healthy=False)

    async def _live_once(self) -> float:
        """From one start to its end; returns for how many seconds it was ready."""
        self._ready_at = None
        try:
            process = await self._spawn()
        except OSError as failed:
            self.problem = f"{self.spec.command[0]}: {failed.strerror}"
            return 0.0
        ended = asyncio.create_task(process.wait())
        ended.add_done_callback(lambda _: self._wake.set())
        try:
            while not ended.done() and not self._stopping.is_set():
                await self._look()
                await self._pause(PROBE_EVERY_S if self._ready_at else PROBE_EVERY_S_STARTING)
        finally:
            await self._end(process, ended)
        return time.monotonic() - self._ready_at if self._ready_at else 0.0

    async def _spawn(self) -> asyncio.subprocess.Process:
        log = self._folder.log(self.spec.name)
        logs.rotate(log)
        self._files = self._look_at_files()
        process = await launch(
            self.spec.command,
            log,
            environment=self.spec.environment,
            folder=self.spec.folder,
            user=self.spec.user,
            orphan_signal=self.spec.orphan_signal,
        )
        self.pid = process.pid
        orphans.remember(self._folder.pids, self.spec.name, process.pid)
        self._alive_at = time.monotonic()
        self._show("starting", healthy=False)
        return process

    async def _look(self) -> None:
        """Probe it once, and kill it if it has not answered for too long."""
        logs.rotate(self._folder.log(self.spec.name))
        self._tell_of_changes()
        ready = await self._passes(self.spec.ready)
        if ready or await self._passes(self.spec.alive or self.spec.ready):
            self._alive_at = time.monotonic()
        if ready and self._ready_at is None:
            self._ready_at = time.monotonic()
        if ready and not self.healthy:
            self._usable.set()
            self._decided.set()
            self._show("ready", healthy=True)
        elif not ready and self.healthy:
            self._show("unhealthy", healthy=False)
        limit_s = UNANSWERED_S_MAX if self._ready_at else self.spec.start_s_max
        if time.monotonic() - self._alive_at > limit_s and self.pid is not None:
            kill_group(self.pid)

    def _tell_of_changes(self) -> None:
        """Have it read its watched files again if one has changed."""
        seen = self._look_at_files()
        if seen != self._files and self.healthy and self.pid is not None:
            self._files = seen
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, self.spec.reload_signal)

    def _look_at_files(self) -> list[object]:
        return [stamp(file) for file in self.spec.watched]

    async def _passes(self, probe: Probe) -> bool:
        try:
            await probe()
        except (NotReady, OSError, TimeoutError, EOFError, ValueError) as failed:
            self.problem = str(failed) or type(failed).__name__
            return False
        return True

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Task[int]) -> None:
        """See it end: by itself, by its stop signal, or killed after its grace."""
        if not ended.done():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.spec.stop_signal)
            await asyncio.wait({ended}, timeout=self.spec.grace_s)
        kill_group(process.pid)
        status = await ended
        self.problem = f"it ended with status {status}"
        self.pid = None
        (self._folder.pids / self.spec.name).unlink(missing_ok=True)

    async def _pause(self, seconds: float) -> None:
        """Wait, but not longer than until it ends or is to be stopped."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _show(self, state: str, *, healthy: bool) -> None:
        self.state, self.healthy = state, healthy
        self._changed(self)
