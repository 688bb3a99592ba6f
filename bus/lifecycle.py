"""What every process has, whether it answers on the bus or on HTTP: waiting, health, stopping.

A private port answers `/health/live`, `/health/ready`, `/health` and `/metrics`; live never asks
a server, ready does, at most once a second.
"""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn
from nats.errors import Error as NatsError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bus import telemetry, tls
from bus.clock import Clock
from bus.sealing import Sealer
from bus.settings import Settings
from schemas.contract import Problem

WAIT_FOR_SERVERS_S = 60.0
WAIT_STEP_S = 0.5
PROBE_S = 1.0
COLLECT_AFTER = (20_000, 20, 50)
"""How many new objects, young and middle-aged passes make the collector look at each generation."""


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
    except Exception:
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

    async def listening(self) -> None:
        """Whether the port is ours and open.

        Raises:
            ConnectionRefusedError: It is not, or not yet.
        """
        if not self.started or self.task.done():
            raise ConnectionRefusedError

    async def end(self) -> None:
        """Stop serving."""
        self.should_exit = True
        await self.task


async def serve_health(health: Health, clock: Clock, settings: Settings) -> PrivateServer:
    """Serve the private port on loopback."""
    app = Starlette(routes=health_routes(health, clock))
    config = uvicorn.Config(
        app, "127.0.0.1", settings.health_port, log_config=None, access_log=False,
        **tls.serving(settings, "metrics"),
    )  # fmt: skip
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
        except (OSError, NatsError, Problem, TimeoutError) as closed:
            if time.monotonic() > until:
                telemetry.log().error("gave up", waiting_for=name, error=str(closed))
                raise SystemExit(1) from None
            telemetry.log().info("waiting", waiting_for=name, error=str(closed))
            await asyncio.sleep(WAIT_STEP_S)


def secrets_folder(settings: Settings) -> Path:
    """Where the signing keys are."""
    return settings.secrets or settings.data / "secrets"


def sealer(settings: Settings) -> Sealer:
    """What seals stored values, with the master keys that are provided, or those in the file."""
    if settings.master_key is None:
        return Sealer.of(secrets_folder(settings))
    return Sealer(lambda: settings.again("master_key") or "")


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    event = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, event.set)
    return event


def keep_what_is_there() -> None:
    """Let the garbage collector pass over what a process has loaded, and look less often.

    A thousand models and their modules stay for good; a full pass over them holds every request
    up (280 ms were measured on two busy cores).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
