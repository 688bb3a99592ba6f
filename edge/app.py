"""The life of an edge process, and what answers where.

    Access ─► Front ─► Routes ─► doors ─► bus
         └──► Sockets ◄── Feed ◄── evt.>

Starting waits for NATS. SIGTERM makes it not ready, sends the sockets away with where to resume,
finishes what is in flight within the drain time, and ends with status 0. While NATS is away the
connection refuses at once instead of holding requests back, so they are answered 503.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import nats
import uvicorn
from nats.aio.client import Client as Connection
from redis.asyncio import Redis
from starlette.types import ASGIApp, Receive, Scope, Send

from bus import faults, lifecycle, telemetry, tls
from bus.audit import Auditor
from bus.background import end, forever
from bus.client import Client
from bus.clock import Clock
from bus.connection import connect_options, hang_up
from bus.credentials import Signer, ensure_signing_keys
from bus.lifecycle import Health, PrivateServer
from bus.rights import Rights
from bus.settings import Settings
from edge import external, files, oauth
from edge.access import Access, Journal
from edge.accesstokens import AccessTokens
from edge.asking import Asking
from edge.authentication import Authentication
from edge.bus_door import BusDoor
from edge.eventstream import EventStreamDoor
from edge.feed import SUPERVISE_S, Feed
from edge.following import follower
from edge.limits import Counted, Limiter
from edge.noting import Notes
from edge.pages import DocumentDoor, FileDoor, HealthDoor, MetricsDoor
from edge.protocol import Protocol
from edge.proxies import Proxies
from edge.rest import PREFIX, Front, OperationDoor
from edge.routes import Door, Routes
from edge.signing_in import KeySetDoor, MeDoor, SignInDoor, SignOutDoor
from edge.sockets import HEARTBEAT_S, Sockets
from edge.streams import ResumeDoor, StreamDoor
from edge.tokens import Tokens
from edge.uses import REPORT_S, Uses
from schemas import catalogue
from schemas.contract import Operation
from schemas.identity import oauth as contract
from schemas.identity import principals, sessions
from schemas.render import asyncapi, openapi

WS_PATH = f"{PREFIX}/ws"
FRAME_BYTES_MAX = 64 * 1024
KEEP_ALIVE_S = 30
CONNECTIONS_BACKLOG = 2048


@dataclass
class Edge:
    """One edge process: its parts, and the application made of them."""

    app: ASGIApp
    feed: Feed
    sockets: Sockets
    bus_door: BusDoor
    journal: Journal
    auditor: Auditor
    health: Health
    connection: Connection
    counted: Counted
    rights: Rights
    uses: Uses


DOORS: dict[Operation[Any, Any], type[OperationDoor]] = {
    principals.me: MeDoor,
    sessions.sign_in: SignInDoor,
    sessions.sign_out: SignOutDoor,
}


def door_of(operation: Operation[Any, Any], asking: Asking) -> OperationDoor:
    """The kind of door that an operation needs."""
    if operation.kind == "stream":
        return StreamDoor(operation, asking)
    kind = files.door_class(operation) or DOORS.get(operation, OperationDoor)
    return kind(operation, asking)


def sign_in_routes(
    asking: Asking, authentication: Authentication, public_url: str
) -> list[tuple[str, str, Door]]:
    """What answers people who sign in, and the programs that ask them (see `edge/oauth.py`)."""
    authorize = oauth.AuthorizeDoor(asking, authentication)
    return [
        ("GET", oauth.SIGN_IN, FileDoor("sign-in", "sign-in/sign-in.html")),
        ("GET", oauth.CONSENT, FileDoor("sign-in", "sign-in/consent.html")),
        ("GET", f"{oauth.SIGN_IN}/{{file}}", FileDoor("sign-in", "sign-in")),
        ("GET", oauth.AUTHORIZE, authorize),
        ("POST", oauth.TOKEN, oauth.FormDoor(contract.token, asking)),
        ("POST", oauth.REVOKE, oauth.RevokeDoor(contract.revoke_token, asking)),
        ("POST", oauth.INTROSPECT, oauth.FormDoor(contract.introspect_token, asking)),
        ("GET", "/.well-known/oauth-authorization-server",
         DocumentDoor("oauth", partial(oauth.server_metadata, public_url))),
        ("GET", "/.well-known/oauth-protected-resource",
         DocumentDoor("oauth", partial(oauth.resource_metadata, public_url))),
        ("GET", "/.well-known/jwks.json", KeySetDoor(asking)),
        ("GET", external.START, external.StartDoor(asking, public_url)),
        ("GET", external.CALLBACK, external.CallbackDoor(asking)),
    ]  # fmt: skip


def routes_of(
    asking: Asking, feed: Feed, rights: Rights, health: Health, more: list[tuple[str, str, Door]]
) -> Routes:
    """Everything that answers over HTTP."""
    live, ready, detailed, _ = lifecycle.health_routes(health, asking.clock)
    streaming = tuple(o for o in catalogue.operations() if o.kind == "stream")
    table: list[tuple[str, str, Door]] = [
        ("GET", "/", FileDoor("page", "home/index.html")),
        ("GET", "/assets/{file}", FileDoor("page", "home")),
        ("GET", "/docs", FileDoor("docs", "docs/index.html")),
        ("GET", "/docs/{file}", FileDoor("docs", "docs")),
        ("GET", "/openapi.json", DocumentDoor("docs", openapi.render)),
        ("GET", "/openapi-3.0.json", DocumentDoor("docs", openapi.render_3_0)),
        ("GET", "/asyncapi.json", DocumentDoor("docs", asyncapi.render)),
        ("GET", "/health/live", HealthDoor("health", live.endpoint)),
        ("GET", "/health/ready", HealthDoor("health", ready.endpoint)),
        ("GET", "/health", HealthDoor("health", detailed.endpoint)),
        ("GET", "/metrics", MetricsDoor()),
        *more,
        ("GET", f"{PREFIX}/events/stream", EventStreamDoor(feed, rights)),
        ("GET", f"{PREFIX}/streams/{{domain}}/{{id}}", ResumeDoor(asking, streaming, rights)),
    ]
    routes = Routes()
    for method, path, door in table:
        routes.add(method, path, door)
    for operation in catalogue.operations():
        if operation.route is not None:
            path = PREFIX + operation.route.path
            routes.add(operation.route.method, path, door_of(operation, asking))
    return routes


def compose(settings: Settings, connection: Connection, signer: Signer, health: Health) -> Edge:
    """The parts of an edge process on an open connection."""
    clock = Clock()
    client = Client(connection, clock)
    redis_url = settings.redis_url.get_secret_value()
    counted = Counted(Redis.from_url(redis_url, **tls.redis_options(settings)))
    limiter = Limiter(
        counted, settings.rate_per_minute, settings.edge_processes, settings.interactive_per_minute
    )
    asking = Asking(client, clock, signer, limiter)
    health.probes = {
        "nats": lambda: connection.flush(timeout=1),
        "layers": asking.somebody_answers,
    }
    rights = Rights(client, signer, clock, "edge")
    tokens = AccessTokens(client, clock, signer, settings.public_url, settings.token_cache)
    origins = settings.cors_origins
    authentication = Authentication(client, clock, signer, limiter, tokens, origins)
    feed = Feed(connection)
    sockets = Sockets(feed, Tokens(connection), authentication, rights, clock, origins)
    signing_in = sign_in_routes(asking, authentication, settings.public_url)
    routes = routes_of(asking, feed, rights, health, signing_in)
    uses = Uses(client, clock, signer)
    auditor = Auditor(client, signer, clock, "edge")
    bus_door = BusDoor(client, clock, signer, limiter, rights, uses, auditor)
    feed.on_events_of("identity", follower(authentication, tokens, rights, bus_door))
    feed.on_events_of("credentials", lambda *_: bus_door.forget())
    front = Front(routes, authentication, limiter, rights, uses, clock, health)
    health.probes["grants"] = rights.ready
    notes = Notes(auditor, clock)
    journal = Journal(notes, enabled=settings.log_level in ("debug", "info"))

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await front(scope, receive, send)
        elif scope["path"] == WS_PATH:
            await sockets(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 4403})

    proxies = Proxies(settings.trusted_proxies)
    app = Access(both, clock, journal, notes, proxies, origins)
    return Edge(
        app, feed, sockets, bus_door, journal, auditor, health, connection, counted, rights, uses
    )  # fmt: skip


def server_of(app: ASGIApp, settings: Settings) -> PrivateServer:
    """uvicorn, told to trust no proxy and to add nothing."""
    return PrivateServer(uvicorn.Config(
        app, settings.edge_host, settings.edge_port, loop="none", http=Protocol,
        ws="websockets-sansio", ws_max_size=FRAME_BYTES_MAX, ws_per_message_deflate=False,
        ws_ping_interval=None, lifespan="off", log_config=None, access_log=False,
        proxy_headers=False, server_header=False, backlog=CONNECTIONS_BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(settings.drain.total_seconds()),
        **tls.serving(settings, "edge"),
    ))  # fmt: skip


async def connect(settings: Settings) -> Connection:
    """A connection that never holds a request back while the bus is away."""
    servers = settings.nats_url.get_secret_value().split(",")

    async def log_error(error: Exception) -> None:
        telemetry.log().warning("bus connection", error=str(error))

    return await nats.connect(
        servers, pending_size=-1, error_cb=log_error, **connect_options("edge", settings),
        **tls.nats_options(settings, "edge"),
    )  # fmt: skip


async def open_edge(settings: Settings, health: Health) -> Edge:
    """Wait for NATS and its streams, then compose."""
    opened: list[Connection] = []

    async def connecting() -> None:
        opened.append(await connect(settings))

    folder = lifecycle.secrets_folder(settings)
    ensure_signing_keys(folder)
    await lifecycle.wait_for("nats", connecting)
    edge = compose(settings, opened[0], Signer("edge", folder), health)
    await lifecycle.wait_for("stream EVENTS", edge.feed.start)
    await edge.bus_door.open(edge.connection)
    return edge


@dataclass
class Running:
    """An edge that listens."""

    edge: Edge
    server: PrivateServer
    background: "list[asyncio.Task[None]]"

    async def close(self) -> None:
        """Not ready, sockets away, requests finished, connections closed."""
        edge = self.edge
        edge.health.draining = True
        telemetry.log().info("draining", sockets=len(edge.sockets))
        await end(self.background)
        edge.sockets.drain()
        await edge.bus_door.close()
        try:
            await self.server.end()
        finally:
            edge.journal.write()
            await edge.uses.report()
            await edge.auditor.close()
            await hang_up(edge.connection)
            await edge.counted.close()


async def start(settings: Settings, health: Health) -> Running:
    """Open everything and listen."""
    edge = await open_edge(settings, health)
    server = server_of(edge.app, settings)
    server.task = asyncio.create_task(server.serve())
    edge.auditor.start()
    settings.tell_reads(edge.auditor.secret)
    health.probes["listening"] = server.listening
    background = [
        await edge.rights.follow(),
        asyncio.create_task(forever("key-uses", edge.uses.report, REPORT_S)),
        asyncio.create_task(forever("event-feed", edge.feed.supervise, SUPERVISE_S)),
        asyncio.create_task(forever("rights", edge.sockets.look_again, 0)),
        asyncio.create_task(forever("heartbeat", edge.sockets.beat, HEARTBEAT_S)),
    ]
    return Running(edge, server, background)


async def run(settings: Settings, started: Callable[[str], None]) -> None:
    """Be an edge process until told to stop; `started` is told the address."""
    telemetry.set_up(settings, "edge")
    tls.check(settings, "edge", settings.edge_host)
    faults.arm(settings.fault)
    stop, health = lifecycle.stop_signal(), Health("edge")
    private = await lifecycle.serve_health(health, Clock(), settings)
    running = await start(settings, health)
    lifecycle.keep_what_is_there()
    scheme = "http" if settings.tls == "off" else "https"
    started(f"{scheme}://{settings.edge_host}:{settings.edge_port}")
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({running.server.task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await running.close()
    await private.end()
    telemetry.log().info("stopped")
