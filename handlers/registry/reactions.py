"""Asking the bus every 3 s who is there, and recording what changed.

Every process asks; of several that see the same change one wins, because a service's version can
be written once. A round in which nobody at all answers, not even this process, says nothing about
the services and is not counted.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from nats.aio.client import Client as Connection
from nats.aio.msg import Msg

from bus import telemetry
from bus.context import Context
from bus.subjects import outside_inbox
from handlers.registry import rules, service, store
from schemas.contract import Event
from schemas.problems import VersionConflict
from schemas.registry import Service, ServiceAppeared, ServiceChanged, ServiceLost

ROUND_EVERY_S = 3.0
ANSWERS_WITHIN_S = 0.3
ANSWERS_MAX = rules.INSTANCES_MAX
ANSWERS_BYTES_MAX = 64 * 1024 * 1024
ASK = "$SRV.INFO"


@dataclass
class Watch:
    """What this process has seen: who answered when, and the services as they were last read."""

    round: int = 0
    sightings: dict[str, rules.Sighting] = field(default_factory=dict)
    known: dict[str, Service] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)


watch = Watch()


@service.starts
async def forget_everything(_: Context) -> None:
    """A process that starts has seen nobody yet."""
    watch.round, watch.sightings, watch.known, watch.refused = 0, {}, {}, set()


@service.every(ROUND_EVERY_S)
async def look_around(ctx: Context) -> None:
    """One round."""
    instances = believed(await ask_all(ctx.platform.connection))
    if not instances:
        return
    watch.round += 1
    watch.sightings = rules.seen(watch.sightings, instances, watch.round)
    observed = rules.observe(watch.sightings.values())
    await read_known(ctx)
    for event in changes(observed, ctx):
        await record(event, ctx)


async def ask_all(connection: Connection) -> list[bytes]:
    """Every answer that comes within 300 ms, up to limits of number and bytes."""
    answers: list[bytes] = []
    room = ANSWERS_BYTES_MAX

    async def keep(message: Msg) -> None:
        nonlocal room
        room -= len(message.data)
        if room > 0 and len(answers) < ANSWERS_MAX:
            answers.append(message.data)

    inbox = outside_inbox()
    subscription = await connection.subscribe(inbox, cb=keep)
    try:
        await connection.publish(ASK, b"", reply=inbox)
        await asyncio.sleep(ANSWERS_WITHIN_S)
    finally:
        await subscription.unsubscribe()
    return answers


def believed(answers: Iterable[bytes]) -> list[rules.Instance]:
    """The answers that are of the protocol's form; others are logged, each reason once."""
    found: list[rules.Instance] = []
    for data in answers:
        try:
            found.append(rules.parse(data))
        except rules.Malformed as reason:
            refuse(str(reason), data)
    return found


def refuse(reason: str, data: bytes) -> None:
    """Log an answer that is not believed."""
    if reason not in watch.refused:
        watch.refused.add(reason)
        telemetry.log().warning(
            "service answer refused", reason=reason, begins=repr(data[:120]), bytes=len(data)
        )


async def read_known(ctx: Context) -> None:
    """Read the services again that another process has changed."""
    rows = await ctx.database.rows(store.VERSIONS, rules.SERVICES_MAX)
    versions = {row["name"]: row["version"] for row in rows}
    known = {n: s for n, s in watch.known.items() if versions.get(n) == s.version}
    stale = [name for name in versions if name not in known]
    if stale:
        fresh = await ctx.database.rows(store.NAMED, stale)
        known |= {row["name"]: Service.model_validate(dict(row)) for row in fresh}
    watch.known = known


def changes(observed: dict[str, rules.Observation], ctx: Context) -> list[Event]:
    """What is to be recorded."""
    found: list[Event] = []
    for name, observation in observed.items():
        before = watch.known.get(name)
        after = rules.appeared(observation, before, ctx.now())
        if before is None or before.status == "lost":
            found.append(ServiceAppeared(service=after))
        elif rules.differs(before, after):
            found.append(ServiceChanged(service=after))
    if watch.round >= rules.SILENT_ROUNDS_MAX:
        found.extend(
            ServiceLost(service=rules.lost(known, ctx.now()))
            for name, known in watch.known.items()
            if name not in observed and known.status == "ready"
        )
    return found


async def record(event: Event, ctx: Context) -> None:
    """Record it, unless another process was faster."""
    try:
        async with ctx.transaction() as tx:
            await tx.record(event)
    except VersionConflict:
        return
    telemetry.log().info(type(event).name, service=event.entity.id)
