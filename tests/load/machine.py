"""The platform as it is shipped, under load: started for one benchmark, its CPU read from /proc."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.load import keepalive

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
READY_S = 180
STOP_S = 60
PORTAL = Path(sys.executable).parent / "portal"


@dataclass(frozen=True)
class Machine:
    """A running installation."""

    status: dict[str, Any]
    key: str

    @property
    def edge(self) -> str:
        """Base URL."""
        return str(self.status["addresses"]["edge"])

    @property
    def place(self) -> tuple[str, int]:
        """Host and port of the edge."""
        url = urlsplit(self.edge)
        return str(url.hostname), int(url.port or 80)

    @property
    def model_url(self) -> str:
        """Base URL of the model server, where it is not the platform's own."""
        return str(self.status["addresses"]["ollama"])

    @property
    def data(self) -> Path:
        """Its folder."""
        return Path(self.status["data"])

    @property
    def bus_url(self) -> str:
        """The NATS URL."""
        return (self.data / "secrets" / "portal_nats_url").read_text().strip()

    def seed(self, role: str) -> str:
        """The file with the NKey seed of a role."""
        return str(self.data / "secrets" / "nats" / f"{role}.seed")

    @property
    def environment(self) -> dict[str, str]:
        """In which `portal` means this installation."""
        return os.environ | {"PORTAL_DATA": str(self.data)}

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request, on a connection of its own."""
        async with keepalive.Doors(*self.place, self.key, 1) as doors:
            return await doors.post(path, body)

    def pids(self) -> dict[str, int]:
        """Process ids by name."""
        return {p["name"]: p["pid"] for p in self.status["processes"]}


@contextlib.contextmanager
def running(*options: str, **settings: str) -> Iterator[Machine]:
    """`portal up` with these options in a folder of its own, ready; stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="portal-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        environment = os.environ | {"PORTAL_DATA": folder} | settings
        log = Path(folder) / "up.log"
        with log.open("wb") as out:
            up = subprocess.Popen(
                [PORTAL, "up", "--json", *options], env=environment, stdout=out, stderr=out
            )
        try:
            status = wait_until_ready(environment, up, log)
            key = Path(status["admin_key_file"]).read_text().strip()
            yield Machine(status, key)
        finally:
            up.terminate()
            up.wait(STOP_S)


def status(machine: Machine) -> dict[str, Any]:
    """What `portal status` says now."""
    asked = subprocess.run(
        [PORTAL, "status", "--json"], env=machine.environment, capture_output=True, check=False
    )
    now: dict[str, Any] = json.loads(asked.stdout)
    return now


def wait_until_ready(
    environment: dict[str, str], up: "subprocess.Popen[bytes]", log: Path
) -> dict[str, Any]:
    """The status of the installation, once every process is ready."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and up.poll() is None:
        if b'"event": "ready"' not in log.read_bytes():
            time.sleep(0.1)
            continue
        asked = subprocess.run(
            [PORTAL, "status", "--json"], env=environment, capture_output=True, check=False
        )
        if asked.returncode == 0:
            status: dict[str, Any] = json.loads(asked.stdout)
            return status
        time.sleep(0.5)
    raise RuntimeError(f"not ready:\n{log.read_text()[-3000:]}")


def cpu_s(pids: dict[str, int]) -> dict[str, float]:
    """CPU seconds that each process and its children have used so far."""
    used: dict[str, float] = {}
    for name, pid in pids.items():
        used[name] = sum(process_cpu_s(p) for p in (pid, *descendants(pid)))
    return used


def process_cpu_s(pid: int) -> float:
    """User and system time of one process and of its children that have ended.

    Postgres has a process a connection: one that was closed meanwhile has worked too.
    """
    with contextlib.suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICKS_PER_S
    return 0.0


def descendants(pid: int) -> list[int]:
    """Children of a process and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *descendants(child)]
    return found
