"""Whether the calls of a whole history contradict each other: a circle of what came before what.

    ww  it made the version after the other's
    wr  it read what the other made
    rw  the other made the version after the one that it read
    se  the same client, one after the other

A circle in these is an order that cannot have been; Tarjan's components find it.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from deploy.faults.history import Operation

Edges = Mapping[int, Sequence[int]]


def edges(operations: Sequence[Operation]) -> Edges:
    """Who came before whom, by the numbers of the operations."""
    made: dict[tuple[str, int], int] = {}
    after: dict[int, list[int]] = defaultdict(list)
    answered = [(n, o) for n, o in enumerate(operations) if o.outcome == "ok" and o.thing]
    for n, operation in answered:
        if operation.verb in ("create", "write"):
            made[operation.thing, operation.seen] = n
    for n, operation in answered:
        here, next_ = (operation.thing, operation.seen), (operation.thing, operation.seen + 1)
        if operation.verb == "read" and here in made:
            after[made[here]].append(n)
        if next_ in made:
            after[n].append(made[next_])
    for same in by_client(answered):
        for before, later in itertools.pairwise(same):
            after[before].append(later)
    return after


def by_client(answered: Iterable[tuple[int, Operation]]) -> list[list[int]]:
    """The operations of each client, in its order."""
    sessions: dict[str, list[int]] = defaultdict(list)
    for n, operation in answered:
        sessions[operation.client].append(n)
    return list(sessions.values())


def circles(count: int, after: Edges) -> list[list[int]]:
    """Every strongly connected component of more than one node."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    stack: list[int] = []
    on_stack: set[int] = set()
    found: list[list[int]] = []
    for root in range(count):
        work = [(root, 0)] if root not in index else []
        while work:
            node, nth = work.pop()
            if nth == 0:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            following = after.get(node, ())
            if nth > 0:
                low[node] = min(low[node], low[following[nth - 1]])
            while nth < len(following) and following[nth] in index:
                if following[nth] in on_stack:
                    low[node] = min(low[node], index[following[nth]])
                nth += 1
            if nth < len(following):
                work += [(node, nth + 1), (following[nth], 0)]
                continue
            if low[node] == index[node]:
                found.append(component(node, stack, on_stack))
    return [one for one in found if len(one) > 1]


def component(node: int, stack: list[int], on_stack: set[int]) -> list[int]:
    """Take the component whose first node this is off the stack."""
    members: list[int] = []
    while not members or members[-1] != node:
        members.append(stack.pop())
        on_stack.discard(members[-1])
    return members
