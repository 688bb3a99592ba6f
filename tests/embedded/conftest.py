"""A supervisor in a process of its own, as a user starts it, and waiting without guessing.

Each data folder is a copy of one whose first start is done, with ports of its own in
`ports.json`, so that test processes side by side do not race for the usual ones. No model server unless a test asks for it: it takes
seconds to load.
"""

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import orphans
from deploy.embedded.ports import is_free
from deploy.embedded.postgres_server import OWNER

PROJECT = Path(__file__).parents[2]
NO_MODELS = ("--external", "http://127.0.0.1:1")
UP_S = 90.0
STEP_S = 0.05
NAMES = ("nats", "postgres", "redis", "ollama", "edge", "nats.monitor")


class Foreground:
    """`python -m deploy.embedded` on one data folder."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.environment = {**os.environ, "PORTAL_DATA": str(data)}
        self.processes: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "deploy.embedded", *arguments)

    def start(
        self, *arguments: str, prefix: tuple[str, ...] = (), command: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """`up --only servers` without models, unless said otherwise."""
        told = command or self.command("up", "--only", "servers", *(arguments or NO_MODELS))
        process = subprocess.Popen(
            [*prefix, *told], cwd=PROJECT, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.processes.append(process)
        return process

    def up(self, *arguments: str, **how: Any) -> subprocess.Popen[str]:
        """Start and wait until all is ready."""
        process = self.start(*arguments, **how)
        until = time.monotonic() + UP_S
        while not self.ready(process):
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                raise AssertionError(f"not up: {process.communicate()}")
            time.sleep(STEP_S)
        return process

    def ready(self, process: subprocess.Popen[str]) -> bool:
        """Whether this very supervisor says so."""
        state = self.state()
        return bool(state.get("ready")) and state["pid"] == process.pid

    def state(self) -> dict[str, Any]:
        """What the supervisor wrote last."""
        try:
            state: dict[str, Any] = json.loads((self.data / "run" / "state.json").read_text())
        except (OSError, ValueError):
            return {}
        return state

    def pids(self) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.state()["processes"]}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One command to its end."""
        return subprocess.run(
            self.command(*arguments), cwd=PROJECT, env=self.environment, text=True,
            capture_output=True, timeout=UP_S, check=False,
        )  # fmt: skip

    def stop(self, process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
        process.send_signal(number)
        return process.wait(UP_S)

    def end(self) -> None:
        """End what a test left, servers of a killed supervisor too, and close its pipes."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
        asyncio.run(orphans.end_all(self.data / "run" / "pids"))

    def secret(self, name: str) -> str:
        return (self.data / "secrets" / name).read_text()

    def url(self, service: str) -> str:
        """The address with the credentials that the data folder keeps."""
        scheme, _, rest = self.state()["addresses"][service].partition("://")
        users = {
            "postgres": f"{OWNER}:{self.password('portal_role')}",
            "redis": f":{self.password('valkey')}",
        }
        return f"{scheme}://{users[service]}@{rest}" if service in users else f"{scheme}://{rest}"

    def bus_as(self, role: str) -> dict[str, str]:
        """How to come onto the bus with that role's seed."""
        seed = self.secret(f"nats/{role}.seed")
        return {"nkeys_seed_str": seed, "inbox_prefix": f"_INBOX.{role}"}

    def password(self, server: str) -> str:
        return self.secret(f"{server}.password")


@pytest.fixture
def root() -> Iterator[Path]:
    """A short private folder; pytest's own may be too deep and is closed to other users."""
    path = Path(tempfile.mkdtemp(prefix="emb-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


def give_ports(data: Path) -> None:
    """Ports that nobody else is likely to want at this moment."""
    ports = [port for port in random.sample(range(20_000, 32_000), 40) if is_free(port)]
    (data / "ports.json").write_text(json.dumps(dict(zip(NAMES, ports, strict=False))))


@pytest.fixture(scope="session")
def started_once() -> Iterator[Path]:
    """A data folder after its first start and stop."""
    data = Path(tempfile.mkdtemp(prefix="emb-"))
    give_ports(data)
    one = Foreground(data)
    one.stop(one.up())
    one.end()
    yield data
    shutil.rmtree(data)


@pytest.fixture
def foreground(root: Path, started_once: Path) -> Iterator[Foreground]:
    shutil.copytree(started_once, root / "data")
    give_ports(root / "data")
    one = Foreground(root / "data")
    yield one
    one.end()


@pytest.fixture
def eventually() -> Callable[..., Awaitable[Any]]:
    """Call something until it returns what is true, and return that."""

    async def wait(condition: Callable[[], Any], within_s: float = 30.0) -> Any:
        until = time.monotonic() + within_s
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < until, f"not within {within_s} s"
            await asyncio.sleep(STEP_S)

    return wait
