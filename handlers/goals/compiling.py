"""A plan as the workflow that carries it out: one step a task. Pure.

    task.depends_on   after, and `inputs` with the outputs of those steps
    task.brief        taken as it stands; its `$ref`s are the agent's, not the workflow's
    max_attempts      retry; what is worth another try, the workflow's step of an agent knows
    constraints       at_once and tokens_max of the document

A failed task leaves out what depends on it and nothing else, so each step says `on_error: skip`.
"""

import json
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from schemas.contract import Json
from schemas.goals import Goal, PersonAsked, Task
from schemas.workflows.document import (
    WAIT_S_MAX,
    AgentStep,
    Document,
    HumanStep,
    Retry,
)

TASK_S_MAX = 86_400.0


def document(goal: Goal, tasks: Sequence[Task], spent: int = 0) -> Document:
    """The workflow of a plan; `spent` are the tokens of the plans before it."""
    kept = {task.key for task in tasks if task.kept_from}
    return Document(
        description=goal.title,
        steps=tuple(step(task, goal, kept) for task in tasks if task.key not in kept),
        output={"goal_id": goal.id},  # the results stay with the tasks
        at_once=goal.constraints.parallelism,
        tokens_max=max(1, goal.constraints.tokens - spent),
    )


def results(tasks: Sequence[Task]) -> Json:
    """The inputs of a plan's run: what tasks that are done have given to those that are not."""
    wanted = {key for task in tasks if not task.kept_from for key in task.depends_on}
    return {task.key: task.result for task in tasks if task.kept_from and task.key in wanted}


def step(task: Task, goal: Goal, kept: AbstractSet[str]) -> AgentStep | HumanStep:
    """The step of a task."""
    return asking(task, goal, kept) if task.kind == "human" else working(task, goal, kept)


def working(task: Task, goal: Goal, kept: AbstractSet[str]) -> AgentStep:
    """An agent does it; it waits for one with room as long as it takes."""
    documents = task.brief.document_ids or goal.document_ids
    return AgentStep(
        type="agent", key=task.key, title=task.title, after=after(task, kept), on_error="skip",
        capabilities=task.capabilities, inputs=inputs(task, kept),
        brief=task.brief.model_copy(update={"document_ids": documents}),
        retry=Retry(attempts=task.max_attempts), timeout_s=TASK_S_MAX, free_within_s=WAIT_S_MAX,
    )  # fmt: skip


def asking(task: Task, goal: Goal, kept: AbstractSet[str]) -> HumanStep:
    """A person answers it, in the inbox."""
    person = task.person or PersonAsked()
    question = {
        "objective": literal(task.brief.objective),
        "inputs": literal(task.brief.inputs) | inputs(task, kept),
        "document_ids": list(task.brief.document_ids or goal.document_ids),
    }
    return HumanStep(
        type="human", key=task.key, title=task.title, after=after(task, kept), on_error="skip",
        question=question, **dict(person),
    )  # fmt: skip


def after(task: Task, kept: AbstractSet[str]) -> tuple[str, ...]:
    """The steps that come before that of a task."""
    return tuple(key for key in task.depends_on if key not in kept)


def inputs(task: Task, kept: AbstractSet[str]) -> Json:
    """The results that a task depends on, by the keys of their tasks."""
    return {
        key: f"$.inputs['{key}']" if key in kept else f"$.steps['{key}'].output"
        for key in task.depends_on
    }


def literal(value: Any) -> Any:
    """A value that the workflow shall not read: no path, no operator."""
    if isinstance(value, str):
        return f"${value}" if value.startswith("$") else value
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)).startswith("$"):
            return json.dumps(value)  # there is no way to say that it is no operator
        return {key: literal(inner) for key, inner in value.items()}
    return [literal(item) for item in value] if isinstance(value, list | tuple) else value
