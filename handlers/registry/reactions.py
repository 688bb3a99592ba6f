"""Asking the bus every 3 s who is there, checking who asks to be checked, counting calls that fail.

Every process calls the roll; what it sees it takes down in `watching`, where what another process
has seen already changes nothing. A round in which nobody at all answers, not even this process,
says nothing about the services and is not counted. A check is done by the process that takes it.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import orjson
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from bus import envelope, outside, telemetry
from bus.context import Context
from bus.subjects import outside_inbox
from handlers.registry import calls, health, rules, service, shelf, store, watching
from schemas.contract import Event
from schemas.registry import (
    Service,
    ServiceAppeared,
    ServiceChanged,
    ServiceHealthChanged,
    ServiceLost,
)
from schemas.tools import InvocationFailed, InvocationSucceeded, ToolChanged, ToolRegistered

ROUND_EVERY_S = 3.0
ANSWERS_WITHIN_S = 0.3
ANSWERS_MAX = rules.INSTANCES_MAX
ANSWERS_BYTES_MAX = 64 * 1024 * 1024
ASK = "$SRV.INFO"
CHECK_ROUND_S = 1.0
CHECK_WITHIN_S = 5.0
CHECKS_MAX = 200
DUE_MAX = 500
REBUILD_EVERY_S = 1.0
NEWS: tuple[type[Event], ...] = (
    ServiceAppeared, ServiceChanged, ServiceHealthChanged, ServiceLost, ToolRegistered, ToolChanged,
)  # fmt: skip
ENDS: tuple[type[Event], ...] = (InvocationSucceeded, InvocationFailed)


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
    present = await read_known(list(observed), ctx)
    for name in to_look_at(observed, present, ctx.now()):
        await watching.look(name, observed.get(name), ctx)


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


async def read_known(observed: list[str], ctx: Context) -> dict[str, bool]:
    """Read the services again that were changed; tells which were there when last looked at."""
    rows = await ctx.database.rows(store.LOOKED_FOR, observed, 2 * rules.SERVICES_MAX)
    versions = {row["name"]: row["version"] for row in rows}
    known = {n: s for n, s in watch.known.items() if versions.get(n) == s.version}
    stale = [name for name in versions if name not in known]
    if stale:
        fresh = await ctx.database.rows(store.NAMED, stale)
        known |= {row["name"]: Service.model_validate(dict(row)) for row in fresh}
    watch.known = known
    return {row["name"]: row["present"] for row in rows}


def to_look_at(
    observed: dict[str, rules.Observation], present: dict[str, bool], at: datetime
) -> list[str]:
    """Services of which something is new: they came, went, or say something else of themselves."""
    found = list[str]()
    for name, observation in observed.items():
        before = watch.known.get(name)
        if before is None or before.status == "lost":
            found.append(name)
        elif before.owner_id is None:
            after = rules.appeared(observation, before, at)
            if not present[name] or rules.differs(before, after):
                found.append(name)
    if watch.round >= rules.SILENT_ROUNDS_MAX:
        found += [
            name
            for name, before in watch.known.items()
            if name not in observed and before.owner_id is None and present[name]
        ]
    return found


@service.every(ROUND_EVERY_S)
async def look_after(ctx: Context) -> None:
    """Take down how calls went, and what time alone has changed."""
    for name, (good, bad) in calls.taken().items():
        await watching.learn(
            name, partial(health.called, at=ctx.now(), good=good, bad=bad), ctx
        )  # fmt: skip
    for row in await ctx.database.rows(store.DUE, ctx.now(), DUE_MAX):
        await watching.learn(row["name"], partial(health.passed, at=ctx.now()), ctx)


@service.every(CHECK_ROUND_S)
async def check(ctx: Context) -> None:
    """Ask those whose time it is, all at once."""
    due = await ctx.database.rows(store.TAKE_CHECKS, ctx.now(), CHECKS_MAX)
    await asyncio.gather(*(check_one(row["name"], row["health_subject"], ctx) for row in due))


async def check_one(name: str, subject: str, ctx: Context) -> None:
    """Ask one; when the bus itself is away, nothing was learnt."""
    try:
        reply = await outside.request(ctx.platform.connection, subject, b"", {}, CHECK_WITHIN_S)
        well = envelope.ERROR not in (reply.headers or {})
    except (NoRespondersError, TimeoutError):
        well = False
    except (NatsError, OSError):
        return
    await watching.learn(name, partial(health.checked, at=ctx.now(), well=well), ctx)


@service.starts
async def listen_to_calls(ctx: Context) -> None:
    """Count how calls of tools end; of all processes one hears of each."""

    async def heard(message: Msg) -> None:
        invocation = orjson.loads(message.data)["invocation"]
        provider = (await shelf.current(ctx)).provider_of(invocation["tool_name"])
        if provider is not None:
            calls.count(provider, well=not rules.to_blame(invocation["error"]))

    for event in ENDS:
        subject = f"{event.subject_root()}.*"
        await ctx.platform.connection.subscribe(subject, queue=service.name, cb=heard)


@service.every(REBUILD_EVERY_S)
async def keep_shelf(ctx: Context) -> None:
    """Make the index anew when something has changed, so that nobody who searches waits for it."""
    await shelf.refresh(ctx)


@service.starts
async def listen_for_news(ctx: Context) -> None:
    """In every process, without a queue group: each has its own index."""
    shelf.empty()

    async def heard(_: Msg) -> None:
        shelf.outdated()

    for event in NEWS:
        await ctx.platform.connection.subscribe(f"{event.subject_root()}.*", cb=heard)
