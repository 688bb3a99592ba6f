"""A whole installation with TLS on, and what a stranger on the network sees of it."""

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx2

from bus.certificate_folder import CertificateFolder
from bus.settings import Settings
from bus.tls import asking_with
from deploy.embedded import orphans
from deploy.embedded.ports import is_free
from deploy.embedded.tls_doors import SSL_REQUEST

PROJECT = Path(__file__).parents[2]
UP_S = 90.0
STEP_S = 0.05
SOCKET_S = 5.0
NAMES = ("nats", "postgres", "redis", "ollama", "edge", "nats.monitor")
LISTENS = "0A"


class Installation:
    """`python -m deploy.embedded up --tls` on a data folder of its own."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.environment = {**os.environ, "PORTAL_DATA": str(data), "PORTAL_LOG_LEVEL": "warning"}
        self.certificates = CertificateFolder(data / "certificates")
        free = [port for port in random.sample(range(20_000, 32_000), 40) if is_free(port)]
        (data / "ports.json").write_text(json.dumps(dict(zip(NAMES, free, strict=False))))

    def start(self) -> None:
        command = [sys.executable, "-m", "deploy.embedded", "up", "--tls", "--json"]
        with (self.data / "up.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log
            )
        eventually_now(lambda: self.state().get("ready") or self.process.poll() is not None)
        assert self.process.poll() is None, (self.data / "up.log").read_text()

    def end(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(UP_S)
        finally:
            self.process.kill()
            asyncio.run(orphans.end_all(self.data / "run" / "pids"))

    def state(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            state: dict[str, Any] = json.loads((self.data / "run" / "state.json").read_text())
            return state
        return {}

    def ports(self) -> dict[str, int]:
        ports: dict[str, int] = json.loads((self.data / "ports.json").read_text())
        return ports

    def pid(self, name: str) -> int:
        return next(one["pid"] for one in self.state()["processes"] if one["name"] == name)

    def listening(self) -> set[int]:
        """Every TCP port on which a process of the installation listens, by the kernel's word."""
        pids = [self.process.pid, *(one["pid"] for one in self.state()["processes"])]
        ours = {inode for pid in pids for inode in sockets_of(pid)}
        return {port for port, inode in listening_sockets() if inode in ours}

    def settings(self, certificates: Path | None = None) -> Settings:
        secrets = self.data / "secrets"
        return Settings(
            _secrets_dir=secrets, tls="on",
            certificates=certificates or self.certificates.root,
            ollama_url=self.state()["addresses"]["ollama"],
        )  # fmt: skip

    def portal(self, *words: str) -> subprocess.CompletedProcess[str]:
        """One `portal` command to its end."""
        command = [sys.executable, "-m", "edge.cli", *words]
        return subprocess.run(
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True,
            timeout=UP_S, check=False,
        )  # fmt: skip

    def client(self) -> httpx2.AsyncClient:
        key = (self.data / "secrets" / "admin.key").read_text()
        return httpx2.AsyncClient(
            base_url=self.state()["addresses"]["edge"],
            headers={"authorization": f"Bearer {key}"},
            verify=asking_with(self.certificates.of("ca")),
            timeout=20,
        )

    def on_the_bus(self) -> dict[str, int]:
        """The NATS connection of each long-running process; another number is another connection."""
        trust = asking_with(self.certificates.of("ca"))
        port = self.ports()["nats.monitor"]
        with urlopen(f"https://127.0.0.1:{port}/connz", context=trust, timeout=SOCKET_S) as answer:
            found = json.load(answer)["connections"]
        return {one["name"]: one["cid"] for one in found if one["name"] in ("edge", "handlers")}

    def shown(self, name: str) -> bytes:
        """The certificate that a port shows now."""
        postgres = name == "postgres"
        trust = asking_with(self.certificates.of("ca"))
        raw = connected(self.ports()[name], postgres=postgres)
        with raw, trust.wrap_socket(raw, server_hostname="localhost") as secured:
            found = secured.getpeercert(binary_form=True)
        assert found
        return found


@contextlib.contextmanager
def installation() -> Iterator[Installation]:
    """It runs while the block does; the folder is short, because sockets lie in it."""
    data = Path(tempfile.mkdtemp(prefix="tls-"))
    one = Installation(data)
    one.start()
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(data)


def connected(port: int, *, postgres: bool = False) -> socket.socket:
    """A connection that is ready for a handshake."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=SOCKET_S)
    if postgres:
        raw.sendall(SSL_REQUEST)
        assert raw.recv(1) == b"S"
    return raw


def handshake(port: int, context: ssl.SSLContext, *, postgres: bool = False) -> str | None:
    """The version that both ends agree upon.

    Raises:
        ssl.SSLError: They do not.
        OSError: The port hung up.
    """
    raw = connected(port, postgres=postgres)
    with raw, context.wrap_socket(raw, server_hostname="localhost") as secured:
        return secured.version()


def answer(port: int, said: bytes) -> bytes:
    """What a port answers to plain text: all of it, until it hangs up or is silent."""
    heard = b""
    with contextlib.closing(connected(port)) as raw, contextlib.suppress(OSError):
        raw.settimeout(1.0)
        raw.sendall(said)
        while part := raw.recv(4096):
            heard += part
    return heard


def sockets_of(pid: int) -> Iterator[str]:
    """The inodes of a process's sockets."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]


def listening_sockets() -> Iterator[tuple[int, str]]:
    """Port and inode of each TCP socket that listens on this machine."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS:
                yield int(fields[1].rpartition(":")[2], 16), fields[9]


def eventually_now(condition: Callable[[], Any], within_s: float = UP_S) -> Any:
    """Call something until it returns what is true, and return that."""
    until = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < until, f"not within {within_s} s"
        time.sleep(STEP_S)
    return value
