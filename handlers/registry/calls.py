"""How calls of services went, as far as this process has seen and nobody has taken down yet."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from bus import stopping
from schemas.contract import Problem

SERVICES_MAX = 10_000
FAULT_FROM = 500
"""From this status on an answer is the service's own fault and not its caller's."""

_counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])


def count(service_name: str, *, well: bool) -> None:
    """One call has ended."""
    if service_name in _counted or len(_counted) < SERVICES_MAX:
        _counted[service_name][0 if well else 1] += 1


@contextmanager
def counted(service_name: str) -> Iterator[None]:
    """Count what happens inside as one call; one that nobody wants any more says nothing."""
    try:
        yield
    except Problem as problem:
        count(service_name, well=problem.status < FAULT_FROM)
        raise
    except asyncio.CancelledError as cancelled:
        if not stopping.is_for_good(cancelled):  # its caller's time was over
            count(service_name, well=False)
        raise
    except Exception:  # an answer that cannot be read
        count(service_name, well=False)
        raise
    count(service_name, well=True)


def taken() -> dict[str, tuple[int, int]]:
    """Good and bad calls by service since this was last asked."""
    found = {name: (good, bad) for name, (good, bad) in _counted.items()}
    _counted.clear()
    return found
