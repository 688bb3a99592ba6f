"""Starts processes together, keeps them, and stops them in order.

It knows specs and nothing of what they are for. Stopping goes by role, the ones that use others
first: edge, handlers, models, doors, valkey, nats, postgres; roles it does not know stop first.
"""

import asyncio
import time
from collections.abc import Callable, Iterable

from deploy.embedded import refusal
from deploy.embedded.child import TAIL_LINES, Child
from deploy.embedded.folder import DataFolder
from deploy.embedded.launch import run_to_end, tail
from deploy.embedded.progress import Progress
from deploy.embedded.spec import STOP_ORDER, Once, Spec


class Supervisor:
    """The processes of one data folder. `changed` hears of every change of any of them."""

    def __init__(
        self, folder: DataFolder, progress: Progress, changed: Callable[[], None] = lambda: None
    ) -> None:
        self.children: list[Child] = []
        self._folder = folder
        self._progress = progress
        self._changed = changed
        self._up = False
        self._renewals: dict[str, Once] = {}
        self._renewing: set[asyncio.Task[None]] = set()

    async def start(self, specs: Iterable[Spec]) -> None:
        """Start all of them side by side; returns when all are ready and provisioned.

        Raises:
            Refused: One of them did not start; the others go on until `stop`.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for spec in specs:
                    group.create_task(self._start_one(spec))
        except* refusal.Refused as refused:
            raise refused.exceptions[0] from None

    async def run(self, once: Once) -> None:
        """Run a program to its end.

        Raises:
            Refused: It failed or took too long (ERR_705).
        """
        started = time.monotonic()
        self._progress.note(once.name, "starting", "")
        log = self._folder.log(once.name)
        try:
            status = await run_to_end(
                once.command, log, environment=once.environment,
                timeout_s=once.timeout_s, folder=once.folder,
            )  # fmt: skip
        except TimeoutError:
            raise refusal.not_started(once.name, f"{once.timeout_s:.0f} s passed", log) from None
        if status != 0:
            reason = "\n  ".join([f"it ended with status {status}", *tail(log, TAIL_LINES)])
            raise refusal.not_started(once.name, reason, log)
        self._progress.note(once.name, "done", "", time.monotonic() - started)

    async def stop(self) -> None:
        """Stop everything in order; returns when nothing is left."""
        self._up = False
        for task in self._renewing:
            task.cancel()
        await asyncio.gather(*self._renewing, return_exceptions=True)
        roles = {child.spec.role for child in self.children}
        for role in sorted(roles, key=stop_rank):
            same = [child for child in self.children if child.spec.role == role]
            await asyncio.gather(*(child.stop() for child in same))
            for child in same:
                self._progress.note(child.spec.name, "stopped", "")

    def kill(self) -> None:
        """End everything now; `stop` then finds nothing to wait for."""
        for child in self.children:
            child.kill()

    def renew_with(self, role: str, once: Once) -> None:
        """Run this program whenever a process of this role is ready again after its end."""
        self._renewals[role] = once

    def supervise(self) -> None:
        """From here on tell people about every restart."""
        self._up = True

    async def _start_one(self, spec: Spec) -> None:
        started = time.monotonic()

        def say(text: str) -> None:
            self._progress.note(spec.name, "starting", text)

        say("")
        await spec.prepare(say)
        child = Child(spec, self._folder, self._child_changed)
        self.children.append(child)
        await child.start()
        await spec.provision(say)
        self._progress.note(spec.name, "ready", spec.address, time.monotonic() - started)

    def _child_changed(self, child: Child) -> None:
        self._changed()
        if self._up:
            text = child.spec.address if child.healthy else child.problem
            self._progress.note(child.spec.name, child.state, text)
            if child.healthy and child.restarts and child.spec.role in self._renewals:
                task = asyncio.create_task(self._renew(self._renewals[child.spec.role]))
                self._renewing.add(task)
                task.add_done_callback(self._renewing.discard)

    async def _renew(self, once: Once) -> None:
        try:
            await self.run(once)
        except refusal.Refused as refused:
            self._progress.note(once.name, "failed", str(refused))


def stop_rank(role: str) -> int:
    """Its place in the order of stopping."""
    return STOP_ORDER.index(role) if role in STOP_ORDER else -1
