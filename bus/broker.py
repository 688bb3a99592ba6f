"""FastStream's NATS broker with the three defaults changed that lose work or hang.

1. A subscriber handles one message at a time: here each message gets a task, and a semaphore of
   the declared size (`workers`) pushes back.
2. Stopping drops what was delivered and not begun: here it unsubscribes, finishes, then stops.
3. An authorization error during a reconnect ends the reconnecting for ever: here it is logged.

A pull subscriber fetches only as many messages as it has free workers, so that nothing waits
unacknowledged behind a slow one.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar
from weakref import WeakSet

from faststream.middlewares import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.security import NatsNKey
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from bus import telemetry, tls
from bus.connection import connect_options, hang_up
from bus.settings import Settings
from bus.subjects import inbox_of

FETCH_S = 1.0
FLUSH_S = 2
FETCH_FAILED_PAUSE_S = 0.5
PENDING_MAX = 65_536

Consume = Callable[[Msg], Awaitable[None]]


class Workers:
    """Tasks of one subscriber, at most `limit` at once."""

    _of: ClassVar[dict[str, "WeakSet[Workers]"]] = {}

    def __init__(self, limit: int, kind: str) -> None:
        self._free = asyncio.Semaphore(limit)
        self.tasks: set[asyncio.Task[Any]] = set()
        pools = self._of.setdefault(kind, WeakSet())
        pools.add(self)
        telemetry.running.labels(kind).set_function(lambda: sum(len(p.tasks) for p in pools))

    async def slot(self) -> None:
        """Wait until one more may run."""
        await self._free.acquire()

    def give_back(self) -> None:
        """The slot was not needed."""
        self._free.release()

    def run(self, work: Awaitable[Any]) -> None:
        """Run in the slot that was taken."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        self._free.release()


async def unused(_: Msg) -> None:
    """What the framework believes to answer requests; one for all, for each costs a millisecond."""


def nothing_to_inject() -> None:
    """Instead of what the framework makes ready, for a millisecond each, to call `unused`."""


class BusBroker(NatsBroker):
    """The broker of one process."""

    def __init__(self, settings: Settings, name: str) -> None:
        options = connect_options(name, settings)
        seed = options.pop("nkeys_seed_str", None)
        super().__init__(
            settings.nats_url.get_secret_value().split(","),
            apply_types=False,
            serializer=None,
            logger=None,
            parser=as_little_as_needed,
            decoder=as_it_came,
            security=None if seed is None else NatsNKey.from_seed(seed),
            **options,
        )
        self._connection_kwargs |= tls.nats_options(settings, name)
        self._replies = f"{inbox_of(settings.nats_role)}.".encode()
        self._all: list[Workers] = []
        self._unused: Any = unused

    def answers(self, subject: str, queue: str, workers: int, consume: Consume) -> None:
        """Answer requests on `subject` as a member of the queue group."""
        subscriber: Any = self.subscriber(
            subject, queue=queue, no_reply=True, pending_msgs_limit=PENDING_MAX
        )
        self._unused = subscriber(self._unused)
        pool = self._pool(workers, "operation")

        async def concurrently(message: Msg) -> None:
            await pool.slot()
            pool.run(consume(message))  # past the framework's scopes and stacks: ADR 0007

        subscriber.consume = concurrently
        subscriber._build_fastdepends_model = nothing_to_inject

    def pulls(
        self, stream: str, subject: str, durable: str, workers: int, consume: Consume
    ) -> None:
        """Work on the messages of a durable consumer that the topology has made."""
        subscriber: Any = self.subscriber(
            subject,
            stream=JStream(stream, declare=False),
            durable=durable,
            pull_sub=PullSub(batch_size=1, timeout=FETCH_S),
            inbox_prefix=self._replies,
            ack_policy=AckPolicy.MANUAL,
            no_reply=True,
        )
        subscriber(consume)
        pool = self._pool(workers, "durable")

        async def pull(cb: Consume) -> None:
            while subscriber.running:
                await pool.slot()
                message = await fetch_one(subscriber.subscription)
                if message is None:
                    pool.give_back()
                else:
                    pool.run(cb(message))

        subscriber._consume_pull = pull

    def _pool(self, workers: int, kind: str) -> Workers:
        pool = Workers(workers, kind)
        self._all.append(pool)
        return pool

    async def start(self) -> None:
        """Subscribe, and return only when the server has every subscription."""
        await super().start()
        await self.nats.flush()

    @property
    def nats(self) -> Connection:
        """The connection; open after `start`."""
        connection = self._connection
        assert connection is not None
        return connection

    async def finish(self) -> None:
        """Take no new message, and wait until those that were delivered are done."""
        subscribers: list[Any] = list(self.subscribers)
        core = [s.subscription for s in subscribers if not hasattr(s, "stream")]
        for subscription in filter(None, core):
            await self.nats._send_unsubscribe(subscription._id)
        for subscriber in subscribers:
            if hasattr(subscriber, "stream"):
                subscriber.running = False
        with contextlib.suppress(NatsError):  # a server that is away sends nothing either
            await self.nats.flush(FLUSH_S)
        for subscription in filter(None, core):
            await subscription._pending_queue.join()
        while tasks := set().union(*(pool.tasks for pool in self._all)):
            await asyncio.wait(tasks)

    async def stop(self, *raised: Any) -> None:
        """Leave the bus; while its server is away there is nothing to drain, so hang up."""
        try:
            await super().stop(*raised)
        except NatsError as away:
            telemetry.log().warning("left the bus undrained", error=str(away))
            await hang_up(self.nats)
            self._connection = None
            self.config.disconnect()

    def _log_connection_broken(self, _: Any = None) -> Any:
        async def log(error: Exception) -> None:
            telemetry.log().warning("bus connection", error=str(error))

        return log


async def as_little_as_needed(message: Msg) -> NatsMessage:
    """The framework's view of a message, without the ids that it would make up for each."""
    return NatsMessage(message, message.data, correlation_id="-", message_id="-")


async def as_it_came(message: Any) -> Any:
    """Handlers get the message itself: headers and bytes are read by the boundary."""
    return message.raw_message


async def fetch_one(subscription: Any) -> Msg | None:
    """The next message of a pull consumer, or None after a short wait."""
    try:
        [message] = await subscription.fetch(batch=1, timeout=FETCH_S)
    except TimeoutError:
        return None
    except Exception as broken:  # whatever it is, a subscriber that stops pulling stops for ever
        telemetry.log().warning("fetch failed", error=repr(broken))
        await asyncio.sleep(FETCH_FAILED_PAUSE_S)
        return None
    return message
