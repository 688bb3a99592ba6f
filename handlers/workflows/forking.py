"""What a fork of a run takes over, and what is other in it. Pure but for the catalogue.

A change names what it changes:

    inputs.city                         an input of the run
    model, prompt, system, tokens_max   of every step that asks a model
    steps.draft.prompt                  a field of a step of the document
    steps.draft.output                  what a step gives, without being done
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from bus import travel
from handlers.workflows import checking
from handlers.workflows.engine import UNDO, Record, State, reached
from schemas.contract import Json
from schemas.travel import BadChange, NoSuchStep
from schemas.workflows.document import Document
from schemas.workflows.runs import RunStep, WorkflowRun

OF_MODEL_STEPS = ("model", "prompt", "system", "tokens_max")
BLOCKS = ("branch", "map", "parallel")
OUTPUT = ".output"
LAST_KEY = re.compile(r"[\w-]+$")
OVER = ("done", "failed")


@dataclass(frozen=True, slots=True)
class Changed:
    """What a run is made of, after changes; `outputs` are given by the path of their step."""

    document: Document
    inputs: Json
    outputs: Json


def changed(document: Document, inputs: Json, changes: Mapping[str, Any]) -> Changed:
    """A document and inputs with changes.

    Raises:
        BadChange: There is nothing of such a name, or it cannot be that.
    """
    raw = document.model_dump(mode="json", exclude_defaults=True)
    steps = {step["key"]: step for step in every(raw["steps"])}
    given, outputs = {"inputs": deepcopy(inputs)}, Json()
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        if head == "inputs" and rest:
            travel.put(given, path.split("."), value)
        elif path in OF_MODEL_STEPS:
            for step in of_type("model", steps.values(), path):
                step[path] = value
        elif head == "steps" and (place := place_of_output(rest, steps)):
            outputs[place] = value
        elif head == "steps" and rest.partition(".")[0] in steps:
            travel.put({"steps": steps}, path.split("."), value)
        else:
            raise BadChange(path=path, known=["inputs", *OF_MODEL_STEPS], steps=list(steps))
    return Changed(checked(raw), given["inputs"], outputs)


def every(steps: Sequence[Json]) -> Iterator[Json]:
    """All steps of a document as it is kept, those inside others too."""
    for step in steps:
        yield step
        if step["type"] in BLOCKS:
            lists = [step.get("steps", ()), *step.get("branches", {}).values()]
            lists += [case["steps"] for case in step.get("cases", ())]
            for inner in (*lists, step.get("otherwise", ())):
                yield from every(inner)


def of_type(kind: str, steps: Iterable[Json], path: str) -> list[Json]:
    """The steps of one kind.

    Raises:
        BadChange: There is none.
    """
    found = [step for step in steps if step["type"] == kind]
    if not found:
        raise BadChange(f"The workflow has no step of the type {kind}.", path=path)
    return found


def place_of_output(rest: str, steps: Mapping[str, Json]) -> str | None:
    """The path of the step whose output is given: `each[3].review` of `each[3].review.output`."""
    key = key_of(rest.removesuffix(OUTPUT)) if rest.endswith(OUTPUT) else None
    step = steps.get(key) if key else None
    return rest.removesuffix(OUTPUT) if step and step["type"] not in BLOCKS else None


def checked(raw: Json) -> Document:
    """The document that a changed one is.

    Raises:
        BadChange: It cannot be carried out.
    """
    try:
        document = Document.model_validate(raw)
    except ValidationError as bad:
        raise travel.unfit(bad) from None
    found = checking.findings(document)
    if found:
        raise BadChange(findings=[finding.model_dump() for finding in found[:10]])
    return document


def kept(
    document: Document, run: WorkflowRun, steps: Mapping[str, RunStep], from_step: str
) -> list[RunStep]:
    """The steps that a fork takes over: what is over and did not wait for `from_step`.

    What was taken back is done anew, and so is what has failed, unless the document bears that.

    Raises:
        NoSuchStep: There is none, in the record or in the document.
    """
    left = {path: step for path, step in steps.items() if not inside(path, from_step)}
    if len(left) == len(steps) and from_step not in keys_of(document):
        raise NoSuchStep(step=from_step, steps=sorted(steps)[: travel.DIFFERENCES_MAX])
    records = {
        path: Record(step.status, output=step.output, error=step.error)
        for path, step in left.items()
        if step.status in OVER and path + UNDO not in steps and not path.endswith(UNDO)
    }
    about = {"id": run.id, "started_at": run.started_at.isoformat()}
    state = State("running", run.inputs, records, run.started_at, about)
    return [
        left[done.path]
        for done in reached(document, state)
        if done.outcome.error is None or done.step.on_error == "continue"
    ]


def keys_of(document: Document) -> set[str]:
    """The keys of all steps."""
    return {step.key for step in checking.every(document.steps)}


def key_of(path: str) -> str | None:
    """The key of the step that stands at a path: `review` of `each[3].review`."""
    last = LAST_KEY.search(path)
    return last[0] if last else None


def inside(path: str, block: str) -> bool:
    """Whether a path is that of a step, or of one inside it."""
    return path == block or (path.startswith(block) and path[len(block)] in "[.:!")


def is_taken(step: RunStep) -> bool:
    """Whether this run has not done the step itself."""
    return step.taken_from is not None or is_given(step)


def is_given(step: RunStep) -> bool:
    """Whether a step was never done because its output was given."""
    return step.status == "done" and step.attempt == 0


def facts(step: RunStep) -> Json:
    """What counts of a step when two runs are compared."""
    asked = step.asked
    return {
        "kind": step.kind, "status": step.status, "output": step.output, "error": step.error,
        "asked": (asked.request or asked.hash) if asked else None,
    }  # fmt: skip


def facts_of_run(run: WorkflowRun) -> Json:
    """What counts of a run when two are compared."""
    counted = {"workflow_id", "workflow_version", "status", "inputs", "result", "error"}
    return run.model_dump(mode="json", include=counted)
