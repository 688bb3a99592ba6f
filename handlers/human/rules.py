"""Decisions about the inbox. Pure: a task, who asks and the time in; its next version out.

open -> answered | expired | withdrawn;  any of them -> open, when something is asked anew
"""

from datetime import datetime
from typing import Any

from schemas.human import (
    VERDICT,
    AnswerTask,
    AskPerson,
    ContentChanged,
    HumanTask,
    TaskStatus,
    sha256_of,
)
from schemas.principal import Principal
from schemas.problems import Denied, IllegalMove

MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    "open": frozenset({"open", "answered", "expired", "withdrawn"}),
    "answered": frozenset({"open"}),
    "expired": frozenset({"open"}),
    "withdrawn": frozenset({"open"}),
}


def asked(command: AskPerson, before: HumanTask | None, at: datetime) -> HumanTask | None:
    """The task that asks this, open; None when the one that there is asks it already.

    What was answered stays so, unless something else is asked.
    """
    approval = command.content is not None
    fresh = {
        **command.model_dump(), "kind": "approval" if approval else "question",
        "answer_schema": VERDICT if approval else command.answer_schema,
        "sha256": sha256_of(command.content) if approval else None,
    }  # fmt: skip
    if before is None:
        nothing = dict.fromkeys(("claimed_by", "answer", "answered_by", "answered_at"))
        return HumanTask(
            **fresh, **nothing, version=1, status="open", created_at=at, updated_at=at
        )  # fmt: skip
    same = says(before) == says(before.model_copy(update=fresh))
    if same and before.status in ("open", "answered"):
        return None
    return moved(
        before, "open", at, **fresh, claimed_by=None, answer=None, answered_by=None,
        answered_at=None,
    )  # fmt: skip


def says(task: HumanTask) -> str:
    """What a task asks, as one text that can be compared."""
    return sha256_of([task.title, task.question, task.answer_schema, task.content])


def moved(task: HumanTask, to: TaskStatus, at: datetime, **changes: Any) -> HumanTask:
    """The next version of the task.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in MOVES[task.status]:
        raise IllegalMove(status=task.status, to=to)
    update = {"version": task.version + 1, "status": to, "updated_at": at} | changes
    return task.model_copy(update=update)


def concerns(task: HumanTask, principal: Principal) -> bool:
    """Whether a task is somebody's own: theirs, or meant for them."""
    named = (task.owner_id, task.assignee_id, task.claimed_by)
    return principal.id in named or task.for_role in principal.roles


def overdue(task: HumanTask, at: datetime) -> bool:
    """Whether nobody has answered in time."""
    return task.status == "open" and task.expires_at is not None and task.expires_at <= at


def claimed(task: HumanTask, principal: Principal, at: datetime) -> HumanTask:
    """The task in the hands of one person.

    Raises:
        IllegalMove: Somebody else has it, or it is not open.
    """
    require_open(task, at)
    require_free(task, principal)
    return moved(task, "open", at, claimed_by=principal.id)


def released(task: HumanTask, at: datetime) -> HumanTask:
    """The task in nobody's hands.

    Raises:
        IllegalMove: Nobody has it, or it is not open.
    """
    require_open(task, at)
    if task.claimed_by is None:
        raise IllegalMove("Nobody has claimed it.", status=task.status)
    return moved(task, "open", at, claimed_by=None)


def delegated(task: HumanTask, to: str, principal: Principal, at: datetime) -> HumanTask:
    """The task of somebody else.

    Raises:
        IllegalMove: Somebody else has claimed it, or it is not open.
    """
    require_open(task, at)
    require_free(task, principal)
    return moved(task, "open", at, assignee_id=to, for_role=None, claimed_by=None)


def answered(task: HumanTask, command: AnswerTask, principal: Principal, at: datetime) -> HumanTask:
    """The task with its answer, which was found to fit.

    Raises:
        Denied: No person answers.
        IllegalMove: It is not open any more, or somebody else has claimed it.
        ContentChanged: The answer is to something else.
    """
    if principal.kind not in ("user", "key"):
        raise Denied("Only people answer, and the keys that they have issued.")
    require_open(task, at)
    require_free(task, principal)
    if command.sha256 != task.sha256:
        raise ContentChanged(sha256=task.sha256)
    return moved(
        task, "answered", at, answer=command.answer, answered_by=principal.id, answered_at=at
    )


def require_open(task: HumanTask, at: datetime) -> None:
    """Refuse what is over.

    Raises:
        IllegalMove: It is.
    """
    if task.status != "open" or overdue(task, at):
        raise IllegalMove(status=task.status, expires_at=told(task.expires_at))


def told(moment: datetime | None) -> str | None:
    """A moment, in the details of a problem."""
    return moment.isoformat() if moment else None


def require_free(task: HumanTask, principal: Principal) -> None:
    """Refuse what somebody else has claimed.

    Raises:
        IllegalMove: Somebody has.
    """
    if task.claimed_by not in (None, principal.id):
        raise IllegalMove("Somebody else has claimed it.", claimed_by=task.claimed_by)
