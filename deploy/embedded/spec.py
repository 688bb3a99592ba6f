"""What one process is, as data: what to run, when it is ready, how it is stopped.

A probe returns when all is well and raises `NotReady`, `OSError` or `TimeoutError` when not.
`ready` says that the process can be used, `alive` that it need not be restarted: a handlers
process whose database is gone is not ready but alive. `prepare` runs before the first start,
`provision` once it is ready and before anybody is told so. When one of the `watched` files
changes it gets `reload_signal`.
"""

import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

STOP_ORDER = ("edge", "handlers", "models", "tls-doors", "valkey", "nats", "postgres")
Probe = Callable[[], Awaitable[None]]
Say = Callable[[str], None]
Step = Callable[[Say], Awaitable[None]]


class NotReady(Exception):
    """The process answers, but not as it should."""


async def nothing(_: Say) -> None:
    """A step that is not needed."""


@dataclass(frozen=True)
class Spec:
    """One process. `role` is its place in the order of stopping; `user` needs root."""

    name: str
    role: str
    command: tuple[str, ...]
    address: str
    ready: Probe
    alive: Probe | None = None
    prepare: Step = nothing
    provision: Step = nothing
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    watched: tuple[Path, ...] = ()
    reload_signal: signal.Signals = signal.SIGHUP
    start_s_max: float = 60.0
    grace_s: float = 10.0


@dataclass(frozen=True)
class Once:
    """A program that does one thing and ends with status 0."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path | None = None
    timeout_s: float = 120.0


def module(*arguments: str) -> tuple[str, ...]:
    """The command that runs a Python module with this interpreter."""
    return (sys.executable, "-m", *arguments)
