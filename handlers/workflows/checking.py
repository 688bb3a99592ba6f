"""What is wrong with a document before any run of it. Looks into the catalogue, asks nobody."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from bus import json_schemas, named
from handlers.workflows import mapping
from handlers.workflows.mapping import Unmappable
from handlers.workflows.ordering import in_order
from schemas.problems import BadSchema
from schemas.workflows.definitions import Finding
from schemas.workflows.document import (
    STEPS_MAX,
    BranchStep,
    CallStep,
    Document,
    HumanStep,
    InvokeStep,
    JobStep,
    MapStep,
    ParallelStep,
    Step,
    WaitStep,
)

NAMES = re.compile(r"[A-Za-z0-9_-]+")
ROOTS = ("inputs", "steps", "run", "item", "index", "output")


def findings(document: Document) -> list[Finding]:
    """Everything that is wrong; nothing when it can be carried out."""
    found = [Finding(step=None, message=m) for m in of_schema(document.inputs, "inputs")]
    keys = [step.key for step in every(document.steps)]
    if len(keys) > STEPS_MAX:
        found.append(Finding(step=None, message=f"There are more than {STEPS_MAX} steps."))
    doubled = sorted({key for key in keys if keys.count(key) > 1})
    found += [Finding(step=key, message="Another step has the same key.") for key in doubled]
    for steps in lists(document.steps):
        found += of_list(steps)
    for step in every(document.steps):
        found += [Finding(step=step.key, message=m) for m in of_step(step, set(keys))]
    named = {step.key: step for step in every(document.steps)}
    found += [Finding(step=key, message=m) for key, m in of_approvals(named)]
    wrong = of_value(document.output, set(keys))
    return found + [Finding(step=None, message=f"output: {m}") for m in wrong]


def every(steps: Sequence[Step]) -> Iterator[Step]:
    """All steps, those inside others too."""
    for some in lists(steps):
        yield from some


def lists(steps: Sequence[Step]) -> Iterator[Sequence[Step]]:
    """A list of steps, and those inside its steps."""
    yield steps
    for step in steps:
        for inner in inside(step):
            yield from lists(inner)


def inside(step: Step) -> list[Sequence[Step]]:
    """The lists of steps that a step holds."""
    if isinstance(step, MapStep):
        return [step.steps]
    if isinstance(step, ParallelStep):
        return list(step.branches.values())
    if isinstance(step, BranchStep):
        return [*(case.steps for case in step.cases), *([step.otherwise] if step.otherwise else [])]
    return []


def of_list(steps: Sequence[Step]) -> list[Finding]:
    """Steps that wait for what is not beside them, or for each other."""
    keys = {step.key for step in steps}
    missing = [
        Finding(step=step.key, message=f"It comes after {key!r}, which is not in its list.")
        for step in steps
        for key in step.after or ()
        if key not in keys
    ]
    if missing:
        return missing
    try:
        in_order(steps)
    except Unmappable as circle:
        return [Finding(step=steps[0].key, message=str(circle))]
    return []


def of_step(step: Step, keys: set[str]) -> Iterator[str]:
    """What is wrong with one step itself."""
    taken_as_they_stand = {"steps", "cases", "otherwise", "branches", "answer", "match", "brief"}
    own = step.model_dump(exclude=taken_as_they_stand)
    yield from of_value(list(own.values()), keys)
    if isinstance(step, HumanStep):
        yield from of_value(step.otherwise, keys)
    if isinstance(step, WaitStep):
        yield from of_value(list(step.match.values()), keys)
        yield from (m for path in step.match for m in of_path(path))
    if isinstance(step, BranchStep):
        for case in step.cases:
            yield from of_value(case.when, keys)
    if isinstance(step, CallStep | JobStep):
        yield from of_operation(step.operation, task=isinstance(step, JobStep))
    undo = getattr(step, "undo", None)
    if undo is not None:
        yield from of_operation(undo.operation, task=False)
    if isinstance(step, HumanStep):
        yield from of_schema(step.answer, "answer")


def of_approvals(named: dict[str, Step]) -> Iterator[tuple[str, str]]:
    """Approvals of what asks nobody."""
    for key, step in named.items():
        approved = step.approves if isinstance(step, HumanStep) else None
        if approved and not isinstance(named.get(approved), CallStep | JobStep | InvokeStep):
            yield key, f"It approves {approved!r}, which is no step of the type call, job or tool."


def of_value(value: Any, keys: set[str]) -> Iterator[str]:
    """Paths that are none, lead nowhere, and operators that there are not."""
    for name in mapping.operators_in(value):
        if name not in mapping.OPERATORS and name != mapping.FORGIVING:
            yield f"There is no operator {name[:40]}."
    for text in mapping.paths_in(value):
        wrong = list(of_path(text))
        if wrong:
            yield from wrong
            continue
        root, key = [*NAMES.findall(text), None, None][:2]
        if root is not None and root not in ROOTS:
            yield f"{text[:80]} begins at none of {', '.join(ROOTS)}."
        elif root == "steps" and key is not None and key not in keys:
            yield f"{text[:80]} names a step that there is not."


def of_path(text: str) -> Iterator[str]:
    """What is wrong with a path itself."""
    try:
        mapping.path(text)
    except Unmappable as bad:
        yield str(bad)


def of_operation(name: str, *, task: bool) -> Iterator[str]:
    """An operation that a step cannot ask."""
    operation = named.operation(name)
    if operation is None:
        yield f"There is no operation {name[:80]!r}."
    elif not operation.for_documents:
        yield f"{name} cannot be asked by a workflow."
    elif task != (operation.kind == "task"):
        wanted = "job" if operation.kind == "task" else "call"
        yield f"{name} is asked by a step of the type {wanted!r}."


def of_schema(schema: dict[str, Any], where: str) -> Iterator[str]:
    """What is wrong with a JSON Schema."""
    try:
        json_schemas.check(schema)
    except BadSchema as bad:
        yield f"{where}: {bad.message}"
