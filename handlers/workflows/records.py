"""Between what is recorded of steps and what the engine and the world are told."""

from uuid import UUID, uuid5

from bus.context import Context
from handlers.workflows import store
from handlers.workflows.engine import Begin, BeginUndo, Record
from handlers.workflows.steps import describe
from schemas.workflows.document import Attempted, Document, Retry
from schemas.workflows.runs import (
    OutcomeUnknown,
    RunStep,
    StepFinished,
    StepWaiting,
    WorkflowRun,
)

DOCUMENTS_MAX = 256
_documents: dict[tuple[str, int], Document] = {}


def step_id(run_id: str, path: str) -> str:
    """The id of a step: the same for whoever records it."""
    return str(uuid5(UUID(run_id), path))


async def document_of(run: WorkflowRun, ctx: Context) -> Document:
    """The document that a run has begun with; it was checked when it was stored, and stays."""
    version = (run.workflow_id, run.workflow_version)
    document = _documents.get(version)
    if document is None:
        row = await ctx.row(store.DOCUMENT, *version)
        document = _documents[version] = Document.model_validate(row["document"])
        if len(_documents) > DOCUMENTS_MAX:
            del _documents[next(iter(_documents))]
    return document


def record_of(step: RunStep) -> Record:
    """What the engine needs to know of a recorded step; one of unknown outcome has failed."""
    if step.status == "started":
        unknown = describe(OutcomeUnknown(path=step.path))
        return Record("failed", step.attempt, None, unknown, None, step.started_at)
    return Record(step.status, step.attempt, step.output, step.error, step.due_at, step.finished_at)


def retry_of(begin: Begin | BeginUndo) -> Retry | None:
    """How often a step is tried."""
    if isinstance(begin, BeginUndo):
        return begin.undo.retry
    return begin.step.retry if isinstance(begin.step, Attempted) else None


def event_of(step: RunStep) -> StepWaiting | StepFinished:
    """What is announced of a step."""
    return StepWaiting(step=step) if step.status == "waiting" else StepFinished(step=step)
