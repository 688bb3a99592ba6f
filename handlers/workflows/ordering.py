"""In which order the steps of a list come. Pure."""

from collections.abc import Sequence

from handlers.workflows.mapping import Unmappable
from schemas.workflows.document import Step


def in_order(steps: Sequence[Step]) -> list[tuple[Step, tuple[str, ...]]]:
    """Each step with the keys of those before it, so that no step stands before one of these."""
    before = {}
    for index, step in enumerate(steps):
        follows = (steps[index - 1].key,) if index else ()
        before[step.key] = follows if step.after is None else step.after
    named = {step.key: step for step in steps}
    ordered, placed = list[tuple[Step, tuple[str, ...]]](), set[str]()
    while len(ordered) < len(steps):
        ready = [k for k in named if k not in placed and placed.issuperset(before[k])]
        if not ready:
            raise Unmappable("The steps wait for each other.")
        placed.update(ready)
        ordered += [(named[key], before[key]) for key in ready]
    return ordered
