"""Decisions about goals, plans and tasks. Pure: state and time in; new state or a problem out."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from graphlib import CycleError, TopologicalSorter
from typing import Any

from schemas.agents import Run
from schemas.contract import Problem
from schemas.goals import (
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
from schemas.principal import Mandate, Principal
from schemas.problems import IllegalMove

TITLE_LENGTH_MAX = 120

GOAL_MOVES: dict[GoalStatus, frozenset[GoalStatus]] = {
    "draft": frozenset({"submitted", "cancelled"}),
    "submitted": frozenset({"planning", "planned", "failed", "cancelled"}),
    "planning": frozenset({"planned", "failed", "cancelled"}),
    "planned": frozenset({"executing", "failed", "cancelled"}),
    "executing": frozenset({"executing", "planning", "completed", "failed", "cancelled"}),
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
    "failed": frozenset({"executing", "superseded"}),
    "cancelled": frozenset(),
    "superseded": frozenset(),
    "rejected": frozenset(),
}
TASK_MOVES: dict[TaskStatus, frozenset[TaskStatus]] = {
    "pending": frozenset({"ready", "skipped", "cancelled"}),
    "ready": frozenset({"assigned", "running", "succeeded", "failed", "cancelled", "ready"}),
    "assigned": frozenset({"running", "succeeded", "failed", "timed_out", "ready", "cancelled"}),
    "running": frozenset({"succeeded", "failed", "timed_out", "ready", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset({"ready"}),
    "timed_out": frozenset({"ready"}),
    "skipped": frozenset({"pending"}),
    "cancelled": frozenset({"ready"}),
}
OUR_FAULT = 500
OPEN_TASK: frozenset[TaskStatus] = frozenset({"pending", "ready", "assigned", "running"})
LOST: frozenset[TaskStatus] = frozenset({"failed", "timed_out", "skipped", "cancelled"})
AT_WORK: frozenset[TaskStatus] = frozenset({"ready", "assigned", "running"})


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
    )


def retried_by(goal: Goal, principal: Principal) -> Mandate | None:
    """With which rights it goes on: an owner renews them, nobody else changes them."""
    return Mandate.of(principal) if principal.id == goal.owner_id else goal.mandate


def tokens_left(goal: Goal) -> int:
    """What is left of the goal's tokens."""
    return max(0, goal.constraints.tokens - goal.prompt_tokens - goal.completion_tokens)


def moved(goal: Goal, to: GoalStatus, at: datetime, **fields: Any) -> Goal:
    """The next version of the goal.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in GOAL_MOVES[goal.status]:
        raise IllegalMove(status=goal.status, to=to)
    changes = {"status": to, "version": goal.version + 1, "updated_at": at}
    return goal.model_copy(update=fields | changes)


def levels(drafts: Sequence[TaskDraft]) -> tuple[tuple[str, ...], ...]:
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


def new_plan(
    goal: Goal, drafts: Sequence[TaskDraft], strategy: str, *, id: str, at: datetime
) -> Plan:
    """A plan that was checked and may be carried out.

    Raises:
        CyclicPlan: The tasks are no graph without circles.
    """
    return Plan(
        id=id,
        version=1,
        goal_id=goal.id,
        plan_no=1,
        strategy=strategy,
        status="approved",
        levels=levels(drafts),
        findings=(),
        created_at=at,
        started_at=None,
        finished_at=None,
    )


def new_task(draft: TaskDraft, goal: Goal, plan: Plan, *, id: str, at: datetime) -> Task:
    """A task that waits for those it depends on."""
    return Task(
        id=id,
        version=1,
        plan_id=plan.id,
        goal_id=goal.id,
        key=draft.key,
        title=draft.title,
        kind="agent",
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
    )


def moved_plan(plan: Plan, to: PlanStatus, at: datetime) -> Plan:
    """The next version of the plan.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in PLAN_MOVES[plan.status]:
        raise IllegalMove(status=plan.status, to=to)
    ended = to in ("completed", "failed", "cancelled", "superseded", "rejected")
    return plan.model_copy(
        update={
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


def made_ready(task: Task, at: datetime) -> Task:
    """The task can be carried out."""
    return moved_task(task, "ready", ready_at=at)


def tried_again(task: Task, at: datetime) -> Task:
    """The task is ready once more, as its next attempt."""
    return moved_task(
        task, "ready", ready_at=at, attempt=task.attempt + 1, agent_id=None, run_id=None
    )


def after_run(task: Task, run: Run, at: datetime) -> Task:
    """What the end of its run makes of a task: done, tried again, or failed."""
    spent = {
        "prompt_tokens": task.prompt_tokens + run.prompt_tokens,
        "completion_tokens": task.completion_tokens + run.completion_tokens,
        "agent_id": run.agent_id,
        "run_id": run.id,
    }
    if run.status == "succeeded":
        return moved_task(
            task, "succeeded", result=run.result, finished_at=at, error=None,
            started_at=run.started_at, **spent,
        )  # fmt: skip
    if run.status == "cancelled":
        return moved_task(task, "cancelled", error=run.error, finished_at=at, **spent)
    if task.attempt < task.max_attempts and worth_another_try(run.error):
        again = tried_again(task, at)
        return again.model_copy(
            update={k: v for k, v in spent.items() if k.endswith("tokens")} | {"error": run.error}
        )
    to: TaskStatus = "timed_out" if run.status == "timed_out" else "failed"
    return moved_task(task, to, error=run.error, finished_at=at, **spent)


def worth_another_try(error: dict[str, Any] | None) -> bool:
    """Whether a failure may go away by itself: the work or the world failed, not the request."""
    known = Problem.by_code.get(str((error or {}).get("code")))
    return known is None or known.retryable or known.status >= OUR_FAULT


def newly_ready(tasks: Iterable[Task], at: datetime) -> list[Task]:
    """Pending tasks whose dependencies are all done."""
    tasks = list(tasks)
    done = {task.key for task in tasks if task.status == "succeeded"}
    return [
        made_ready(task, at)
        for task in tasks
        if task.status == "pending" and set(task.depends_on) <= done
    ]


def now_skipped(tasks: Sequence[Task], at: datetime) -> list[Task]:
    """Pending tasks that can never run, because one before them has failed."""
    lost = {task.key for task in tasks if task.status in LOST}
    skipped: list[Task] = []
    for task in tasks_in_order(tasks):
        if task.status == "pending" and lost & set(task.depends_on):
            skipped.append(moved_task(task, "skipped", finished_at=at))
            lost.add(task.key)
    return skipped


def tasks_in_order(tasks: Sequence[Task]) -> list[Task]:
    """Tasks with those that they depend on first."""
    by_key = {task.key: task for task in tasks}
    order = TopologicalSorter({task.key: task.depends_on for task in tasks}).static_order()
    return [by_key[key] for key in order if key in by_key]


def replaced(tasks: Iterable[Task], changed: Iterable[Task]) -> list[Task]:
    """The tasks with some of them in their new state."""
    new = {task.id: task for task in changed}
    return [new.get(task.id, task) for task in tasks]


def progress(tasks: Sequence[Task]) -> float:
    """How much of a plan is done, 0 to 1."""
    done = sum(task.status == "succeeded" for task in tasks)
    return round(done / len(tasks), 4) if tasks else 0.0


def tokens(tasks: Iterable[Task]) -> dict[str, int]:
    """Tokens over all tasks."""
    tasks = list(tasks)
    return {
        "prompt_tokens": sum(task.prompt_tokens for task in tasks),
        "completion_tokens": sum(task.completion_tokens for task in tasks),
    }


def verdict(tasks: Iterable[Task]) -> TaskStatus | None:
    """`succeeded` when all are done, `failed` when no more can be, None while work goes on."""
    states = {task.status for task in tasks}
    if states <= {"succeeded"}:
        return "succeeded"
    return None if states & OPEN_TASK else "failed"


def over_budget(goal: Goal, tasks: Iterable[Task]) -> bool:
    """Whether the goal has used up its tokens."""
    return sum(tokens(tasks).values()) > goal.constraints.tokens


def inputs_of(task: Task, tasks: Iterable[Task]) -> dict[str, Any]:
    """Results of the tasks that this one depends on, by key."""
    return {other.key: other.result for other in tasks if other.key in task.depends_on}


def result_of(tasks: Sequence[Task]) -> dict[str, Any]:
    """The result of a goal: what its last tasks gave.

    One last task whose result is a mapping with an `answer` is the result; otherwise the results
    of all last tasks, by key.
    """
    needed = {key for task in tasks for key in task.depends_on}
    last = [task for task in tasks if task.key not in needed]
    answers = [t.result for t in last if isinstance(t.result, dict) and "answer" in t.result]
    if len(answers) == 1:
        return answers[0] | {"answer": as_text(answers[0]["answer"])}
    results = {task.key: task.result for task in last}
    return {"answer": "", "results": results}


def as_text(answer: Any) -> str:
    """An answer that is given as (lists of) lines, as one text."""
    if isinstance(answer, list):
        return "\n".join(as_text(line) for line in answer)
    return answer if isinstance(answer, str) else str(answer)
