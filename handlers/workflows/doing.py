"""How any step is done: by asking an operation, an agent, a person, or another workflow."""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError

from bus import travel
from handlers.workflows import assigning, ending, forking, people, steps, store
from handlers.workflows.checking import every
from handlers.workflows.engine import Begin, BeginUndo
from handlers.workflows.mapping import Unmappable
from handlers.workflows.records import AWAY
from handlers.workflows.steps import (
    OUTPUT_BYTES_MAX,
    Came,
    Place,
    own_question,
    still_waiting,
    too_large,
    undoing,
)
from schemas.contract import Json
from schemas.problems import TooLarge, malformed
from schemas.workflows.definitions import BadDocument
from schemas.workflows.document import (
    AgentStep,
    CallStep,
    Document,
    HumanStep,
    InvokeStep,
    JobStep,
    PromptStep,
    Undo,
    WaitStep,
    WorkflowStep,
)
from schemas.workflows.runs import WorkflowRun

Do = Callable[[Any, Json, Place], Awaitable[Came]]
HOW: dict[type[Any], Do] = {
    CallStep: steps.call, JobStep: steps.job, AgentStep: assigning.agent, InvokeStep: steps.tool,
    PromptStep: steps.model, WaitStep: steps.wait, Undo: steps.undo,
}  # fmt: skip
TIMED = (CallStep, InvokeStep, PromptStep)
"""What these ask may take as long as the step says; what others ask is answered at once."""


async def do(
    begin: Begin | BeginUndo, place: Place, document: Document, run: WorkflowRun
) -> Came:  # fmt: skip
    """Do one step of a run.

    Raises:
        Problem: What was asked has refused or does not answer, or nobody has approved the step.
    """
    if isinstance(begin, BeginUndo) or isinstance(begin.step, TIMED):
        return await by_kind(begin, place, document, run)
    try:
        with own_question():
            return await by_kind(begin, place, document, run)
    except AWAY:
        if place.awaits is None:
            raise
        return still_waiting(place)  # it was only to be seen whether it is over


async def by_kind(
    begin: Begin | BeginUndo, place: Place, document: Document, run: WorkflowRun
) -> Came:  # fmt: skip
    """Do a step as its kind is done; raises as `do`."""
    if isinstance(begin, Begin) and isinstance(begin.step, WorkflowStep):
        return await ending.start_inner(begin, place, run)
    if isinstance(begin, Begin) and isinstance(begin.step, HumanStep):
        return await people.ask(begin, place, document, run)
    people.require_approved(begin, people.guards_of(document))
    if isinstance(begin, BeginUndo) and run.forked_from and await held(begin, place, document):
        return Came("done")
    return await carry_out(begin, place)


async def held(begin: BeginUndo, place: Place, document: Document) -> bool:
    """Whether a fork would take back what a run holds that it was forked from.

    A step of a fork may be answered with what is there already, such as a document of the same
    content: then the effect is that of the run before, and stays with it.
    """
    try:
        operation, command = undoing(begin.undo, begin.known)
    except Unmappable:
        return False  # it fails as any other undo does
    thing = getattr(command, "id", None)
    if thing is None:
        return False
    place.asks(travel.question(operation, command))
    undoable = {s.key for s in every(document.steps) if getattr(s, "undo", None)}
    rows = await place.ctx.database.rows(store.HELD_BEFORE, place.run_id, str(thing))
    return any(forking.key_of(row["path"]) in undoable for row in rows)


async def carry_out(begin: Begin | BeginUndo, place: Place) -> Came:
    """Do the step; a value that cannot be computed is its failure.

    Raises:
        Problem: What was asked has refused, or does not answer.
    """
    what = begin.undo if isinstance(begin, BeginUndo) else begin.step
    try:
        came = await HOW[type(what)](what, begin.known, place)
    except Unmappable as unfit:
        raise BadDocument(str(unfit)) from None
    except ValidationError as bad:
        raise malformed(bad) from None
    if too_large(came.output):
        raise TooLarge(f"The step gives more than {OUTPUT_BYTES_MAX} bytes.")
    return came
