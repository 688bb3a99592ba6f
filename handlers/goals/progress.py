"""What becomes of a plan's tasks while its run goes on. Pure: tasks and what happened in; new out.

Steps and agents' runs are told by events of their own, which come in any order: what is over
stays over, and a run of an agent that is older than the one that is known says nothing any more.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from graphlib import TopologicalSorter
from typing import Any

from handlers.goals.rules import moved_task
from schemas.agents import Run
from schemas.contract import Json
from schemas.goals import Task, TaskStatus
from schemas.problems import TimedOut
from schemas.workflows.runs import AgentFailed, AgentWork, RunStep

OPEN_TASK: frozenset[TaskStatus] = frozenset({"pending", "ready", "assigned", "running"})
LOST: frozenset[TaskStatus] = frozenset({"failed", "timed_out", "skipped", "cancelled"})
NOT_GIVEN: frozenset[TaskStatus] = frozenset({"pending", "ready"})


def made_ready(task: Task, at: datetime) -> Task:
    """The task can be carried out."""
    return moved_task(task, "ready", ready_at=at)


def tried_again(task: Task, at: datetime, **fields: Any) -> Task:
    """The task is ready once more, as its next attempt; it keeps which run was its last."""
    return moved_task(task, "ready", ready_at=at, attempt=task.attempt + 1, **fields)


def is_older(run_id: str | None, task: Task) -> bool:
    """Whether a run of an agent is not after the one that the task knows."""
    return run_id is not None and task.run_id is not None and run_id <= task.run_id


def after_waiting(task: Task, step: RunStep, at: datetime) -> list[Task]:
    """The states that a task goes through when its step waits: somebody has it."""
    kind, _, name = (step.awaits or "").partition("/")
    run_id = name if kind == "run" else None
    if kind not in ("run", "task") or task.status not in NOT_GIVEN or is_older(run_id, task):
        return []
    ready = [made_ready(task, at)] if task.status == "pending" else []
    agent_id = (step.work or AgentWork()).agent_id
    given = moved_task((ready or [task])[-1], "assigned", run_id=run_id, agent_id=agent_id)
    return [*ready, given]


def after_start(task: Task, run: Run, at: datetime) -> list[Task]:
    """The states that a task goes through when the agent begins with it."""
    same = task.status == "assigned" and task.run_id == run.id
    if not same and (task.status not in NOT_GIVEN or is_older(run.id, task)):
        return []
    ready = [made_ready(task, at)] if task.status == "pending" else []
    begun = moved_task(
        (ready or [task])[-1], "running", agent_id=run.agent_id, run_id=run.id,
        started_at=run.started_at,
    )  # fmt: skip
    return [*ready, begun]


def after_step(task: Task, step: RunStep, at: datetime) -> list[Task]:
    """The states that a task goes through when its step has ended, or is tried again."""
    if task.status not in OPEN_TASK or (step.status == "retrying" and not has_failed(step)):
        return []
    ready = [made_ready(task, at)] if task.status == "pending" else []
    task, used = (ready or [task])[-1], used_by(task, step)
    if step.status == "retrying":
        return [*ready, tried_again(task, at, error=cause_of(step), **used)]
    if step.status == "done":
        began = task.started_at or step.started_at
        ended = moved_task(
            task, "succeeded", result=step.output, error=None, started_at=began,
            finished_at=step.finished_at, **used,
        )  # fmt: skip
        return [*ready, ended]
    error = cause_of(step)
    return [*ready, moved_task(task, lost_as(step), error=error, finished_at=at, **used)]


def has_failed(step: RunStep) -> bool:
    """Whether a step is tried again because an agent has failed, and not only could not be had."""
    return step.attempt > 0 and (step.error or {}).get("code") == AgentFailed.code


def used_by(task: Task, step: RunStep) -> dict[str, Any]:
    """Who has worked on a task, and with how many tokens in all."""
    work = step.work or AgentWork()
    return {
        "agent_id": work.agent_id or task.agent_id, "run_id": work.run_id or task.run_id,
        "prompt_tokens": work.prompt_tokens, "completion_tokens": work.completion_tokens,
    }  # fmt: skip


def cause_of(step: RunStep) -> Json:
    """Why a step has failed: what its agent's run says, if there was one."""
    error = step.error or {}
    return error.get("details", {}).get("cause") or error


def lost_as(step: RunStep) -> TaskStatus:
    """What a task is whose step has failed for good."""
    error = step.error or {}
    ended: TaskStatus = error.get("details", {}).get("status", "failed")
    if ended in ("cancelled", "timed_out"):
        return ended
    return "timed_out" if error.get("code") == TimedOut.code else "failed"


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
