"""The life of a handlers process: open, subscribe, be ready, drain, close.

Starting waits for its servers (60 s at most, each wait logged). Ready means: subscribed, the
server has the subscriptions, the database answers. SIGTERM makes it not ready, lets what was
delivered finish, and ends with status 0.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from bus import faults, letters, lifecycle, passwords, reconciler, stopping, telemetry, tls
from bus.audit import Auditor
from bus.background import end, forever
from bus.broker import BusBroker
from bus.client import Client
from bus.clock import Clock
from bus.context import Platform
from bus.credentials import Signer, Verifier, ensure_signing_keys
from bus.database import Database
from bus.lifecycle import Health
from bus.micro import Announced
from bus.outbox import Relay
from bus.rights import Rights
from bus.service import Service, attach, own_context, sweeps
from bus.settings import Settings
from bus.statement import Statement
from schemas.problems import DependencyDown

PING = Statement("SELECT 1 AS one")
SILENT_S = 2.0


@dataclass
class Running:
    """A handlers process that answers."""

    platform: Platform
    broker: BusBroker
    health: Health


async def run(settings: Settings, services: Sequence[Service]) -> None:
    """Be a handlers process with these domains until told to stop."""
    telemetry.set_up(settings, "handlers")
    tls.check(settings, "handlers")
    faults.arm(settings.fault)
    stop = lifecycle.stop_signal()
    health = Health("handlers")
    server = await lifecycle.serve_health(health, Clock(), settings)
    async with answering(settings, services, health):
        lifecycle.keep_what_is_there()
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
    folder = lifecycle.secrets_folder(settings)
    ensure_signing_keys(folder)
    clock = Clock()
    database = Database(settings, clock)
    await lifecycle.wait_for("postgres", database.open)
    broker = BusBroker(settings, "handlers")
    await lifecycle.wait_for("nats", broker.connect)
    client = Client(broker.nats, clock)
    signer, sealer = Signer("handlers", folder), lifecycle.sealer(settings)
    rights = Rights(client, signer, clock, "handlers")
    auditor = Auditor(client, signer, clock, "handlers")
    platform = Platform(settings, clock, database, client, signer, sealer, rights, auditor)
    verifier = Verifier(folder)
    for service in services:
        attach(service, broker, platform, verifier)
    await start_all(services, platform)
    following = await rights.follow()  # from another process: who takes requests has to decide
    await broker.start()
    await rights.learn()  # from this one
    await stopping.listen(broker.nats, {service.name for service in services})
    auditor.start()
    settings.tell_reads(auditor.secret)
    announced = [Announced(broker.nats, service) for service in services]
    for announcement in announced:
        await announcement.start()
    background = [following, *in_background(services, platform)]
    health.probes = {
        "postgres": lambda: database.row(PING),
        "nats": lambda: broker.nats.flush(timeout=1),
        "grants": rights.ready,
    }
    try:
        yield Running(platform, broker, health)
    finally:
        await silence(announced)
        await auditor.flush()  # while this process still answers: it may be the one that writes
        await drain(broker, auditor, background, settings, partial(stop_all, services, platform))
        await database.close()


async def silence(announced: Iterable[Announced]) -> None:
    """Answer no roll call any more; while the bus is away, nobody hears of it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(SILENT_S):
            ends = await asyncio.gather(*(one.stop() for one in announced), return_exceptions=True)
            for failure in filter(None, ends):
                telemetry.log().warning("left the roll call untold", error=str(failure))


def in_background(services: Sequence[Service], platform: Platform) -> list[asyncio.Task[None]]:
    """Relay, reconciler, what is counted, and sweeps."""
    return [
        asyncio.create_task(Relay(platform).run()),
        asyncio.create_task(letters.Counter(platform).run()),
        asyncio.create_task(reconciler.run(platform)),
        asyncio.create_task(
            forever("passwords", partial(passwords.look_at_ages, platform), passwords.LOOK_EVERY_S)
        ),
        *(sweeping for service in services for sweeping in sweeps(service, platform)),
    ]


async def start_all(services: Sequence[Service], platform: Platform) -> None:
    """Run what the domains do once before they answer."""
    for service in services:
        for starter in service.starters:
            await starter(own_context(service, platform))


async def stop_all(services: Sequence[Service], platform: Platform) -> None:
    """Run what the domains do once they answer nothing any more."""
    for service in services:
        for ender in service.enders:
            await ender(own_context(service, platform))


async def drain(
    broker: BusBroker,
    auditor: Auditor,
    background: Sequence[asyncio.Task[Any]],
    settings: Settings,
    stop: Callable[[], Awaitable[None]],
) -> None:
    """Finish what was delivered; the relay runs to the last so that it can publish it."""
    with contextlib.suppress(TimeoutError, DependencyDown):
        async with asyncio.timeout(settings.drain.total_seconds()):
            await broker.finish()
            await stop()
    await auditor.close()
    await end(background)
    await broker.stop()
