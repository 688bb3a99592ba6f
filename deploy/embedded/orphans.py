"""Which process is meant: a pid together with the moment at which that process started.

A pid alone names whoever has it now. Each child's pair is kept in `run/pids/<name>`, so the next
start after a crash of the supervisor ends exactly the processes that it left, and nobody else's.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.folder import write_private

END_S_MAX = 15.0
STEP_S = 0.05
STATE_FIELD, START_FIELD = 0, 19  # in /proc/<pid>/stat, counted after the command's name
PS_S_MAX = 5.0


@dataclass(frozen=True)
class Running:
    """One process; `started` is opaque, equal only for the same process."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Whether that process, not just its number, is still there."""
        return started_at(self.pid) == self.started

    def send(self, signal_number: signal.Signals, *, to_group: bool = False) -> None:
        """Send a signal if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            if self.alive():
                (os.killpg if to_group else os.kill)(self.pid, signal_number)


def started_at(pid: int) -> str | None:
    """When the process of that pid started; None if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self").exists() else started_by_ps(pid)
    return None if fields[STATE_FIELD] in "ZX" else fields[START_FIELD]


def started_by_ps(pid: int) -> str | None:
    """The same where there is no /proc."""
    command = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PS_S_MAX, check=False)
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def remember(folder: Path, name: str, pid: int) -> None:
    """Keep who the child of that name is; a full disk must not keep it from running."""
    with contextlib.suppress(OSError):
        write_private(folder / name, f"{pid} {started_at(pid)}")


def read(file: Path) -> Running | None:
    """Whom a pid file means; None if it is damaged or gone."""
    try:
        pid, _, started = file.read_text().partition(" ")
        return Running(int(pid), started)
    except (OSError, ValueError):
        return None


async def end_all(folder: Path) -> list[str]:
    """End what a crashed supervisor left; returns the names of those that still ran."""
    found = remembered(folder)
    left = {name: orphan for name, orphan in found.items() if orphan and orphan.alive()}
    await asyncio.gather(*(end(name, orphan) for name, orphan in left.items()))
    for name in found:
        (folder / name).unlink(missing_ok=True)
    return list(left)


def remembered(folder: Path) -> dict[str, Running | None]:
    """Every child that was not seen to end, by name."""
    return {file.name: read(file) for file in sorted(folder.glob("[!.]*"))}


async def end(name: str, orphan: Running) -> None:
    """Ask it to stop, as the supervisor would have; then insist."""
    orphan.send(signal.SIGINT if name.startswith("postgres") else signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(END_S_MAX):
            await gone(orphan)
    orphan.send(signal.SIGKILL, to_group=True)
    await gone(orphan)


async def gone(process: Running) -> None:
    """Wait until it has ended; it need not be our child."""
    while process.alive():  # noqa: ASYNC110 - nothing tells us of another's child
        await asyncio.sleep(STEP_S)
