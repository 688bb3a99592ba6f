"""Whether what clients saw of one aggregate can have happened in one order, each call at once.

The search of Wing and Gong with the memory of Lowe: take any operation that began before every
other one that is left has ended, let it act on the state, go on; come back when nothing fits. What
nobody knows may act at any time after its beginning, or never.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from deploy.faults.history import Operation

OPERATIONS_MAX = 300
STEPS_MAX = 2_000_000


class TooLong(ValueError):
    """More operations on one aggregate than can be searched."""


@dataclass(frozen=True)
class State:
    """What an aggregate is; version 0 is one that is not there."""

    version: int = 0
    value: str = ""


def act(state: State, operation: Operation) -> State | None:
    """The state after the operation; None if it cannot have had its outcome here."""
    if operation.verb == "read":
        return state if state == State(operation.seen, operation.value) else None
    if operation.verb == "create":
        return State(1, operation.value) if state.version == 0 else None
    fits = state.version == operation.expected
    if operation.outcome == "fail":
        return None if fits else state
    return State(operation.expected + 1, operation.value) if fits else None


def linearizable(given: Iterable[Operation]) -> bool:
    """Whether there is such an order.

    Raises:
        TooLong: There are more than `OPERATIONS_MAX` of them, or the search does not end.
    """
    # What fails without being refused for its version, or reads and is not answered, says nothing.
    operations = [o for o in given if o.verb != "read" or o.outcome == "ok"]
    if len(operations) > OPERATIONS_MAX:
        raise TooLong(f"{len(operations)} operations on one aggregate")
    operations.sort(key=lambda o: o.begun)
    known = sum(1 << n for n, o in enumerate(operations) if o.outcome != "unknown")
    return search(operations, known)


def search(operations: Sequence[Operation], known: int) -> bool:
    """Depth first; `known` has a bit for each operation that must be in the order."""
    everything = (1 << len(operations)) - 1
    todo, seen = [(everything, State())], {(everything, State())}
    while todo:
        left, state = todo.pop()
        if not left & known:
            return True
        if len(seen) > STEPS_MAX:
            raise TooLong("no order was found in time")
        first_end = min(
            (o.ended for n, o in enumerate(operations) if left >> n & 1), default=math.inf
        )
        for n, operation in enumerate(operations):
            if not left >> n & 1 or operation.begun > first_end:
                continue
            after = act(state, operation)
            step = (left & ~(1 << n), after or state)
            if after is not None and step not in seen:
                seen.add(step)
                todo.append(step)
    return False
