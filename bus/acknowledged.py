"""Publishing into a stream in order and many at once: all are sent, then all acknowledgements read.

One connection and one stream keep the order in which messages are sent; waiting for each would
take a round trip, and a flush to disk, a message.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from schemas.problems import DependencyDown

ACK_TIMEOUT_S = 12.0


@dataclass(frozen=True)
class Outgoing:
    """One message."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


class Outlet:
    """Sends batches; made by `outlet`. After a failure it is not to be used again."""

    def __init__(self, connection: Client, replies: Subscription) -> None:
        self._connection = connection
        self._replies = replies

    async def send(self, messages: Sequence[Outgoing]) -> None:
        """Send all, and return when the stream has them all.

        Raises:
            DependencyDown: One was not acknowledged; it and some after it may be missing.
        """
        try:
            for each in messages:
                await self._connection.publish(
                    each.subject, each.body, reply=self._replies.subject,
                    headers=dict(each.headers),
                )  # fmt: skip
            for _ in messages:
                check(await self._replies.next_msg(timeout=ACK_TIMEOUT_S))
        except (NatsError, OSError, TimeoutError) as refused:
            raise DependencyDown("The stream does not take what is sent.") from refused


def check(reply: Msg) -> None:
    """Read one acknowledgement.

    Raises:
        DependencyDown: It is none.
    """
    answer = orjson.loads(reply.data) if reply.data else {"error": "no stream takes the subject"}
    if "error" in answer:
        raise DependencyDown("The stream refuses what is sent.", answer=str(answer["error"]))


@asynccontextmanager
async def outlet(connection: Client) -> AsyncIterator[Outlet]:
    """An outlet with an inbox of its own."""
    replies = await connection.subscribe(connection.new_inbox())
    try:
        yield Outlet(connection, replies)
    finally:
        await replies.unsubscribe()
