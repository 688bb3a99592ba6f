"""A nats-server with the accounts and permissions of an installation, and the platform on it."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.aio.client import Client as Connection
from nats.errors import Error as NatsError

from bus import lifecycle, topology
from bus.client import Client
from bus.clock import Clock
from bus.connection import connect_options
from bus.credentials import ensure_signing_keys
from bus.lifecycle import Health
from bus.settings import Settings
from deploy.nats import keys, server
from edge import app
from schemas import catalogue
from tests.servers import Nats


class SecuredNats(Nats):
    """As `portal up` configures it."""

    @property
    def seeds(self) -> Path:
        return self._folder / "seeds"

    def configuration(self) -> str:
        keys.ensure(self.seeds)
        return server.configuration(super().configuration(), keys.variables(self.seeds))

    def log(self) -> str:
        return (self._folder / "nats.log").read_text()

    def violations(self) -> list[str]:
        """What the server refused."""
        return [line for line in self.log().splitlines() if "Violation" in line]

    def settings(self, settings: Settings, role: str) -> Settings:
        """The settings of a process with this role."""
        return settings.model_copy(
            update={"nats_role": role, "nats_seed": secret(keys.seed(self.seeds, role))}
        )

    @asynccontextmanager
    async def user(self, role: str) -> AsyncIterator["User"]:
        """Connected as this role; what it is refused is remembered."""
        settings = Settings(nats_url=self.url)  # type: ignore[arg-type]
        refused: list[str] = []

        async def remember(error: Exception) -> None:
            refused.append(str(error))

        options = connect_options(role, self.settings(settings, role)) | {"error_cb": remember}
        connection = await nats.connect(self.url, **options)
        try:
            yield User(role, connection, refused)
        finally:
            await connection.close()


class User:
    """One role's connection."""

    def __init__(self, role: str, connection: Connection, refused: list[str]) -> None:
        self.role, self.connection, self.refused = role, connection, refused
        self._fences = itertools.count()

    async def may_publish(self, subject: str) -> bool:
        """Whether the server takes it."""
        self.refused.clear()
        await self.connection.publish(subject, b"")
        return not await self.told()

    async def may_subscribe(self, subject: str, queue: str = "") -> bool:
        """Whether the server takes it."""
        self.refused.clear()
        subscription = await self.connection.subscribe(subject, queue=queue)
        taken = not await self.told()
        await subscription.unsubscribe()
        return taken

    async def told(self) -> list[str]:
        """What the server has refused up to now.

        The server tells it in order, so the last word is its refusal of what nobody may. (A pong
        will not do: the client may still be owed an earlier one.)
        """
        queue = f"fence-{next(self._fences)}"
        fence = await self.connection.subscribe("$SYS.REQ.USER.AUTH", queue=queue)
        async with asyncio.timeout(10):
            while not any(queue in error for error in self.refused):
                await asyncio.sleep(0.001)
        await fence.unsubscribe()
        return [error for error in self.refused if "fence-" not in error]


async def turned_away(url: str, **credential: Any) -> str:
    """What somebody is told who must not come in; being let in is the empty string."""
    connection, said = Connection(), ""

    async def remember(_: Exception) -> None:
        return

    try:
        await connection.connect(
            url, allow_reconnect=False, connect_timeout=5, error_cb=remember, **credential
        )
    except (NatsError, ConnectionError) as refusal:
        said = repr(refusal)
    if connection._transport is not None:  # the driver leaves it open when it is refused
        connection._transport.close()
        with contextlib.suppress(ConnectionError):
            await connection._transport.wait_closed()
    await connection.close()
    return said


def secret(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)


@pytest.fixture
def bus_server(tmp_path: Path) -> Iterator[SecuredNats]:
    server = SecuredNats(tmp_path)
    server.start()
    yield server
    server.stop()


def of_handlers(settings: Settings, bus_server: SecuredNats) -> Settings:
    """The settings of a handlers process, which keeps the gate too."""
    more = {
        "gatekeeper_seed": secret(keys.seed(bus_server.seeds, "gatekeeper")),
        "issuer_seed": secret(keys.seed(bus_server.seeds, keys.ISSUER)),
    }
    return bus_server.settings(settings, "handlers").model_copy(update=more)


@pytest.fixture
async def bus_ready(settings: Settings, bus_server: SecuredNats) -> None:
    """Made by the admin's job."""
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
    async with bus_server.user("admin") as admin:
        await topology.apply(admin.connection.jetstream(), wanted, 1)


@pytest.fixture
async def client(
    settings: Settings, bus_ready: None, bus_server: SecuredNats
) -> AsyncIterator[Client]:
    """As the edge."""
    ensure_signing_keys(lifecycle.secrets_folder(settings))
    async with bus_server.user("edge") as edge:
        yield Client(edge.connection, Clock())


@pytest.fixture
async def edge(settings: Settings, platform: Any, bus_server: SecuredNats) -> AsyncIterator[Any]:
    running = await app.start(bus_server.settings(settings, "edge"), Health("edge"))
    while not running.server.started:
        await asyncio.sleep(0.01)
    yield running
    await running.close()
