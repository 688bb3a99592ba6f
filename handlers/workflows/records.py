"""Between what is recorded of steps and what the engine and the world are told."""

import random
from datetime import datetime
from uuid import UUID, uuid5

from bus.context import Context
from handlers.workflows import forking, store
from handlers.workflows.engine import Begin, BeginUndo, Record
from handlers.workflows.retrying import after_failure
from handlers.workflows.steps import Came
from schemas.contract import Problem
from schemas.problems import DependencyDown, Unavailable
from schemas.workflows.document import Attempted, Document, HumanStep, Retry
from schemas.workflows.runs import (
    OutcomeUnknown,
    PlanEnded,
    PlanStepFinished,
    PlanStepWaiting,
    RunEnded,
    RunStep,
    StepFinished,
    StepStatus,
    StepWaiting,
    WorkflowRun,
)

DOCUMENTS_MAX = 256
ATTEMPTS_WHILE_AWAY = 30
AWAY = (DependencyDown, Unavailable)
_documents: dict[tuple[str, int], Document] = {}


def step_id(run_id: str, path: str) -> str:
    """The id of a step: the same for whoever records it."""
    return str(uuid5(UUID(run_id), path))


async def document_of(run: WorkflowRun, ctx: Context) -> Document:
    """The document that a run has begun with; it was checked when it was stored, and stays."""
    version = (run.workflow_id, run.workflow_version)
    known = (run.id, 0) if run.changes else version
    document = _documents.get(known)
    if document is None:
        row = await ctx.row(store.DOCUMENT, *version)
        document = Document.model_validate(row["document"])
        if run.changes:
            document = forking.changed(document, run.inputs, run.changes).document
        _documents[known] = document
        if len(_documents) > DOCUMENTS_MAX:
            del _documents[next(iter(_documents))]
    return document


def record_of(step: RunStep) -> Record:
    """What the engine needs to know of a recorded step; one of unknown outcome has failed."""
    if step.status == "started":
        unknown = OutcomeUnknown(path=step.path).kept()
        return Record("failed", step.attempt, None, unknown, None, step.started_at)
    return Record(
        step.status, step.attempt, step.output, step.error, step.due_at, step.finished_at,
        taken=forking.is_taken(step),
    )  # fmt: skip


def retry_of(begin: Begin | BeginUndo) -> Retry | None:
    """How often a step is tried."""
    if isinstance(begin, BeginUndo):
        return begin.undo.retry
    if isinstance(begin.step, HumanStep):
        return Retry()  # of asking: the inbox may be away
    return begin.step.retry if isinstance(begin.step, Attempted) else None


def event_of(step: RunStep) -> StepWaiting | StepFinished:
    """What is announced of a step."""
    if step.status == "waiting":
        return (StepWaiting if step.goal_id is None else PlanStepWaiting)(step=step)
    return (StepFinished if step.goal_id is None else PlanStepFinished)(step=step)


def end_of(run: WorkflowRun) -> RunEnded:
    """What is announced of a run at its end."""
    return (RunEnded if run.goal_id is None else PlanEnded)(run=run)


def failure_of(begin: Begin | BeginUndo, problem: Problem, at: datetime) -> Came:
    """What a problem means for a step: tried again, or failed for good.

    A server or layer that is away for minutes must not end what is tried a few times only.
    """
    retry, spread = retry_of(begin), random.random()  # noqa: S311 - spreads load
    if retry is not None and retry.attempts > 1 and isinstance(problem, AWAY):
        retry = retry.model_copy(update={"attempts": max(retry.attempts, ATTEMPTS_WHILE_AWAY)})
    due_at = after_failure(
        retry, begin.attempt, problem.code, retryable=problem.retryable, at=at, spread=spread
    )
    status: StepStatus = "failed" if due_at is None else "retrying"
    return Came(status, error=problem.kept(), due_at=due_at)


def next_of(
    before: RunStep | None, run: WorkflowRun, begin: Begin | BeginUndo, came: Came,
    *, began: datetime, at: datetime,
) -> RunStep:  # fmt: skip
    """The next version of a step's record.

    Args:
        before: The version before, if there is one.
        run: Its run.
        begin: The step.
        came: What came of it.
        began: When it was begun.
        at: Now.
    """
    kind = "undo" if isinstance(begin, BeginUndo) else str(begin.step.type)  # type: ignore[attr-defined]
    return RunStep(
        id=step_id(run.id, begin.path), version=before.version + 1 if before else 1,
        run_id=run.id, path=begin.path, kind=kind, status=came.status, attempt=begin.attempt,
        output=came.output, error=came.error, awaits=came.awaits, due_at=came.due_at,
        started_at=before.started_at if before else began,
        asked=before.asked if before and before.awaits else came.asked,
        finished_at=at if came.status in ("done", "failed") else None,
        work=came.work or (before.work if before else None), goal_id=run.goal_id,
    )  # fmt: skip


def says_more(before: RunStep | None, step: RunStep) -> bool:
    """Whether a record says anything that the one before did not."""
    if before is None or step.status != "waiting":
        return True
    told = [(s.status, s.awaits, s.output, s.due_at) for s in (before, step)]
    return told[0] != told[1]
