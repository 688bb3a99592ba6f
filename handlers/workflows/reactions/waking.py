"""Who drives a run in this process hears at once when something is recorded about it.

A hint only: what is heard is read from the database, and what is not heard is found by the next
`Drive`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nats.aio.msg import Msg

from bus.context import Context
from handlers.workflows import service
from schemas.workflows.runs import PlanEnded, RunEnded, RunMoved, RunTold

HEARD = (RunMoved, RunTold, RunEnded, PlanEnded)
_drivers: dict[str, Callable[[], None]] = {}


@contextmanager
def listening(run_id: str, tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` whenever something is heard about the run."""
    _drivers[run_id] = tell
    try:
        yield
    finally:
        _drivers.pop(run_id, None)


async def heard(message: Msg) -> None:
    """Wake the driver of the run that an event is about."""
    tell = _drivers.get(message.subject.rpartition(".")[2])
    if tell is not None:
        tell()


@service.starts
async def listen(ctx: Context) -> None:
    """Hear what is said of runs."""
    for event in HEARD:
        await ctx.platform.connection.subscribe(f"{event.subject_root()}.*", cb=heard)
