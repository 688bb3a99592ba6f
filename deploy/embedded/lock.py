"""One supervisor for one data folder: an exclusive lock that the kernel lets go of at any end.

The file says who holds it. It is removed at a proper stop; since another start may then already
wait on the removed file, a holder checks that the path still leads to what it locked.
"""

import contextlib
import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.embedded import refusal
from deploy.embedded.orphans import Running, started_at

TRIES = 10
STEP_S = 0.05


class Lock:
    """Holds the lock while in the `with` block.

    Raises:
        Refused: Somebody else holds it (ERR_700, exit status 3).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> Self:
        for _ in range(TRIES):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._descriptor)
                self._refuse_if_held()
                continue
            if same_file(self._descriptor, self._path):
                self.tell("an address not known yet")
                return self
            os.close(self._descriptor)
        raise refusal.unusable_folder(self._path, "its lock file keeps changing")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _refuse_if_held(self) -> None:
        held_by = holder(self._path)
        if held_by is not None:
            raise refusal.already_running(held_by[0], held_by[1].pid)

    def tell(self, where: str) -> None:
        """Write who holds the lock and where it answers."""
        pid = os.getpid()
        text = json.dumps({"pid": pid, "started": started_at(pid), "where": where})
        os.pwrite(self._descriptor, text.ljust(os.fstat(self._descriptor).st_size).encode(), 0)


def same_file(descriptor: int, path: Path) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def is_held(path: Path) -> bool:
    """Whether a supervisor runs; takes the lock for a moment, never waits."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    return path.exists()


def holder(path: Path) -> tuple[str, Running] | None:
    """Where the running supervisor answers, and which process it is; None if none runs."""
    for _ in range(TRIES):
        if not is_held(path):
            return None
        with contextlib.suppress(OSError, ValueError, KeyError):
            said = json.loads(path.read_text())
            return said["where"], Running(said["pid"], said["started"])
        time.sleep(STEP_S)
    return None
