"""Real servers for tests: the product's own embedded ones, containers where an engine answers.

One Postgres, Valkey and model server a session; one NATS server and one database a test. What is
used is said in the report header, so a change of back end is never silent.
"""

import asyncio
import contextlib
import functools
import gc
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psycopg

from deploy.embedded import nats_server, valkey_server
from deploy.embedded.ports import Ports
from deploy.embedded.stack import Servers

READY_S = 30
DOCKER_SOCKET = Path("/var/run/docker.sock")
POSTGRES_IMAGE = "pgvector/pgvector:pg18"
VALKEY_IMAGE = "valkey/valkey:9"
NATS_IMAGE = "nats:2.15"

_ports = Ports(None, lambda _name, _text: None)


@functools.cache
def engine() -> str:
    """`external` when all addresses are given, `docker` when an engine answers, else `embedded`."""
    wanted = os.environ.get("TEST_BACKEND", "auto")
    if wanted != "auto":
        return wanted
    if all(os.environ.get(name) for name in ("TEST_POSTGRES_URL", "TEST_REDIS_URL")):
        return "external"
    return "docker" if docker_answers() else "embedded"


def docker_answers() -> bool:
    """Whether a Docker engine answers on this machine."""
    if not os.environ.get("DOCKER_HOST") and not DOCKER_SOCKET.exists():
        return False
    import docker

    try:
        with contextlib.closing(docker.from_env(timeout=2)) as client:
            client.ping()
    except docker.errors.DockerException:
        return False
    finally:
        with warnings.catch_warnings(action="ignore"):
            gc.collect()  # the client leaves its socket open when nobody answers
    return True


@dataclass(frozen=True)
class Stack:
    """Where the servers of this session are."""

    postgres_url: str
    redis_url: str
    ollama_url: str


@contextlib.contextmanager
def stack(folder: Path) -> Iterator[Stack]:
    """Postgres, Valkey and the model server, from whatever this machine has."""
    with ExitStack() as open_servers:
        if engine() == "external":
            postgres, redis = os.environ["TEST_POSTGRES_URL"], os.environ["TEST_REDIS_URL"]
        elif engine() == "docker":
            postgres, redis = containers(open_servers)
        else:
            servers = open_servers.enter_context(embedded(folder, {"postgres", "redis"}))
            postgres, redis = servers.postgres_url, servers.redis_url
        models = open_servers.enter_context(embedded(folder / "models", {"ollama"}))
        yield Stack(postgres, redis, models.ollama_url)


def containers(open_servers: ExitStack) -> tuple[str, str]:
    """Postgres and Valkey as containers."""
    from testcontainers.community.postgres import PostgresContainer
    from testcontainers.community.redis import RedisContainer

    postgres = open_servers.enter_context(PostgresContainer(POSTGRES_IMAGE, driver=None))
    redis = open_servers.enter_context(RedisContainer(VALKEY_IMAGE))
    address = f"redis://{redis.get_container_host_ip()}:{redis.get_exposed_port(6379)}"
    return postgres.get_connection_url(), address


@contextlib.contextmanager
def embedded(folder: Path, want: set[str]) -> Iterator[Servers]:
    """The product's own servers, supervised from a thread that lives as long as they do."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    servers = Servers(folder, durable=False, want=want)

    def wait(doing: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(doing, loop).result(timeout=240)

    try:
        yield wait(servers.__aenter__())
    finally:
        wait(servers.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def clone(postgres_url: str, template: str) -> str:
    """A new database that is a copy of `template`; returns its URL."""
    name = f"t_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    return at_database(postgres_url, name)


def at_database(postgres_url: str, name: str) -> str:
    """The same server, another database."""
    base, _, tail = postgres_url.rpartition("/")
    query = tail.partition("?")[2]
    return f"{base}/{name}" + (f"?{query}" if query else "")


def drop(postgres_url: str, url: str) -> None:
    """Drop a database that `clone` made, whoever is connected to it.

    The server's own vacuum may be at work there, whom only a superuser can send away.
    """
    name = url.rpartition("/")[2].partition("?")[0]
    until = time.monotonic() + READY_S
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        while True:
            try:
                connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                return
            except psycopg.errors.InsufficientPrivilege:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)


def free_port() -> int:
    """A port that nobody listens on, that no connection takes, and that is given only once."""
    return _ports.take("test", 0)


class Nats:
    """A nats-server with JetStream of one test's own; may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._monitor = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"nats://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, and wait until JetStream answers."""
        config = self._folder / "nats.conf"
        config.write_text(self.configuration())
        with (self._folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                [nats_server.binary(), "-c", str(config)], stdout=log, stderr=log
            )
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            try:
                with urlopen(f"http://127.0.0.1:{self._monitor}/healthz", timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                time.sleep(0.01)
        raise TimeoutError("nats-server did not start")

    def configuration(self) -> str:
        """Without accounts: whoever reaches it may do everything."""
        return (
            f"listen: 127.0.0.1:{self._port}\nhttp: 127.0.0.1:{self._monitor}\n"
            f'jetstream {{\n  store_dir: "{self._folder}/js"\n}}\n'
        )

    def kill(self) -> None:
        """As if by `kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    stop = kill

    @contextlib.contextmanager
    def asleep(self) -> Iterator[None]:
        """It keeps its connections and answers nothing while the block runs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


class Valkey:
    """A Valkey of one test's own, without persistence; may be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        options = ["--port", str(self._port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        command = [valkey_server.binary(), *options, str(self._folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
                return
            time.sleep(0.01)
        raise TimeoutError("valkey-server did not start")

    def kill(self) -> None:
        """As if by `kill -9`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
