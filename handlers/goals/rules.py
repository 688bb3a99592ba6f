"""Decisions about goals, plans and tasks. Pure: state and time in; new state or a problem out."""

from collections.abc import Sequence
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID, uuid5

from schemas.goals import (
    Constraints,
    CyclicPlan,
    Goal,
    GoalStatus,
    Plan,
    PlanStatus,
    SubmitGoal,
    Task,
    TaskDraft,
    TaskStatus,
)
from schemas.human import ContentChanged, sha256_of
from schemas.principal import Mandate, Principal
from schemas.problems import Denied, IllegalMove

TITLE_LENGTH_MAX = 120

GOAL_MOVES: dict[GoalStatus, frozenset[GoalStatus]] = {
    "draft": frozenset({"submitted", "cancelled"}),
    "submitted": frozenset({"planning", "planned", "failed", "cancelled"}),
    "planning": frozenset({"planned", "failed", "cancelled"}),
    "planned": frozenset({"planned", "executing", "failed", "cancelled"}),
    "executing": frozenset({"executing", "paused", "planning", "completed", "failed", "cancelled"}),
    "paused": frozenset({"executing", "paused", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset({"planning", "executing"}),
    "cancelled": frozenset(),
}
PLAN_MOVES: dict[PlanStatus, frozenset[PlanStatus]] = {
    "draft": frozenset({"validated", "rejected", "cancelled", "superseded"}),
    "validated": frozenset({"approved", "cancelled", "superseded"}),
    "approved": frozenset({"executing", "cancelled", "superseded"}),
    "executing": frozenset({"completed", "failed", "cancelled", "superseded"}),
    "completed": frozenset(),
    "failed": frozenset({"executing", "cancelled", "superseded"}),
    "cancelled": frozenset(),
    "superseded": frozenset(),
    "rejected": frozenset(),
}
TASK_MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    "pending": frozenset({"ready", "skipped", "cancelled"}),
    "ready": frozenset(
        {"assigned", "running", "succeeded", "failed", "timed_out", "cancelled", "ready"}
    ),
    "assigned": frozenset({"running", "succeeded", "failed", "timed_out", "ready", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "timed_out", "ready", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"ready"}),
    "timed_out": frozenset({"ready"}),
    "skipped": frozenset({"pending"}),
    "cancelled": frozenset({"ready"}),
}


def new_goal(command: SubmitGoal, owner: Principal, *, id: str, at: datetime) -> Goal:
    """A goal that waits to be planned."""
    title = command.title or command.description.strip().split("\n")[0]
    return Goal(
        id=id,
        version=1,
        title=title[:TITLE_LENGTH_MAX],
        description=command.description,
        owner_id=owner.id,
        priority=command.priority,
        constraints=command.constraints,
        document_ids=command.document_ids,
        status="submitted",
        progress=0.0,
        current_plan_id=None,
        result=None,
        error=None,
        prompt_tokens=0,
        completion_tokens=0,
        created_at=at,
        updated_at=at,
        completed_at=None,
        mandate=Mandate.of(owner),
        approve=command.approve,
        execute=command.execute,
    )


def retried_by(goal: Goal, principal: Principal) -> Mandate | None:
    """With which rights it goes on: an owner renews them, nobody else changes them."""
    return Mandate.of(principal) if principal.id == goal.owner_id else goal.mandate


def moved(goal: Goal, to: GoalStatus, at: datetime, **fields: Any) -> Goal:
    """The next version of the goal.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in GOAL_MOVES[goal.status]:
        raise IllegalMove(status=goal.status, to=to)
    changes = {"status": to, "version": goal.version + 1, "updated_at": at}
    return goal.model_copy(update=fields | changes)


def levels(drafts: Sequence[TaskDraft | Task]) -> tuple[tuple[str, ...], ...]:
    """Keys of tasks that can run at the same time, level after level.

    Raises:
        CyclicPlan: The graph has a circle, a double key or a missing task; says which.
    """
    keys = [draft.key for draft in drafts]
    doubled = sorted({key for key in keys if keys.count(key) > 1})
    if doubled:
        raise CyclicPlan("Two tasks have the same key.", keys=doubled)
    missing = sorted({d for draft in drafts for d in draft.depends_on} - set(keys))
    if missing:
        raise CyclicPlan("A task depends on one that is not there.", missing=missing)
    sorter = TopologicalSorter({draft.key: draft.depends_on for draft in drafts})
    try:
        sorter.prepare()
    except CycleError as circle:
        raise CyclicPlan("The tasks depend on each other.", cycle=list(circle.args[1])) from None
    found = []
    while sorter.is_active():
        ready = sorter.get_ready()
        found.append(tuple(key for key in keys if key in ready))
        sorter.done(*ready)
    return tuple(found)


SAID = {"key", "title", "kind", "brief", "depends_on", "capabilities", "max_attempts", "person"}
"""What a task says of itself; the rest is what becomes of it."""


def draft_of(task: Task) -> TaskDraft:
    """The task as it was proposed."""
    return TaskDraft.model_validate(task.model_dump(include=SAID))


def plan_sha256(tasks: Sequence[TaskDraft | Task], constraints: Constraints) -> str:
    """What an approval of a plan is bound to: all that its tasks say, and what they may use."""
    said = [task.model_dump(mode="json", include=SAID) for task in tasks]
    return sha256_of({"tasks": said, "constraints": constraints.model_dump(mode="json")})


def new_plan(
    goal: Goal, drafts: Sequence[TaskDraft], strategy: str, *, id: str, run_id: str, at: datetime,
    before: Plan | None = None,
) -> Plan:  # fmt: skip
    """A plan that was checked and may be carried out, by the run of this id, once it is approved.

    Raises:
        CyclicPlan: The tasks are no graph without circles.
    """
    return Plan(
        id=id,
        version=1,
        goal_id=goal.id,
        plan_no=before.plan_no + 1 if before else 1,
        strategy=strategy,
        status="validated" if goal.approve else "approved",
        levels=levels(drafts),
        findings=(),
        created_at=at,
        started_at=None,
        finished_at=None,
        run_id=run_id,
        sha256=plan_sha256(drafts, goal.constraints),
        supersedes_id=before.id if before else None,
    )


def approved(plan: Plan, sha256: str, by: Principal, at: datetime) -> Plan:
    """The plan, approved as it is.

    Raises:
        Denied: No person approves.
        ContentChanged: Another plan is meant.
        IllegalMove: It does not wait for it.
    """
    if by.kind not in ("user", "key"):
        raise Denied("Only people approve, and the keys that they have issued.")
    if sha256 != plan.sha256:
        raise ContentChanged(sha256=plan.sha256)
    return moved_plan(plan, "approved", at, approved_by=by.id, approved_at=at)


def is_held(goal: Goal, plan: Plan) -> bool:
    """Whether a planned goal waits for somebody."""
    return plan.status != "approved" or goal.execute is False


def replans_itself(goal: Goal, plan: Plan, error: dict[str, Any]) -> bool:
    """Whether a plan that has failed is made anew without being asked."""
    return error.get("code") == "task_failed" and plan.plan_no <= goal.constraints.replans


def with_kept(
    done: Sequence[Task], drafts: Sequence[TaskDraft]
) -> tuple[list[TaskDraft], dict[str, Task]]:  # fmt: skip
    """The tasks of a plan made anew, and by their keys those of them that are done.

    Args:
        done: What has succeeded in the plan before.
        drafts: What is to be done; a task that is said anew, and otherwise, is done again, with
            everything that has used its result.
    """
    said = {draft.key: draft for draft in drafts}
    kept = {t.key: t for t in done if said.get(t.key, same := draft_of(t)) == same}
    while lost := [k for k, t in kept.items() if not kept.keys() >= set(t.depends_on)]:
        for key in lost:
            del kept[key]
    redone = [draft_of(t) for t in done if t.key not in kept and t.key not in said]
    new = [draft for draft in drafts if draft.key not in kept]
    return [*(draft_of(t) for t in kept.values()), *redone, *new], kept


def kept_task(draft: TaskDraft, goal: Goal, plan: Plan, before: Task, *, at: datetime) -> Task:
    """A task that is done already."""
    came = {"status", "result", "agent_id", "run_id", "attempt", "prompt_tokens",
            "completion_tokens", "ready_at", "started_at", "finished_at"}  # fmt: skip
    done = {name: getattr(before, name) for name in came}
    return new_task(draft, goal, plan, at=at).model_copy(update=done | {"kept_from": before.id})


def new_task(draft: TaskDraft, goal: Goal, plan: Plan, *, at: datetime) -> Task:
    """A task that waits for those it depends on; it has the id of the step that it will follow."""
    assert plan.run_id is not None
    return Task(
        id=str(uuid5(UUID(plan.run_id), draft.key)),
        version=1,
        plan_id=plan.id,
        goal_id=goal.id,
        key=draft.key,
        title=draft.title,
        kind=draft.kind,
        brief=draft.brief,
        depends_on=draft.depends_on,
        capabilities=draft.capabilities,
        agent_id=None,
        run_id=None,
        status="pending",
        attempt=1,
        max_attempts=draft.max_attempts,
        priority=goal.priority,
        result=None,
        error=None,
        prompt_tokens=0,
        completion_tokens=0,
        created_at=at,
        ready_at=None,
        started_at=None,
        finished_at=None,
        person=draft.person,
    )


def moved_plan(plan: Plan, to: PlanStatus, at: datetime, **fields: Any) -> Plan:
    """The next version of the plan.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in PLAN_MOVES[plan.status]:
        raise IllegalMove(status=plan.status, to=to)
    ended = to in ("completed", "failed", "cancelled", "superseded", "rejected")
    return plan.model_copy(
        update=fields
        | {
            "status": to,
            "version": plan.version + 1,
            "started_at": plan.started_at or (at if to == "executing" else None),
            "finished_at": at if ended else None,
        }
    )


def moved_task(task: Task, to: TaskStatus, **fields: Any) -> Task:
    """The next version of the task.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in TASK_MOVES[task.status]:
        raise IllegalMove(status=task.status, to=to)
    return task.model_copy(update=fields | {"status": to, "version": task.version + 1})
