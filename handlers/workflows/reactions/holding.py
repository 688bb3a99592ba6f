"""The runs that this process drives, and how other processes know.

A driver holds its run's row in `flow.drivers` under a lease that its process renews. A run whose
driver died is found by its lease and gets another; a driver that slept too long is told that the
run is no longer its own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from bus.context import Context
from handlers.workflows import service, store

LEASE_S = 10
RENEW_EVERY_S = 3.0


class Holder(Protocol):
    """Whoever drives a run."""

    ctx: Context

    def lose(self) -> None:
        """The run is somebody else's now."""


_held: dict[str, Holder] = {}


@contextmanager
def held(driver: Holder) -> Iterator[None]:
    """Renew the driver's lease while the block runs."""
    holder = driver.ctx.job_id
    assert holder is not None
    _held[holder] = driver
    try:
        yield
    finally:
        _held.pop(holder, None)


@service.every(seconds=RENEW_EVERY_S)
async def renew(ctx: Context) -> None:
    """Say of every run held here that it still is."""
    if not _held:
        return
    asked = list(_held)
    kept = {str(r["holder"]) for r in await ctx.database.rows(store.RENEW, asked, LEASE_S)}
    for holder in asked:
        if holder not in kept and holder in _held:
            _held[holder].lose()
