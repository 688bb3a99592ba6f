"""An edge in the test's own event loop, in front of a running platform, and ways to ask it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import ClientConnection, connect

from bus.context import Platform
from bus.credentials import Credential, new_credential
from bus.lifecycle import Health
from bus.settings import Settings
from bus.statement import Statement
from edge import app
from edge.app import Running
from schemas.principal import Role
from tests.servers import free_port

PLAIN = False
"""No TLS here, so no authorities to read for each client."""
ADD_KEY = Statement(
    """
    WITH key AS (
        INSERT INTO identity.api_keys (id, version, name, owner_id, roles, scopes, created_at)
        VALUES (gen_random_uuid(), 1, $2, $2, $4, '{}', now()) RETURNING id
    )
    INSERT INTO identity.key_secrets (prefix, key_id, secret_hash) SELECT $1, id, $3 FROM key
    """
)


@pytest.fixture
def admin_key() -> Credential:
    return new_credential("key")


@pytest.fixture
def settings(settings: Settings, admin_key: Credential) -> Settings:
    """With the first admin key, and a port of the edge's own."""
    return settings.model_copy(
        update={
            "bootstrap_key_id": admin_key.id,
            "bootstrap_key_hash": admin_key.secret_hash,
            "edge_port": free_port(),
        }
    )


@pytest.fixture
async def edge(settings: Settings, platform: Platform) -> AsyncIterator[Running]:
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        await redis.flushdb()  # what other tests have used up of the limits
    running = await app.start(settings, Health("edge"))
    while not running.server.started:
        await asyncio.sleep(0.01)
    yield running
    await running.close()


@pytest.fixture
def url(settings: Settings, edge: Running) -> str:
    return f"http://127.0.0.1:{settings.edge_port}"


@pytest.fixture
async def second(settings: Settings, edge: Running) -> AsyncIterator[str]:
    """Another edge process's address."""
    other = settings.model_copy(update={"edge_port": free_port()})
    running = await app.start(other, Health("edge"))
    while not running.server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{other.edge_port}"
    await running.close()


@pytest.fixture
async def anonymous(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=url, timeout=20, verify=PLAIN) as client:
        yield client


@pytest.fixture
async def http(url: str, admin_key: Credential) -> AsyncIterator[httpx2.AsyncClient]:
    """The REST interface, as admin."""
    headers = {"authorization": f"Bearer {admin_key.text}"}
    async with httpx2.AsyncClient(
        base_url=f"{url}/api/v1", headers=headers, timeout=20, verify=PLAIN
    ) as client:
        yield client


@pytest.fixture
def key_of(platform: Platform) -> Callable[[Role], Awaitable[str]]:
    """A fresh key with one role."""

    async def make(role: Role) -> str:
        key = new_credential("key")
        await platform.database.execute(ADD_KEY, key.id, role, key.secret_hash, [role])
        return key.text

    return make


class Watcher:
    """A WebSocket client that speaks frames."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def send(self, **frame: Any) -> None:
        await self.socket.send(json.dumps(frame))

    async def next(self, op: str, timeout_s: float = 10) -> dict[str, Any]:
        """The next frame of this kind; others are passed over."""
        async with asyncio.timeout(timeout_s):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                if frame["op"] == op:
                    return frame

    async def event_of(self, entities: set[str], timeout_s: float = 10) -> dict[str, Any]:
        """The next event of one of these; the platform's own agents are passed over."""
        while True:
            event = await self.next("event", timeout_s)
            if event["entity_id"] in entities:
                return event


@pytest.fixture
def watch(url: str, admin_key: Credential) -> Callable[..., Any]:
    """Open a socket; by default with the admin's key in the upgrade."""

    @asynccontextmanager
    async def opening(**options: Any) -> AsyncIterator[Watcher]:
        options.setdefault("additional_headers", {"x-api-key": admin_key.text})
        address = url.replace("http", "ws", 1) + "/api/v1/ws"
        async with connect(address, **options) as socket:
            yield Watcher(socket)

    return opening
