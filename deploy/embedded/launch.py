"""Starting a child process that cannot outlive us.

Each child leads its own session, so a Ctrl-C at the terminal reaches the supervisor only, and
asks the kernel (Linux) for a signal when the thread that started it ends: a `kill -9` of the
supervisor ends the children too. Start them from a thread that lives as long as they should,
which the event loop's main thread does. Output goes straight into an append-only file, so no
child ever waits for us to read.
"""

import asyncio
import contextlib
import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from deploy.embedded.refusal import EXIT_FAILED

PR_SET_PDEATHSIG = 1
TAIL_BYTES = 4096
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


async def launch(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str],
    folder: Path | None = None,
    user: str | None = None,
    orphan_signal: signal.Signals = signal.SIGKILL,
) -> asyncio.subprocess.Process:
    """Start a program; `environment` is added to ours, `orphan_signal` is sent if we die.

    Raises:
        OSError: It cannot be run.
    """
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**inherited(), **environment},
            **dropped_to(user),
            start_new_session=True,
            preexec_fn=end_with_parent(orphan_signal),
        )


def inherited() -> dict[str, str]:
    """Our environment without the credential of the one who started us."""
    return {name: value for name, value in os.environ.items() if name != "PORTAL_API_KEY"}


def dropped_to(user: str | None) -> dict[str, Any]:
    """The arguments that make root's child run as `user` and with no group but that user's."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def end_with_parent(orphan_signal: signal.Signals) -> Callable[[], None]:
    """What the child does before its program: ask for a signal when its parent ends."""
    parent = os.getpid()

    def ask() -> None:
        if LIBC is not None:
            LIBC.prctl(PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(EXIT_FAILED)

    return ask


async def run_to_end(
    command: Sequence[str],
    log: Path,
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    folder: Path | None = None,
    user: str | None = None,
) -> int:
    """Run a program to its end and return its exit status; it is killed if that takes too long.

    Raises:
        TimeoutError: It did not end in time.
    """
    process = await launch(command, log, environment=environment, folder=folder, user=user)
    try:
        return await asyncio.wait_for(process.wait(), timeout_s)
    finally:
        kill_group(process.pid)
        await process.wait()


def kill_group(pid: int) -> None:
    """End a child and whatever it started in its group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def tail(log: Path, lines: int) -> list[str]:
    """The last lines of a log, of its last 4 KB."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except OSError:
        return []
