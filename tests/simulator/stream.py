"""NATS in a schedule: streams that forget what is repeated, and consumers that repeat everything."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from nats.errors import TimeoutError as NatsTimeout

from bus.topology import ACK_WAIT_S

WINDOW_S = 600.0
SYNC_EVERY_S = 120.0
LOOK_EVERY_S = 0.2
REORDERED_S = 0.3


@dataclass
class Stored:
    """A message in a stream, and what its consumers have made of it."""

    number: int
    subject: str
    headers: dict[str, str]
    data: bytes
    at: float
    due: dict[str, float] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)


class Stream:
    """One stream with its durable consumers: name and subject of each."""

    def __init__(self, world: Any, name: str, consumers: dict[str, str]) -> None:
        self.world, self.name, self.consumers = world, name, consumers
        self.messages: list[Stored] = []
        self.away_until = 0.0
        self._known: dict[str, float] = {}

    def keep(self, subject: str, data: bytes, headers: dict[str, str]) -> None:
        """Store a message unless its id is known."""
        message_id, now = headers["Nats-Msg-Id"], self.world.loop.at
        if now - self._known.get(message_id, -WINDOW_S) < WINDOW_S:
            return
        self._known[message_id] = now
        stored = Stored(len(self.messages) + 1, subject, dict(headers), data, now)
        for durable, filtered in self.consumers.items():
            if subject.startswith(filtered):
                stored.due[durable] = now
        self.messages.append(stored)

    def lose_power(self) -> None:
        """What was not synced is gone, and who had sent it was told that it is there."""
        if self.world.bugs.unsynced:
            kept = self.world.loop.at - self.world.loop.at % SYNC_EVERY_S
            for message in [m for m in self.messages if m.at > kept]:
                self.messages.remove(message)
                self._known.pop(message.headers["Nats-Msg-Id"], None)
        self.away_until = self.world.loop.at + self.world.draw.uniform(1, 4)

    @property
    def away(self) -> bool:
        return self.world.loop.at < self.away_until

    @property
    def open(self) -> int:
        """How many deliveries are still owed."""
        return sum(len(message.due) for message in self.messages)

    async def deliver(self) -> None:
        """Hand out what is due, to whoever is there, for ever."""
        while True:
            for message in [] if self.away else list(self.messages):
                for durable, due in list(message.due.items()):
                    if due <= self.world.loop.at:
                        message.due[durable] = self.world.loop.at + ACK_WAIT_S
                        delay_s = self.world.draw.uniform(0, REORDERED_S)
                        self._hand(message, durable, delay_s)
                        if self.world.happens("delivered twice"):
                            self._hand(message, durable, delay_s)
            await asyncio.sleep(LOOK_EVERY_S)

    def _hand(self, message: Stored, durable: str, delay_s: float) -> None:
        node = self.world.somebody()
        if node is None:
            return
        message.delivered[durable] = message.delivered.get(durable, 0) + 1
        delivery = Delivery(self, message, durable)
        node.spawn(self._later(node, delivery, delay_s))

    async def _later(self, node: Any, delivery: "Delivery", delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        await node.consumers[delivery.durable].consume(delivery)


class Delivery:
    """A message as one consumer has it: the methods of nats-py's `Msg`."""

    def __init__(self, stream: Stream, stored: Stored, durable: str) -> None:
        self._stream, self._stored, self.durable = stream, stored, durable
        self.subject, self.data, self.headers = stored.subject, stored.data, stored.headers
        self.metadata = SimpleNamespace(
            stream=stream.name, num_delivered=stored.delivered[durable],
            sequence=SimpleNamespace(stream=stored.number), timestamp=None,
        )  # fmt: skip

    async def _tell(self) -> bool:
        await self._stream.world.io("network")
        return not (self._stream.away or self._stream.world.happens("ack lost"))

    async def ack(self) -> None:
        if await self._tell():
            self._stored.due.pop(self.durable, None)

    term = ack

    async def nak(self, delay: float = 0) -> None:
        if await self._tell() and self.durable in self._stored.due:
            self._stored.due[self.durable] = self._stream.world.loop.at + delay

    async def in_progress(self) -> None:
        await self.nak(ACK_WAIT_S)


class Bus:
    """What a process has of NATS: the methods of a connection that the bus uses."""

    def __init__(self, world: Any) -> None:
        self._world = world

    def jetstream(self) -> "Bus":
        return self

    async def publish(
        self, subject: str, body: bytes, *, headers: dict[str, str], timeout: float = 0
    ) -> None:
        """A reply is told to who waits for it; everything else goes into its stream."""
        world = self._world
        await world.io("network")
        if subject.startswith("_INBOX"):
            waiting = world.waiting.get(subject)
            if waiting and not waiting.done() and not world.happens("reply lost"):
                waiting.set_result(SimpleNamespace(data=body, headers=headers))
            return
        stream = world.streams[subject.partition(".")[0]]
        if stream.away or world.happens("publish lost"):
            await asyncio.sleep(timeout)
            raise NatsTimeout
        stream.keep(subject, body, headers)
        await world.io("network")
        if world.happens("acknowledgement lost"):
            await asyncio.sleep(timeout)
            raise NatsTimeout
