"""Fixtures: servers, a running platform in the test's own event loop, and ways to ask it."""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import nats
import pytest
from alembic import command
from alembic.config import Config
from argon2 import PasswordHasher
from nats.aio.client import Client as Connection

from bus import lifecycle, passwords, process, telemetry, topology
from bus.client import Ask, Client
from bus.clock import Clock
from bus.context import Platform
from bus.credentials import Signer, ensure_signing_keys
from bus.envelope import Origin
from bus.lifecycle import Health
from bus.settings import Settings
from handlers import DOMAINS
from handlers.__main__ import load_service
from handlers.identity import passwords as hashing
from schemas import catalogue
from schemas.contract import Operation, Schema
from schemas.principal import ANONYMOUS, Principal, Role
from tests import servers
from tests.servers import Nats, Stack

ROOT = Path(__file__).parent.parent
TEMPLATE = "portal_template"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 8 * 1024**3
RUNTIME_PASSWORD = "of-this-session"  # pragma: allowlist secret
USUAL_TIMEOUT_S = 120
FLOODS = {
    "test_api_fuzz", "test_canaries", "test_http_attacks", "test_injection", "test_mass_assignment",
    "test_matrix", "test_matrix_things", "test_simulator", "test_whole_bus", "test_workflow_engine",
}  # fmt: skip
"""Files whose tests repeat thousands of times what others count."""
USUAL_COST = hashing._hasher
hashing._hasher = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


@pytest.fixture
def costly_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash as the product does: most tests only need a password, not what guessing one costs."""
    monkeypatch.setattr(hashing, "_hasher", USUAL_COST)
    monkeypatch.setattr(hashing, "_nobodys", [])


def work_in_memory() -> None:
    """Keep the servers' files in memory where there is room: a database is copied 20 times faster.

    A `TMPDIR` that was given stays. What needs a disk says so itself (`tests/load`).
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)


work_in_memory()
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")
telemetry.set_up(Settings(log_level="error"), "test")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that no worker is left alone with one; floods are not counted."""
    long = {item.path for item in items if takes_long(item)}
    items.sort(key=lambda item: item.path not in long)
    for item in items:
        if item.path.stem in FLOODS:
            item.add_marker(pytest.mark.no_cover)


def takes_long(item: pytest.Item) -> bool:
    """Whether a test is given more time than usual."""
    given = item.get_closest_marker("timeout")
    return "slow" in item.keywords or (given is not None and given.args[0] > USUAL_TIMEOUT_S)


def pytest_report_header() -> str:
    """Never a silent change of back end."""
    return f"servers: {servers.engine()}, files in {tempfile.gettempdir()}"


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Postgres, Valkey and the model server of this session."""
    folder = tmp_path_factory.mktemp("servers")
    for parent in (folder, folder.parent, folder.parent.parent):
        parent.chmod(0o755)
    with servers.stack(folder) as started:
        yield started


@pytest.fixture(scope="session")
def template(stack: Stack) -> str:
    """A migrated database that tests copy."""
    url = servers.at_database(stack.postgres_url, TEMPLATE)
    servers.drop(stack.postgres_url, url)
    import psycopg

    with psycopg.connect(stack.postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    command.upgrade(config, "head")
    passwords.give(url, passwords.as_role(url, "app_user", RUNTIME_PASSWORD))
    return TEMPLATE


@pytest.fixture
def database_url(stack: Stack, template: str) -> Iterator[str]:
    """A database of this test's own, migrated and empty."""
    url = servers.clone(stack.postgres_url, template)
    yield url
    servers.drop(stack.postgres_url, url)


@pytest.fixture
def bus_server(tmp_path: Path) -> Iterator[Nats]:
    """A nats-server of this test's own."""
    server = Nats(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(database_url: str, bus_server: Nats, stack: Stack, tmp_path: Path) -> Settings:
    """Settings that name this test's servers."""
    return Settings(
        nats_url=bus_server.url,  # type: ignore[arg-type]
        postgres_url=passwords.as_role(database_url, "app_user", RUNTIME_PASSWORD),  # type: ignore[arg-type]
        redis_url=stack.redis_url,  # type: ignore[arg-type]
        ollama_url=stack.ollama_url,
        data=tmp_path,
        secrets=tmp_path / "secrets",
        log_level="warning",
    )


@pytest.fixture
async def bus_ready(settings: Settings) -> None:
    """Streams, consumers and buckets are there."""
    connection = await nats.connect(settings.nats_url.get_secret_value())
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
    await topology.apply(connection.jetstream(), wanted, 1)
    await connection.close()


@pytest.fixture
async def platform(settings: Settings, bus_ready: None) -> AsyncIterator[Platform]:
    """Every domain, answering in this test's event loop."""
    services = [load_service(domain) for domain in DOMAINS]
    async with process.answering(settings, services, Health("test")) as running:
        yield running.platform


class Asker:
    """Asks operations as a principal with one role."""

    def __init__(self, client: Client, signer: Signer, principal: Principal) -> None:
        self._client, self._signer, self.principal = client, signer, principal

    async def __call__(self, operation: Operation[Any, Any], command: Schema, **how: Any) -> Any:
        """The typed answer; raises what the operation answers."""
        return await self._client.ask(operation, command, self.how(**how))

    def forget_failures(self) -> None:
        """Close every circuit breaker."""
        self._client = Client(self._client.connection, Clock())

    def acting_as(self, principal: Principal) -> "Asker":
        """The same connection, somebody else."""
        return Asker(self._client, self._signer, principal)

    @property
    def as_edge(self) -> "Asker":
        """As the edge itself asks, on nobody's behalf."""
        return self.acting_as(Principal(id="edge", kind="service"))

    @property
    def as_nobody(self) -> "Asker":
        """As the edge asks on behalf of somebody who showed nothing."""
        return self.acting_as(ANONYMOUS)

    def how(self, **how: Any) -> Ask:
        """The envelope of one request."""
        origin = Origin(
            self.principal.id, Clock().new_id(), roles=self.principal.roles,
            credential=self.principal.credential, kind=self.principal.kind,
        )  # fmt: skip
        return Ask(self._signer.sign(self.principal), origin, **how)


@pytest.fixture
async def client(settings: Settings, bus_ready: None) -> AsyncIterator[Client]:
    """A client with a connection of its own."""
    ensure_signing_keys(lifecycle.secrets_folder(settings))
    connection = await nats.connect(settings.nats_url.get_secret_value())
    yield Client(connection, Clock())
    await connection.close()


@pytest.fixture
def ask_as(client: Client, settings: Settings) -> Callable[..., Asker]:
    """Ask as a principal with this role."""
    signer = Signer("edge", lifecycle.secrets_folder(settings))

    def asker(role: Role, name: str | None = None) -> Asker:
        return Asker(client, signer, Principal(id=name or role, kind="key", roles=(role,)))

    return asker


@pytest.fixture
def ask(ask_as: Callable[..., Asker]) -> Asker:
    """Ask as admin."""
    return ask_as("admin")


async def look(platform: Platform, sql: str, *values: Any) -> list[Any]:
    """Rows, read on a connection of the test's own."""
    connection = await platform.database.connect()
    try:
        return list(await connection.fetch(sql, *values))
    finally:
        await connection.close()


async def settled(connection: Connection) -> None:
    """Return when the server has done all that was sent.

    The PING of a flush goes ahead of what waits to be sent, so its answer says nothing of that.
    """
    inbox = connection.new_inbox()
    behind = await connection.subscribe(inbox)
    await connection.publish(inbox, b"")
    await behind.next_msg(10)
    await behind.unsubscribe()


async def eventually(
    check: Callable[[], Awaitable[Any]], timeout_s: float = 20, every_s: float = 0.05
) -> Any:
    """The first true answer of `check`; fails when there is none in time."""
    until = time.monotonic() + timeout_s
    while True:
        answer = await check()
        if answer:
            return answer
        assert time.monotonic() < until, f"not in {timeout_s} s: {check}"
        await asyncio.sleep(every_s)
