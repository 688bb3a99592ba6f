"""The platform's events as one ordered feed inside this process, shared by all who watch.

    stream EVENTS ──one ordered consumer──► Feed ──► ring of the last 4096
                                              └────► every Watch that the event fits

An event is parsed once and written as JSON once per topic, however many watch. A position is the
stream's incarnation and a sequence, `<epoch>-<seq>`; a watch that names one is first brought up
to date, from the ring or by a short-lived consumer, and joins without losing or doubling a
single event, or it is told of a gap. A supervisor replaces the consumer whenever it falls behind.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import orjson
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError

from bus import envelope, telemetry
from edge import topics
from schemas.problems import Malformed, Unavailable

STREAM = "EVENTS"
SUBJECT = "evt.>"
RING_MAX = 4096
RING_BYTES_MAX = 32 * 1024 * 1024
SUPERVISE_S = 2.0
REPLAY_BATCH = 256
REPLAY_WAIT_S = 5.0
REPLAY_EVENTS_MAX = 100_000
CLOSE_ENOUGH = 64
POSITION_MAX = 40
AHEAD_S = 2.0
AHEAD_STEP_S = 0.02
FACTS = (
    "owner_id", "goal_id", "agent_id", "task_id", "run_id", "document_id", "name", "tool_name",
    "assignee_id", "for_role",
)  # fmt: skip
BROKEN = (NatsError, JetStreamError, TimeoutError, OSError)


@dataclass(slots=True)
class Happened:
    """One event as it came from the stream."""

    seq: int
    position: str
    type: str
    facts: dict[str, str]
    topics: tuple[str, ...]
    head: bytes
    data: bytes
    _frames: dict[str, str] = field(default_factory=dict)

    def frame(self, topic: str) -> str:
        """The JSON that watchers of a topic get; made once."""
        frame = self._frames.get(topic)
        if frame is None:
            text = b'{"op":"event","topic":"%s",%s,"data":%s}' % (
                topic.encode(), self.head, self.data,
            )  # fmt: skip
            frame = self._frames[topic] = text.decode()
        return frame


@dataclass(eq=False, slots=True)
class Watch:
    """Somebody's interest: topics, a filter, where the frames go, and what may be seen."""

    topics: set[str]
    wanted: dict[str, str]
    put: Callable[[str, Happened], None]
    sees: Callable[[Happened], bool]

    def topic_for(self, happened: Happened) -> str | None:
        """The topic under which this watch gets the event; None if it does not fit."""
        for topic in happened.topics:
            if topic in self.topics:
                fits = topics.fits(self.wanted, happened.facts) and self.sees(happened)
                return topic if fits else None
        return None


class Feed:
    """One per process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watches: set[Watch] = set()
        self._ring: deque[Happened] = deque()
        self._ring_bytes = 0
        self._subscription: Any = None
        self._new_epoch: list[Callable[[str], None]] = []
        self._followed: dict[str, Callable[[str, bytes], None]] = {}
        self.epoch = 0
        self.seq = 0
        self._looked_at = 0

    @property
    def position(self) -> str:
        """Where the feed is now."""
        return f"{self.epoch}-{self.seq}"

    def on_events_of(self, domain: str, tell: Callable[[str, bytes], None]) -> None:
        """Call `tell` with type and body of a domain's events, before any socket hears of them."""
        self._followed[f"{domain}."] = tell

    def on_new_epoch(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the old position when the stream has been made anew."""
        self._new_epoch.append(tell)

    async def start(self) -> None:
        """Begin at the stream's end."""
        info = await self._connection.jetstream().stream_info(STREAM)
        self.epoch = int(info.created.timestamp() * 1000) if info.created else 0
        self.seq = info.state.last_seq
        await self._subscribe()

    async def supervise(self) -> None:
        """Replace the consumer when it is behind and has not moved since the last look."""
        before, self._looked_at = self._looked_at, self.seq
        info = await self._connection.jetstream().stream_info(STREAM)
        epoch = int(info.created.timestamp() * 1000) if info.created else 0
        if epoch != self.epoch or info.state.last_seq < self.seq:
            await self._begin_again(epoch, info.state.last_seq)
        elif self.seq == before < info.state.last_seq:
            telemetry.log().warning("event feed resumes", behind=self.seq)
            await self._subscribe()

    async def _begin_again(self, epoch: int, seq: int) -> None:
        old = self.position
        telemetry.log().warning("the event stream was made anew", old=old, epoch=epoch)
        self.epoch, self.seq = epoch, seq
        self._ring.clear()
        self._ring_bytes = 0
        await self._subscribe()
        for tell in self._new_epoch:
            tell(old)

    async def _subscribe(self) -> None:
        if self._subscription is not None:
            with contextlib.suppress(*BROKEN):
                await self._subscription.unsubscribe()
        self._subscription = await self._connection.jetstream().subscribe(
            SUBJECT,
            stream=STREAM,
            ordered_consumer=True,
            cb=self._take,
            config=ConsumerConfig(
                name=f"edge-{uuid4().hex}",  # unnamed, the right to make it could change any other
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self.seq + 1,
            ),
        )  # fmt: skip

    async def _take(self, message: Msg) -> None:
        if message.metadata.sequence.stream <= self.seq:
            return  # a replaced consumer's last words
        happened = self.read(message)
        self.seq = happened.seq
        self._ring.append(happened)
        self._ring_bytes += len(happened.data)
        while len(self._ring) > RING_MAX or self._ring_bytes > RING_BYTES_MAX:
            self._ring_bytes -= len(self._ring.popleft().data)
        for domain, tell in self._followed.items():
            if happened.type.startswith(domain):
                tell(happened.type, happened.data)
        for watch in tuple(self._watches):
            topic = watch.topic_for(happened)
            if topic is not None:
                watch.put(topic, happened)

    def read(self, message: Msg) -> Happened:
        """Read one message of the stream; what is sent again for one consumer is nobody's news."""
        headers = message.headers or {}
        seq = message.metadata.sequence.stream
        kind = headers.get("ce-type", "")
        carried = () if envelope.LETTER_TO in headers else topics.of_type(kind)
        head = {
            "seq": seq, "position": f"{self.epoch}-{seq}", "type": kind,
            "id": headers.get("ce-id"), "ts": headers.get("ce-time"),
            "category": headers.get("ce-category"), "actor": headers.get("ce-actor"),
            "entity_id": headers.get("ce-subject"),
            "correlation_id": headers.get(envelope.CORRELATION_ID),
        }  # fmt: skip
        return Happened(
            seq, f"{self.epoch}-{seq}", kind, facts_of(headers, message.data),
            carried, orjson.dumps(head)[1:-1], message.data,
        )  # fmt: skip

    def add(self, watch: Watch) -> None:
        """From the next event on."""
        self._watches.add(watch)

    def remove(self, watch: Watch) -> None:
        """No more."""
        self._watches.discard(watch)

    async def catch_up(self, since: str) -> AsyncIterator[Happened]:
        """Everything behind `since`, to the feed's own position or nearly.

        The caller sends each, and then calls `rest` and `add` without waiting in between.

        Raises:
            Gap: The stream does not hold everything behind `since`.
        """
        seq = self.parse(since)
        await self._reach(seq)
        while self.seq - seq > CLOSE_ENOUGH:
            held = self._held_after(seq)
            if held is not None:
                for happened in held:
                    yield happened
                    seq = happened.seq
            else:
                async for happened in self._replay(seq):
                    yield happened
                    seq = happened.seq

    async def _reach(self, seq: int) -> None:
        """Another edge process may have shown an event that is on its way to this one."""
        until = asyncio.get_running_loop().time() + AHEAD_S
        while seq > self.seq:
            if asyncio.get_running_loop().time() > until:
                raise Gap(f"{self.epoch}-{seq}", self.position)
            await asyncio.sleep(AHEAD_STEP_S)

    def rest(self, since: str) -> list[Happened]:
        """The last few behind `since`, at once."""
        held = self._held_after(self.parse(since))
        if held is None:
            raise Gap(since, self.position)
        return held

    def parse(self, since: str) -> int:
        """The sequence of a position.

        Raises:
            Malformed: It is no position.
            Gap: It belongs to another incarnation of the stream.
        """
        epoch, _, seq = since.rpartition("-")
        if not (since.isascii() and seq.isdigit() and (epoch.isdigit() or not epoch)):
            raise Malformed("Not a position of the event stream.", since=since[:80])
        if len(since) > POSITION_MAX or (epoch and int(epoch) != self.epoch):
            raise Gap(since, self.position)
        return int(seq)

    def _held_after(self, seq: int) -> list[Happened] | None:
        """What the ring holds behind `seq`; None when it begins later."""
        if seq == self.seq:
            return []
        if not self._ring or self._ring[0].seq > seq + 1:
            return None
        return [happened for happened in self._ring if happened.seq > seq]

    async def _replay(self, seq: int) -> AsyncIterator[Happened]:
        """From the stream itself, from behind `seq` to where the feed is now."""
        until, jetstream = self.seq, self._connection.jetstream()
        try:
            info = await jetstream.stream_info(STREAM)
            if info.state.first_seq > seq + 1 or until - seq > REPLAY_EVENTS_MAX:
                raise Gap(f"{self.epoch}-{seq}", self.position)
            consumer = await jetstream.pull_subscribe(
                SUBJECT, stream=STREAM, config=ConsumerConfig(
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=seq + 1,
                    ack_policy=AckPolicy.NONE, inactive_threshold=30, mem_storage=True,
                ),
            )  # fmt: skip
            try:
                while seq < until:
                    for message in await consumer.fetch(REPLAY_BATCH, timeout=REPLAY_WAIT_S):
                        happened = self.read(message)
                        if happened.seq > until:
                            return
                        yield happened
                        seq = happened.seq
            finally:
                await consumer.unsubscribe()
        except BROKEN as broken:
            raise Unavailable("The events cannot be replayed now.") from broken


class Gap(Exception):
    """What was asked for is not all there; whoever asked must load its state afresh."""

    def __init__(self, since: str, now: str) -> None:
        self.since, self.now = since, now
        super().__init__(f"{since} … {now}")


def facts_of(headers: dict[str, str], data: bytes) -> dict[str, str]:
    """What filters look at: the type and the ids of the entity and of what it belongs to."""
    facts = {"type": headers.get("ce-type", ""), "entity_id": headers.get("ce-subject", "")}
    correlation = headers.get(envelope.CORRELATION_ID)
    if correlation:
        facts["correlation_id"] = correlation
    try:
        [(noun, entity)] = orjson.loads(data).items()
    except (orjson.JSONDecodeError, ValueError, AttributeError):
        return facts
    if isinstance(entity, dict):
        facts |= {n: v for n in FACTS if isinstance(v := entity.get(n), str)}
        facts.setdefault(f"{noun}_id", facts["entity_id"])
    if "goal_id" not in facts and correlation:
        facts["goal_id"] = correlation
    return facts
