"""The logs of the processes: bounded on disk, read for people.

A process appends to its file by itself. When the file is full it is copied away and cut to
nothing; because it is opened for appending, the process goes on at the new end. A line written
between copy and cut is lost, which is the price of no log ever passing through the supervisor.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

BYTES_MAX = 8 * 2**20
KEPT = 2
FOLLOW_STEP_S = 0.3
READ_BYTES = 256 * 1024


def rotate(log: Path, bytes_max: int = BYTES_MAX) -> None:
    """Copy a full log away and cut it; the last `KEPT` copies stay."""
    if not log.exists() or log.stat().st_size <= bytes_max:
        return
    with contextlib.suppress(OSError):  # a full disk is no reason to keep filling it
        for number in range(KEPT, 1, -1):
            older = log.with_name(f"{log.name}.{number - 1}")
            if older.exists():
                older.replace(log.with_name(f"{log.name}.{number}"))
        shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


def last_lines(log: Path, count: int) -> list[str]:
    """The last lines of what one read holds."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - READ_BYTES))
        text = file.read(READ_BYTES).decode(errors="replace")
    return text.splitlines()[-count:] if count else []


class Follower:
    """Reads what is appended to one log, in whole lines; starts over when it was cut."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._at = log.stat().st_size if log.exists() else 0
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines that came since the last call."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._at:
                self._at, self._rest = 0, b""
            file.seek(self._at)
            fresh = file.read(READ_BYTES)
            self._at = file.tell()
        *whole, self._rest = (self._rest + fresh).split(b"\n")
        return [line.decode(errors="replace") for line in whole]


def read(folder: Path, names: Sequence[str], count: int) -> Iterator[tuple[str, str]]:
    """The last lines of each log as (process, line)."""
    for name in names:
        for line in last_lines(folder / f"{name}.log", count):
            yield name, line


def follow(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """New lines of the logs as they come, for ever."""
    followers = {name: Follower(folder / f"{name}.log") for name in names}
    while True:
        for name, follower in followers.items():
            for line in follower.lines():
                yield name, line
        time.sleep(FOLLOW_STEP_S)


def shown(name: str, line: str, *, as_json: bool) -> str:
    """One line of output."""
    return json.dumps({"process": name, "line": line}) if as_json else f"{name:<10} | {line}"
