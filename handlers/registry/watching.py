"""One service at a time, held by its row: what was learnt of it, what is announced, what is kept.

Several processes look after the same services; whoever holds the row sees what the others did.
"""

from collections.abc import Callable
from datetime import datetime

from bus import telemetry
from bus.context import Context
from bus.database import Transaction
from handlers.registry import health, rules, store
from handlers.registry.health import Health, Watch
from schemas.problems import VersionConflict
from schemas.registry import Service

Learn = Callable[[Health], Health]


async def lock(tx: Transaction, name: str) -> tuple[Service | None, Watch | None]:
    """The service and its watch, held until the transaction ends."""
    row = await tx.row(store.LOCK, name)
    if row is None:
        return None, None
    columns = dict(row)
    watch = columns.pop("watch")
    return Service.model_validate(columns), Watch.model_validate(watch) if watch else None


async def keep(tx: Transaction, before: Service | None, after: Service, watch: Watch) -> Service:
    """Announce what is new, if anything is; the service as it is then."""
    event = rules.news(before, after)
    if event is not None:
        await tx.record(event)
        telemetry.log().info(type(event).name, service=after.name, status=after.status)
    row = watch.model_dump(mode="json") | {"service_id": after.id, "look_at": watch.look_at}
    await tx.execute(store.KEEP, row)
    return after if event is not None or before is None else before


async def learn(name: str, what: Learn, ctx: Context) -> None:
    """Weigh what was learnt of a service's health; remove one that has been unhealthy too long."""
    at = ctx.now()
    async with ctx.transaction() as tx:
        service, watch = await lock(tx, name)
        if service is None or service.status == "lost":
            return
        watch = watch or orphan(service, at)
        watch = watch.now(at, what(watch.health))
        if watch.removal is not None and at >= watch.removal:
            after, watch = (
                rules.removed(service, "It was unhealthy for too long.", at),
                watch.ended(at),
            )
        else:
            after = rules.shown(service, service, watch.health, at)
        await keep(tx, service, after, watch)


def orphan(service: Service, at: datetime) -> Watch:
    """The watch of a service of which none is kept: a registered one has lost its lease."""
    if service.owner_id is None:
        return Watch(health=Health(at=at))
    return Watch(health=Health(at=at), lease_until=at, remove_after_s=rules.ORPHAN_S)


async def look(name: str, observation: rules.Observation | None, ctx: Context) -> None:
    """Take down whether a service answers the roll call, and what it says of itself.

    Of several processes that see a new one first, one wins.
    """
    at = ctx.now()
    try:
        async with ctx.transaction() as tx:
            before, watch = await lock(tx, name)
            if before is None and observation is None:
                return
            if before is not None and before.owner_id is not None and before.status != "lost":
                return
            watch = watch or Watch(health=Health(at=at))
            service = rules.appeared(observation, before, at) if observation else before
            assert service is not None
            if observation is not None:
                watch = rules.checked_by_itself(service.metadata, watch, at)
            watch = watch.now(at, health.seen(watch.health, at, present=observation is not None))
            await keep(tx, before, rules.shown(service, before, watch.health, at), watch)
    except VersionConflict:
        return
