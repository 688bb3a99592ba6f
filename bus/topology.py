"""Streams, consumers and buckets as data; `plan` shows what differs on the server, `apply` mends.

    EVENTS  evt.>    what happened; 7 days of delivery copy, deny delete and purge
    JOBS    job.>    work queue; a full one refuses instead of dropping
    LIVE    live.>   tokens, in memory, minutes
    DEAD    dead.>   given up, and the server's advisories about it
    REPLAY  replay.> what happened, played again; a day, so that a replay knows how far it got

No stream may cover `req.>`: it would answer requests with its own acknowledgement. Subscribers
only bind to what stands here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    ObjectStoreConfig,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from schemas.contract import Job, Operation, Reaction

DAY_S = 86_400
ACK_WAIT_S = 10
MESSAGE_BYTES_MAX = 1024 * 1024
UPLOADS = "documents-uploads"
UPLOAD_LIFE_S = 3600
UPLOADS_BYTES_MAX = 1024**3

STREAMS: tuple[StreamConfig, ...] = (
    StreamConfig(
        name="EVENTS",
        subjects=["evt.>"],
        max_age=7 * DAY_S,
        max_bytes=8 * 1024**3,
        deny_delete=True,
        deny_purge=True,
        duplicate_window=600,
        max_msg_size=MESSAGE_BYTES_MAX,
        discard=DiscardPolicy.OLD,
    ),
    StreamConfig(
        name="JOBS",
        subjects=["job.>"],
        retention=RetentionPolicy.WORK_QUEUE,
        max_msgs=1_000_000,
        max_bytes=2 * 1024**3,
        duplicate_window=600,
        max_msg_size=MESSAGE_BYTES_MAX,
        discard=DiscardPolicy.NEW,
    ),
    StreamConfig(
        name="LIVE",
        subjects=["live.>"],
        storage=StorageType.MEMORY,
        max_age=900,
        duplicate_window=120,
        max_bytes=128 * 1024**2,
        discard=DiscardPolicy.OLD,
    ),
    StreamConfig(
        name="DEAD",
        subjects=[
            "dead.>",
            "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>",
        ],
        max_age=30 * DAY_S,
        max_bytes=1024**3,
        duplicate_window=600,
        discard=DiscardPolicy.OLD,
    ),
    StreamConfig(
        name="REPLAY",
        subjects=["replay.>"],
        max_age=DAY_S,
        max_bytes=512 * 1024**2,
        duplicate_window=600,
        max_msg_size=MESSAGE_BYTES_MAX,
        discard=DiscardPolicy.OLD,
    ),
)

BUCKETS: tuple[ObjectStoreConfig, ...] = (
    ObjectStoreConfig(bucket=UPLOADS, ttl=UPLOAD_LIFE_S, max_bytes=UPLOADS_BYTES_MAX),
)


@dataclass(frozen=True)
class Consumer:
    """A durable pull consumer."""

    stream: str
    durable: str
    subject: str

    def config(self) -> ConsumerConfig:
        """Explicit acknowledgement, unlimited deliveries: failures are counted in Postgres."""
        return ConsumerConfig(
            durable_name=self.durable,
            filter_subject=self.subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=1000,
            deliver_policy=DeliverPolicy.ALL,
        )


def consumers(
    reactions: Iterable[Reaction],
    jobs: Iterable[type[Job]],
    operations: Iterable[Operation[Any, Any]],
) -> tuple[Consumer, ...]:
    """Every durable consumer that the catalogue asks for."""
    return (
        *(Consumer("EVENTS", r.durable, r.subject) for r in reactions),
        *(Consumer("JOBS", job.durable(), job.subject()) for job in jobs),
        *(
            Consumer("JOBS", o.name.replace(".", "-"), f"job.{o.name}")
            for o in operations
            if o.kind == "task"
        ),
    )


@dataclass(frozen=True)
class Change:
    """One difference between the data and the server."""

    action: Literal["create", "update", "delete"]
    kind: Literal["stream", "consumer", "bucket"]
    name: str
    fields: tuple[str, ...] = ()


async def plan(
    jetstream: JetStreamContext, wanted: Iterable[Consumer], replicas: int
) -> list[Change]:
    """What `apply` would do."""
    wanted = tuple(wanted)
    changes = [c for s in STREAMS if (c := await stream_change(jetstream, s, replicas))]
    changes += [
        Change("create", "bucket", str(bucket.bucket))
        for bucket in BUCKETS
        if await found(jetstream.stream_info(f"OBJ_{bucket.bucket}")) is None
    ]
    for consumer in wanted:
        info = await found(jetstream.consumer_info(consumer.stream, consumer.durable))
        name = f"{consumer.stream}/{consumer.durable}"
        if info is None:
            changes.append(Change("create", "consumer", name))
        elif fields := differing(consumer.config(), info.config):
            changes.append(Change("update", "consumer", name, fields))
    return changes + await unwanted(jetstream, wanted)


async def unwanted(jetstream: JetStreamContext, wanted: Iterable[Consumer]) -> list[Change]:
    """Consumers of our domains that nothing asks for any more; those of others are not ours."""
    names = {(c.stream, c.durable) for c in wanted}
    domains = {durable.partition("-")[0] for _, durable in names}
    changes = []
    for stream in sorted({stream for stream, _ in names}):
        for info in await found(jetstream.consumers_info(stream)) or ():
            durable = info.config.durable_name or ""
            if durable.partition("-")[0] in domains and (stream, durable) not in names:
                changes.append(Change("delete", "consumer", f"{stream}/{durable}"))
    return changes


async def apply(
    jetstream: JetStreamContext, wanted: Iterable[Consumer], replicas: int, *, prune: bool = False
) -> list[Change]:
    """Make the server hold this; returns what was changed.

    What is not wanted any more goes only with `prune`: while processes of an older version run,
    they still pull from it.
    """
    wanted = tuple(wanted)
    changes = await plan(jetstream, wanted, replicas)
    if not prune:
        changes = [change for change in changes if change.action != "delete"]
    named = {f"{c.stream}/{c.durable}": c for c in wanted}
    for change in changes:
        if change.kind == "stream":
            [config] = [s for s in STREAMS if s.name == change.name]
            config = replace(config, num_replicas=replicas)
            make = jetstream.add_stream if change.action == "create" else jetstream.update_stream
            await make(config)
        elif change.kind == "bucket":
            [bucket] = [b for b in BUCKETS if b.bucket == change.name]
            await jetstream.create_object_store(
                str(bucket.bucket), replace(bucket, replicas=replicas)
            )
        elif change.action == "delete":
            await jetstream.delete_consumer(*change.name.split("/"))
        else:
            consumer = named[change.name]
            await jetstream.add_consumer(consumer.stream, consumer.config())
    return changes


async def stream_change(
    jetstream: JetStreamContext, config: StreamConfig, replicas: int
) -> Change | None:
    """The difference of one stream, if any."""
    name = str(config.name)
    info = await found(jetstream.stream_info(name))
    if info is None:
        return Change("create", "stream", name)
    fields = differing(replace(config, num_replicas=replicas), info.config)
    return Change("update", "stream", name, fields) if fields else None


async def found(asking: Any) -> Any:
    """The answer, or None if there is no such thing."""
    try:
        return await asking
    except NotFoundError:
        return None


def differing(wanted: Any, there: Any) -> tuple[str, ...]:
    """Names of the fields that we set and that the server holds differently."""
    return tuple(
        name
        for name, value in vars(wanted).items()
        if value is not None and value != getattr(there, name) and not same_set(value, there, name)
    )


def same_set(value: Any, there: Any, name: str) -> bool:
    """Whether two lists differ only in order."""
    other = getattr(there, name)
    return isinstance(value, list) and isinstance(other, list) and sorted(value) == sorted(other)
