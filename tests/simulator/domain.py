"""A domain as small as can be that uses everything: entities, a reaction, a job, a timer."""

from typing import Any

from bus.context import Context
from schemas.contract import Entity, Event, Job, Operation, Reaction, Schema
from tests.simulator import store

STEPS = ("a", "b")
TIMER_S = 3.0


class Counter(Entity, table="simulated.counters"):
    """A value with a version."""

    value: str


class Made(Event, name="simulated.made"):
    """It is there."""

    counter: Counter


class Changed(Event, name="simulated.changed"):
    """It has another value."""

    counter: Counter


class Do(Job, name="simulated.do"):
    """Have the effects of a run outside, one after the other."""

    run: str
    key: str


class Fire(Job, name="simulated.fire"):
    """A timer is over."""

    key: str


class Create(Schema):
    """Make a counter."""

    value: str


class Change(Schema):
    """Give it another value."""

    id: str
    version: int
    value: str


class Read(Schema):
    """Show it."""

    id: str


create = Operation("simulated.create", Create, Counter, may="simulated:create", idempotent=True)
change = Operation("simulated.change", Change, Counter, may="simulated:update", idempotent=True)
read = Operation("simulated.read", Read, Counter, may="simulated:read")
start = Operation("simulated.start", Create, Counter, may="simulated:create", idempotent=True)
on_made = Reaction("simulated-see-made", Made)
on_changed = Reaction("simulated-see-changed", Changed)


async def handle_create(command: Create, ctx: Context) -> Counter:
    made = Counter(id=ctx.new_id(), version=1, value=command.value)
    async with ctx.transaction() as tx:
        await tx.record(Made(counter=made))
    return made


async def handle_change(command: Change, ctx: Context) -> Counter:
    changed = Counter(id=command.id, version=command.version + 1, value=command.value)
    async with ctx.transaction() as tx:
        await tx.record(Changed(counter=changed))
    return changed


async def handle_read(command: Read, ctx: Context) -> Counter:
    version, value = await ctx.database.row(store.READ, command.id)
    return Counter(id=command.id, version=version, value=value)


async def handle_start(command: Create, ctx: Context) -> Counter:
    made = Counter(id=ctx.new_id(), version=1, value=command.value)
    async with ctx.transaction() as tx:
        await tx.record(Made(counter=made))
        await tx.enqueue(Do(run=made.id, key=command.value))
        await tx.enqueue(Fire(key=command.value), delay_s=TIMER_S)
    return made


def sees(world: Any, durable: str) -> Any:
    """The handler of a reaction: counts each event, and fails now and then."""

    async def see(event: Any, ctx: Context) -> None:
        if world.happens("reaction fails"):
            raise RuntimeError("a fault of its own")
        async with ctx.transaction() as tx:
            await tx.execute(store.COUNT, durable, ctx.origin.causation_id)

    return see


def does(world: Any) -> Any:
    """The handler of the job: each effect under its key, then written down."""

    async def do(job: Do, ctx: Context) -> None:
        done = await ctx.database.row(store.STEPS, job.run)
        for step in STEPS:
            if step in done:
                continue
            await world.outside(f"{job.key}/{step}", f"{job.run}/{step}")
            async with ctx.transaction() as tx:
                await tx.execute(store.STEP_DONE, job.run, step)

    return do


async def fire(job: Fire, ctx: Context) -> None:
    """Claimed and fired in one transaction."""
    async with ctx.transaction() as tx:
        await tx.execute(store.FIRE, job.key)
