"""Long calls: stopped where they are done, and missed where nobody does them any more.

    asker cancelled for good -> stop.<domain>, id of the call -> answering task cancelled
    asker waits              -> look.<domain>, id of the call -> answered by who is at it

A run that was cancelled wants nothing any more. A process that drains does: another one will ask
again under the same key, and finds the answer. So only who says so stops what was asked. The id is
random; nobody but who asked and who answers knows it.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError, OutboundBufferLimitError
from nats.errors import Error as NatsError

from bus import subjects
from schemas import catalogue
from schemas.contract import Operation

FOR_GOOD = "for good"
EARLY_MAX = 1024
FROM_S = 5.0
LOOK_S = 2.0

T = TypeVar("T")

_running: dict[str, asyncio.Task[Any]] = {}
_early: dict[str, None] = {}


def new_call(operation: Operation[Any, Any]) -> str | None:
    """The id under which a call can be stopped, if it may take long enough for that."""
    return uuid4().hex if can_be_long(operation) else None


def can_be_long(operation: Operation[Any, Any]) -> bool:
    """Whether who wants no answer any more says so, because it may take long."""
    return operation.kind != "task" and operation.timeout_s > FROM_S


def is_for_good(cancelled: asyncio.CancelledError) -> bool:
    """Whether what was cancelled is not wanted any more, by anybody."""
    return cancelled.args == (FOR_GOOD,)


async def tell(connection: Connection, operation: Operation[Any, Any], call_id: str) -> None:
    """Stop a call; who is away does not hear it, and ends at the call's deadline."""
    with suppress(NatsError):
        await connection.publish(subjects.stop(operation.domain), call_id.encode())


async def stoppable(call_id: str, work: Coroutine[Any, Any, T]) -> T:
    """Do the work of a call; meanwhile whoever asked for it may cancel this task.

    Raises:
        CancelledError: He already has.
    """
    if call_id in _early:
        work.close()
        raise asyncio.CancelledError(FOR_GOOD)
    task = asyncio.current_task()
    assert task is not None
    _running[call_id] = task
    try:
        return await work
    finally:
        if _running.get(call_id) is task:  # it may have been asked again, and be done here twice
            del _running[call_id]


async def is_being_done(connection: Connection, operation: Operation[Any, Any], call: str) -> bool:
    """Whether any process is at this call, asked of all that answer for its domain."""
    try:
        await connection.request(subjects.look(operation.domain), call.encode(), timeout=LOOK_S)
    except (ConnectionReconnectingError, OutboundBufferLimitError):
        return True  # nobody can be asked now
    except (NatsError, TimeoutError):
        return False
    return True


async def looked_for(message: Msg) -> None:
    """Answer for a call that is being done here; who does not do it says nothing."""
    if message.data.decode(errors="replace") in _running:
        await message.respond(b"")


async def heard(message: Msg) -> None:
    """Stop a call, or one that waits for its turn and has not begun."""
    call_id = message.data.decode(errors="replace")
    task = _running.get(call_id)
    if task is not None:
        task.cancel(FOR_GOOD)
        return
    _early[call_id] = None
    if len(_early) > EARLY_MAX:
        del _early[next(iter(_early))]


async def listen(connection: Connection, domains: set[str]) -> None:
    """Hear what is to be stopped in these domains, and what somebody waits for."""
    for domain in sorted(domains & can_stop()):
        await connection.subscribe(subjects.stop(domain), cb=heard)
        await connection.subscribe(subjects.look(domain), cb=looked_for)


def can_stop() -> set[str]:
    """Domains that have an operation which can be stopped."""
    return {operation.domain for operation in catalogue.operations() if can_be_long(operation)}
