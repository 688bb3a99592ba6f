"""The life of one process on the bus: open, subscribe, be ready, drain, close.

Starting waits for its servers (60 s at most, each wait logged). Ready means: subscribed, the
server has the subscriptions, the database answers. SIGTERM makes it not ready, lets what was
delivered finish, and ends with status 0. A private port answers `/health/live`, `/health/ready`,
`/health` and `/metrics`.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import uvicorn
from nats.errors import Error as NatsError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bus import faults, reconciler, telemetry
from bus.broker import BusBroker
from bus.client import Client
from bus.clock import Clock
from bus.context import Platform
from bus.credentials import Signer, Verifier, ensure_signing_keys
from bus.database import Database
from bus.micro import Announced
from bus.outbox import Relay
from bus.service import Service, attach, own_context, sweep
from bus.settings import Settings
from bus.statement import Statement
from schemas.contract import Problem

WAIT_FOR_SERVERS_S = 60.0
WAIT_STEP_S = 0.5
PROBE_S = 1.0
PING = Statement("SELECT 1 AS one")


class Health:
    """What the private port says. `ready` asks the servers, at most once a second."""

    def __init__(self, process: str) -> None:
        self.process = process
        self.draining = False
        self.probes: dict[str, Callable[[], Awaitable[Any]]] = {}
        self._seen: tuple[float, dict[str, bool]] = (0.0, {})

    async def parts(self) -> dict[str, bool]:
        """Every server that this process needs, and whether it answers."""
        asked, parts = self._seen
        if time.monotonic() - asked > PROBE_S:
            parts = {name: await answers(probe) for name, probe in self.probes.items()}
            self._seen = (time.monotonic(), parts)
        return parts

    async def ready(self) -> bool:
        """Whether requests may come."""
        return not self.draining and bool(self.probes) and all((await self.parts()).values())


async def answers(probe: Callable[[], Awaitable[Any]]) -> bool:
    """Whether the probe succeeds within a second."""
    try:
        async with asyncio.timeout(PROBE_S):
            await probe()
    except (TimeoutError, Problem, OSError, NatsError, asyncpg.PostgresError):
        return False
    return True


def health_body(status: str, at: str, **more: Any) -> dict[str, Any]:
    """The body of every health answer."""
    return {"status": status, "timestamp": at, **more}


def health_routes(health: Health, clock: Clock) -> list[Route]:
    """`/health/live`, `/health/ready`, `/health` and `/metrics`."""

    def at() -> str:
        return clock.now().isoformat(timespec="seconds").replace("+00:00", "Z")

    async def live(_: Request) -> Response:
        return JSONResponse(health_body("healthy", at()))

    async def ready(_: Request) -> Response:
        ok = await health.ready()
        body = health_body("healthy" if ok else "unhealthy", at())
        return JSONResponse(body, 200 if ok else 503)

    async def detailed(_: Request) -> Response:
        ok, parts = await health.ready(), await health.parts()
        named = {name: "healthy" if up else "unhealthy" for name, up in parts.items()}
        body = health_body(
            "healthy" if ok else "unhealthy", at(), process=health.process, parts=named
        )
        return JSONResponse(body, 200 if ok else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return [
        Route("/health/live", live),
        Route("/health/ready", ready),
        Route("/health", detailed),
        Route("/metrics", metrics),
    ]


class PrivateServer(uvicorn.Server):
    """uvicorn in the background, without its own signal handlers: the process has them."""

    task: asyncio.Task[None]

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the signals alone."""
        yield

    async def end(self) -> None:
        """Stop serving."""
        self.should_exit = True
        await self.task


async def serve_health(health: Health, clock: Clock, port: int) -> PrivateServer:
    """Serve the private port on loopback; 0 picks a free one."""
    app = Starlette(routes=health_routes(health, clock))
    config = uvicorn.Config(app, "127.0.0.1", port, log_config=None, access_log=False)
    server = PrivateServer(config)
    server.task = asyncio.create_task(server.serve())
    return server


async def wait_for(name: str, opening: Callable[[], Awaitable[Any]]) -> None:
    """Try again until it opens; gives up after 60 s.

    Raises:
        SystemExit: It did not open in time.
    """
    until = time.monotonic() + WAIT_FOR_SERVERS_S
    while True:
        try:
            await opening()
            return
        except (OSError, NatsError, asyncpg.PostgresError, Problem, TimeoutError) as closed:
            if time.monotonic() > until:
                telemetry.log().error("gave up", waiting_for=name, error=str(closed))
                raise SystemExit(1) from None
            telemetry.log().info("waiting", waiting_for=name, error=str(closed))
            await asyncio.sleep(WAIT_STEP_S)


def secrets_folder(settings: Settings) -> Path:
    """Where the signing keys are."""
    return settings.secrets or settings.data / "secrets"


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


@dataclass
class Running:
    """A handlers process that answers."""

    platform: Platform
    broker: BusBroker
    health: Health


async def run(settings: Settings, services: Sequence[Service]) -> None:
    """Be a handlers process with these domains until told to stop."""
    telemetry.set_up(settings, "handlers")
    faults.arm(settings.fault)
    stop = stop_signal()
    health = Health("handlers")
    server = await serve_health(health, Clock(), settings.health_port)
    async with answering(settings, services, health):
        telemetry.log().info("ready", services=[service.name for service in services])
        await stop.wait()
        health.draining = True
        telemetry.log().info("draining")
    await server.end()
    telemetry.log().info("stopped")


@asynccontextmanager
async def answering(
    settings: Settings, services: Sequence[Service], health: Health
) -> AsyncIterator[Running]:
    """These domains, on the bus while the block runs; then drained."""
    folder = secrets_folder(settings)
    ensure_signing_keys(folder)
    clock = Clock()
    database = Database(settings, clock)
    await wait_for("postgres", database.open)
    broker = BusBroker(settings, "handlers")
    await wait_for("nats", broker.connect)
    client = Client(broker.nats, clock)
    platform = Platform(settings, clock, database, client, Signer("handlers", folder))
    verifier = Verifier(folder)
    for service in services:
        attach(service, broker, platform, verifier)
    await start_all(services, platform)
    await broker.start()
    announced = [Announced(broker.nats, service) for service in services]
    for announcement in announced:
        await announcement.start()
    background = in_background(services, platform)
    health.probes = {
        "postgres": lambda: database.row(PING),
        "nats": lambda: broker.nats.flush(timeout=1),
    }
    try:
        yield Running(platform, broker, health)
    finally:
        for announcement in announced:
            await announcement.stop()
        await drain(broker, background, settings)
        await database.close()


def in_background(services: Sequence[Service], platform: Platform) -> list[asyncio.Task[None]]:
    """Relay, reconciler and sweeps."""
    return [
        asyncio.create_task(Relay(platform).run()),
        asyncio.create_task(reconciler.run(platform)),
        *(asyncio.create_task(sweep(service, platform)) for service in services),
    ]


async def start_all(services: Sequence[Service], platform: Platform) -> None:
    """Run what the domains do once before they answer."""
    for service in services:
        for starter in service.starters:
            await starter(own_context(service, platform))


async def drain(
    broker: BusBroker, background: Sequence[asyncio.Task[Any]], settings: Settings
) -> None:
    """Finish what was delivered; the relay runs to the last so that it can publish it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(settings.drain.total_seconds()):
            await broker.finish()
    for task in background:
        task.cancel()
    await asyncio.gather(*background, return_exceptions=True)
    await broker.stop()
