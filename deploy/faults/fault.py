"""What one fault is, as data."""

import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy.faults.rig import Rig
from deploy.faults.workload import Load


class NotProvoked(Exception):
    """The fault did not happen, so nothing was shown."""


@dataclass
class World:
    """What a fault acts on."""

    rig: Rig
    load: Load
    draw: random.Random


Provoke = Callable[[World], Awaitable[None]]
Needs = Callable[[], str | None]


def nothing() -> str | None:
    """A fault that can be provoked everywhere."""
    return None


def strace() -> str | None:
    """What is missing for errors of system calls."""
    return None if shutil.which("strace") else "needs strace"


@dataclass(frozen=True)
class Fault:
    """One fault.

    `smoke` means that the short proof has it, `part` that another fault contains it; `missing`
    says why it cannot be provoked here.
    """

    name: str
    about: str
    at: str
    provoke: Provoke
    missing: Needs = nothing
    smoke: bool = True
    part: bool = False
