"""A platform under attack: real servers, every domain, edges that listen, and people in it."""

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import nats
import redis
from websockets.asyncio.client import ClientConnection, connect

from bus import lifecycle, process, topology
from bus.client import Client
from bus.clock import Clock
from bus.context import Platform
from bus.credentials import Signer, hash_secret
from bus.lifecycle import Health
from bus.settings import Settings
from edge import app
from edge.app import Running
from edge.rest import PREFIX
from edge.showing import COOKIE
from handlers import DOMAINS
from handlers.__main__ import load_service
from schemas import catalogue
from schemas.identity import sessions, users
from schemas.identity.sessions import SignedIn, SignIn
from schemas.identity.users import CreateUser, User
from schemas.principal import Principal, Role
from tests import servers
from tests.conftest import Asker
from tests.servers import Nats, Stack

OURS = "https://portal.test"
SETUP_TOKEN = "a-set-up-token-of-this-test"
PASSWORD = "correct horse battery"  # pragma: allowlist secret

TRUST = ssl.create_default_context()
"""Made once: it is most of what a client costs."""

Headers = dict[str, str]


@dataclass
class Person:
    """A user who can sign in."""

    user: User
    principal: Principal


@dataclass
class World:
    """What a test needs to attack the platform and to look at what it did."""

    settings: Settings
    bus: Nats
    platform: Platform
    client: Client
    signer: Signer
    edges: list[Running]
    urls: list[str]
    opened: list[httpx2.AsyncClient] = field(default_factory=list)

    def as_principal(self, principal: Principal) -> Asker:
        """Asking over the bus, signed by the edge."""
        return Asker(self.client, self.signer, principal)

    @property
    def admin(self) -> Asker:
        """Asking over the bus as an administrator."""
        return self.as_principal(Principal(id="admin", kind="user", roles=("admin",)))

    def as_owner(self, person: Person) -> Asker:
        """Asking over the bus as this user, with the rights to make anything of one's own."""
        return self.as_principal(Principal(id=person.user.id, kind="user", roles=("admin",)))

    async def person(self, *roles: Role) -> Person:
        """A fresh user with these roles."""
        login = f"u{secrets.token_hex(5)}"
        command = CreateUser(login=login, name=login, roles=roles, password=PASSWORD)
        user = await self.admin(users.create_user, command)
        return Person(user, Principal(id=user.id, kind="user", roles=user.roles))

    async def sign_in(self, person: Person, *, browser: bool = False) -> SignedIn:
        """Open a session."""
        command = SignIn(login=person.user.login, password=PASSWORD, browser=browser)  # type: ignore[arg-type]
        signed: SignedIn = await self.admin.as_nobody(sessions.sign_in, command)
        return signed

    def http(self, edge: int = 0, **headers: str) -> httpx2.AsyncClient:
        """A client of one edge; closed with the world."""
        client = httpx2.AsyncClient(
            base_url=self.urls[edge] + PREFIX, headers=headers, timeout=20,
            verify=TRUST,
        )  # fmt: skip
        self.opened.append(client)
        return client

    @asynccontextmanager
    async def socket(
        self, headers: Headers | None = None, edge: int = 0, uri: str = "", **options: Any
    ) -> AsyncIterator[ClientConnection]:
        """A WebSocket to one edge."""
        address = uri or self.urls[edge].replace("http", "ws", 1) + PREFIX + "/ws"
        async with connect(address, additional_headers=headers or {}, **options) as opened:
            yield opened

    def give_back_limits(self) -> None:
        """Forget how often anybody has asked."""
        url = self.settings.redis_url.get_secret_value()
        with redis.Redis.from_url(url) as counted:
            counted.flushdb()


def bearer(text: str) -> Headers:
    """The header of a key or token."""
    return {"authorization": f"Bearer {text}"}


def cookie(signed: SignedIn, origin: str | None = None) -> Headers:
    """What a page of ours makes a browser send."""
    assert signed.cookie is not None
    assert signed.csrf is not None
    shown = {"cookie": f"{COOKIE}={signed.cookie}", "x-csrf-token": signed.csrf}
    return shown if origin is None else shown | {"origin": origin}


async def frame_of(socket: ClientConnection, op: str, timeout_s: float = 10) -> dict[str, Any]:
    """The next frame of this kind; others are passed over."""
    async with asyncio.timeout(timeout_s):
        while True:
            frame: dict[str, Any] = json.loads(await socket.recv())
            if frame["op"] == op:
                return frame


@asynccontextmanager
async def listening(settings: Settings) -> AsyncIterator[Running]:
    """An edge process's parts in the test's own event loop."""
    running = await app.start(settings, Health("edge"))
    while not running.server.started:
        await asyncio.sleep(0.01)
    try:
        yield running
    finally:
        await running.close()


def settings_of(stack: Stack, database: str, bus: Nats, folder: Path, **more: Any) -> Settings:
    """Settings that name these servers; one origin besides the edge's own is trusted."""
    values: dict[str, Any] = {
        "nats_url": bus.url, "postgres_url": database, "redis_url": stack.redis_url,
        "ollama_url": stack.ollama_url, "data": folder, "secrets": folder / "secrets",
        "log_level": "warning", "cors_origins": (OURS,),
        "bootstrap_setup_hash": hash_secret(SETUP_TOKEN), "interactive_per_minute": 10_000,
    }  # fmt: skip
    return Settings(**values | more)


async def make_streams(settings: Settings) -> None:
    """Streams, consumers and buckets."""
    connection = await nats.connect(settings.nats_url.get_secret_value())
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
    await topology.apply(connection.jetstream(), wanted, 1)
    await connection.close()


@asynccontextmanager
async def open_world(
    stack: Stack, template: str, folder: Path, domains: Sequence[str] = DOMAINS, **more: Any
) -> AsyncIterator[World]:
    """Domains and two edges on a bus and a database of their own."""
    database, bus = servers.clone(stack.postgres_url, template), Nats(folder)
    bus.start()
    settings = settings_of(stack, database, bus, folder, **more)
    try:
        await make_streams(settings)
        async with (
            process.answering(settings, [load_service(d) for d in domains], Health("test")) as it,
            listening(on_free_port(settings)) as first,
            listening(on_free_port(settings)) as second,
        ):
            connection = await nats.connect(bus.url)
            signer = Signer("edge", lifecycle.secrets_folder(settings))
            edges = [first, second]
            urls = [f"http://127.0.0.1:{edge.server.config.port}" for edge in edges]
            opened = World(settings, bus, it.platform, Client(connection, Clock()), signer, edges,
                           urls)  # fmt: skip
            opened.give_back_limits()
            yield opened
            for client in opened.opened:
                await client.aclose()
            await connection.close()
    finally:
        bus.stop()
        servers.drop(stack.postgres_url, database)


def on_free_port(settings: Settings) -> Settings:
    """The same settings for one more edge process."""
    return settings.model_copy(update={"edge_port": servers.free_port()})
