"""How any step is done: by asking an operation, a person, or another workflow."""

from handlers.workflows import ending, people
from handlers.workflows.engine import Begin, BeginUndo
from handlers.workflows.steps import Came, Place, carry_out
from schemas.workflows.document import Document, HumanStep, WorkflowStep
from schemas.workflows.runs import WorkflowRun


async def do(
    begin: Begin | BeginUndo, place: Place, document: Document, run: WorkflowRun
) -> Came:  # fmt: skip
    """Do one step of a run.

    Raises:
        Problem: What was asked has refused or does not answer, or nobody has approved the step.
    """
    if isinstance(begin, Begin) and isinstance(begin.step, WorkflowStep):
        return await ending.start_inner(begin, place, run)
    if isinstance(begin, Begin) and isinstance(begin.step, HumanStep):
        return await people.ask(begin, place, document, run)
    people.require_approved(begin, people.guards_of(document))
    return await carry_out(begin, place)
