"""`portal restart`: end processes one at a time; the supervisor starts each again.

The next one is told to end only when the one before it is healthy again, so of several of a role
all but one are always there. Each ends as it does at a stop: the platform's own drain.
"""

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

from deploy.embedded import refusal
from deploy.embedded.orphans import Running, started_at
from deploy.embedded.spec import STOP_ORDER

OWN = ("handlers", "edge")
HEALTHY_S_MAX = 180.0
STEP_S = 0.1
State = dict[str, Any]


def chosen(processes: Sequence[State], names: Sequence[str]) -> list[State]:
    """The processes meant, those that others use first; without names the platform's own.

    Raises:
        Refused: A name is neither a process nor a role (ERR_706).
    """
    known = {one["name"] for one in processes} | {one["role"] for one in processes}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise refusal.bad_argument(
            f"nothing here is named {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
        )
    wanted = set(names or OWN)
    meant = [one for one in processes if {one["name"], one["role"]} & wanted]
    return sorted(meant, key=used_first)


def used_first(process: State) -> int:
    """Servers before those that use them: the opposite of the order of stopping."""
    role = process["role"]
    return -STOP_ORDER.index(role) if role in STOP_ORDER else 1


def restart(process: State, look: Callable[[], Sequence[State]]) -> float:
    """End one process and wait until it is healthy again; how many seconds that took.

    Raises:
        Refused: It is not in three minutes (ERR_705).
    """
    began, pid = time.monotonic(), process["pid"]
    if pid is not None and (started := started_at(pid)) is not None:
        Running(pid, started).send(signal.Signals[process["stops_at"]])
    while time.monotonic() - began < HEALTHY_S_MAX:
        now = next((one for one in look() if one["name"] == process["name"]), None)
        if now is not None and now["healthy"] and now["pid"] not in (None, pid):
            return time.monotonic() - began
        time.sleep(STEP_S)
    raise refusal.not_back(process["name"], HEALTHY_S_MAX)
