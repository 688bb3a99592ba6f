"""Asking programs that are no part of the platform, over an inbox that is only for them.

They may publish to `_INBOX.outside.*` and to no other inbox, so that none of them can forge the
reply of a layer or the acknowledgement of a stream. Each answer has a subject of its own, which
nobody but the asked program learns.
"""

import asyncio
import contextlib

from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from bus.subjects import outside_inbox

NOBODY = "503"


async def request(
    connection: Connection, subject: str, body: bytes, headers: dict[str, str], timeout_s: float
) -> Msg:
    """The first answer.

    Raises:
        NoRespondersError: Nobody listens there.
        TimeoutError: No answer in time.
    """
    inbox = outside_inbox()
    answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
    subscription = await connection.subscribe(inbox, future=answer, max_msgs=1)
    try:
        await subscription.unsubscribe(limit=1)  # the server sends one and no more
        await connection.publish(subject, body, reply=inbox, headers=headers)
        async with asyncio.timeout(timeout_s):
            message = await answer
    finally:
        answer.cancel()
        with contextlib.suppress(NatsError):
            await subscription.unsubscribe()
    if (message.headers or {}).get("Status") == NOBODY and not message.data:
        raise NoRespondersError
    return message
