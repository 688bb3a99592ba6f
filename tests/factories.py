"""Commands with sensible values, for tests that care about one field."""

import secrets
from typing import Any

from schemas.agents import Brief, CreateAgent, ToolStep
from schemas.goals import SubmitGoal, TaskDraft


def create_agent(**fields: Any) -> CreateAgent:
    """An agent of a fresh name."""
    return CreateAgent(**{"name": f"agent-{secrets.token_hex(4)}"} | fields)


def calculation(key: str, expression: str = "1 + 1", after: tuple[str, ...] = ()) -> TaskDraft:
    """A task that computes something with a built-in tool and needs no model."""
    step = ToolStep(name="sum", tool="calculator.evaluate", arguments={"expression": expression})
    return TaskDraft(
        key=key,
        title=f"Compute {expression}",
        brief=Brief(objective=f"Compute {expression}", steps=(step,)),
        depends_on=after,
        capabilities=("calculate",),
    )


def goal_of_calculations(count: int) -> SubmitGoal:
    """A goal of `count` tasks: all but the last run at the same time."""
    first = [calculation(f"part-{n}", f"{n} * 2") for n in range(count - 1)]
    last = calculation("total", "40 + 2", tuple(task.key for task in first))
    return SubmitGoal(description="Compute many things", tasks=(*first, last))
