"""What a step asks people, and that a step asks only what they have approved.

An approval names another step. People see what that step will ask, whole, and answer to the hash of
it; when the step's turn comes, what it is about to ask must have that hash. Silence, a refusal, and
an answer that was not given by a person approve nothing.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from bus import travel
from bus.context import Context
from handlers.workflows.checking import every
from handlers.workflows.engine import Begin, BeginUndo
from handlers.workflows.mapping import Unmappable, computed
from handlers.workflows.records import step_id
from handlers.workflows.steps import (
    LOOK_S,
    OUTPUT_BYTES_MAX,
    WORKFLOWS,
    Came,
    Place,
    failed,
    too_large,
)
from schemas import human
from schemas.contract import Json
from schemas.human import AskPerson, HumanTask, SettleTask, sha256_of
from schemas.problems import TimedOut, TooLarge
from schemas.workflows.definitions import BadDocument
from schemas.workflows.document import CallStep, Document, HumanStep, InvokeStep, JobStep, Step
from schemas.workflows.runs import NotApproved, WorkflowRun

Guards = dict[str, list[str]]
"""Of each step that must be approved: the steps that do."""


def guards_of(document: Document) -> Guards:
    """Which steps are not done unless others have approved them."""
    guards: Guards = {}
    for step in every(document.steps):
        if isinstance(step, HumanStep) and step.approves is not None:
            guards.setdefault(step.approves, []).append(step.key)
    return guards


def action_of(step: Any, known: Json) -> Json:
    """What a step will ask, whole: this is what people approve."""
    assert isinstance(step, CallStep | JobStep | InvokeStep)
    asked = {"tool": step.tool} if isinstance(step, InvokeStep) else {"operation": step.operation}
    return {**asked, "input": computed(step.input, known)}


def require_approved(begin: Begin | BeginUndo, guards: Guards) -> None:
    """Refuse to do what people have not approved exactly so.

    Raises:
        NotApproved: They have not.
    """
    if isinstance(begin, BeginUndo) or begin.step.key not in guards:
        return
    try:
        sha256 = sha256_of(action_of(begin.step, begin.known))
    except Unmappable as unfit:
        raise BadDocument(str(unfit)) from None
    for key in guards[begin.step.key]:
        given = begin.known["steps"].get(key, {}).get("output")
        if not isinstance(given, dict) or given.get("approved") is not True:
            raise NotApproved("Nobody has approved it.", by=key, sha256=sha256)
        if given["sha256"] != sha256:
            raise NotApproved(by=key, sha256=sha256, approved=given["sha256"])


async def ask(begin: Begin, place: Place, document: Document, run: WorkflowRun) -> Came:
    """Put it into the inbox, or look what became of it there.

    Raises:
        Problem: The inbox does not answer.
        BadDocument: What is to be asked cannot be computed.
    """
    assert isinstance(begin.step, HumanStep)
    inbox = place.ctx.as_principal(WORKFLOWS)
    if place.awaits is not None:
        task = await inbox.call(human.settle, SettleTask(id=step_id(place.run_id, place.path)))
    else:
        try:
            command = command_of(begin, begin.step, place, document.steps, run)
        except Unmappable as unfit:
            raise BadDocument(str(unfit)) from None
        asks = command.model_dump(include={"question", "answer_schema", "content"})
        place.asks(travel.asked(human.ask.name, asks))
        task = await inbox.call(human.ask, command)
    return came_of(task, begin, place.ctx)


def command_of(
    begin: Begin, step: HumanStep, place: Place, steps: Sequence[Step], run: WorkflowRun
) -> AskPerson:
    """What is put into the inbox.

    Raises:
        Unmappable: It cannot be computed.
        TooLarge: People could not read it, nor an event carry it.
    """
    question, content = computed(step.question, begin.known), None
    if step.approves is not None:
        [approved] = [other for other in every(steps) if other.key == step.approves]
        content = action_of(approved, begin.known)
    if too_large([question, content]):
        raise TooLarge(f"What is asked is larger than {OUTPUT_BYTES_MAX} bytes.")
    return AskPerson(
        id=step_id(place.run_id, place.path), owner_id=run.owner_id,
        title=step.title or f"{run.workflow_name}: {step.key}", question=question,
        answer_schema=step.answer, content=content, run_id=run.id, path=place.path,
        assignee_id=step.assignee_id, for_role=step.for_role,
        due_at=later(place.ctx, step.due_s), expires_at=later(place.ctx, step.within_s),
    )  # fmt: skip


def later(ctx: Context, after_s: float | None) -> datetime | None:
    """So many seconds from now."""
    return None if after_s is None else ctx.now() + timedelta(seconds=after_s)


def came_of(task: HumanTask, begin: Begin, ctx: Context) -> Came:
    """What a task means for the step that asks."""
    assert isinstance(begin.step, HumanStep)
    if task.status == "answered":
        return answered(task)
    if task.status == "open":
        said = {"question": task.question, "answer": task.answer_schema, "sha256": task.sha256}
        look_at = ctx.now() + timedelta(seconds=LOOK_S)
        due_at = max(task.expires_at, look_at) if task.expires_at else None
        return Came("waiting", said, awaits=f"task/{task.id}", due_at=due_at)
    if begin.step.otherwise is None:
        return failed(TimedOut("Nobody has answered in time."))
    return Came("done", computed(begin.step.otherwise, begin.known))


def answered(task: HumanTask) -> Came:
    """A step whose task is answered; what was approved stays with it."""
    if task.kind == "question":
        return Came("done", task.answer)
    return Came("done", {**task.answer, "sha256": task.sha256, "by": task.answered_by})
