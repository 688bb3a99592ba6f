"""What a plan will use, and what is wrong with it before it begins. Pure.

Tasks are estimated from tasks of the same kind: the same capabilities, and only tools or also the
model. From five of them on their tenth, half and nine tenths count; before, these defaults do:

                     tokens low/likely/high   seconds low/likely/high
    only tools                0 / 0 / 0               0.1 / 1 / 10
    the model     300/1,000/4,000 a question            3 / 20 / 90 a question
    free          1,000 / 4,000 / 20,000              10 / 60 / 600
    a person                  0 / 0 / 0              60 / 3,600 / 86,400
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from statistics import quantiles
from typing import Any

from handlers.goals import rules
from schemas.agents import Agent, ModelStep, ToolStep
from schemas.goals import Constraints, CyclicPlan, Task, TaskDraft
from schemas.goals.planning import PlanEstimate, PlanFinding, Spread

KNOWN_MIN = 5
GONE = ("failed", "terminated")
Three = tuple[float, float, float]
Kind = tuple[tuple[str, ...], bool]
NOTHING: Three = (0, 0, 0)
ONLY_TOOLS: tuple[Three, Three] = (NOTHING, (0.1, 1, 10))
A_QUESTION: tuple[Three, Three] = ((300, 1_000, 4_000), (3, 20, 90))
FREE: tuple[Three, Three] = ((1_000, 4_000, 20_000), (10, 60, 600))
A_PERSON: tuple[Three, Three] = (NOTHING, (60, 3_600, 86_400))


def kind_of(task: TaskDraft | Task) -> Kind:
    """What tasks are like each other: the same capabilities, with the model or without."""
    steps = task.brief.steps
    only_tools = bool(steps) and all(isinstance(step, ToolStep) for step in steps)
    return tuple(sorted(task.capabilities)), only_tools


def default_of(task: TaskDraft | Task) -> tuple[Three, Three]:
    """Tokens and seconds of a task of which nothing is known."""
    if task.kind == "human":
        return A_PERSON
    if not task.brief.steps:
        return FREE
    questions = sum(isinstance(step, ModelStep) for step in task.brief.steps)
    if not questions:
        return ONLY_TOOLS
    tokens, seconds = A_QUESTION
    return times(tokens, questions), times(seconds, questions)


def times(three: Three, factor: float) -> Three:
    """Each of three numbers, so many times."""
    low, likely, high = three
    return low * factor, likely * factor, high * factor


def spread_of(values: Sequence[float]) -> Three:
    """The tenth, the half and nine tenths of what was recorded."""
    tenths = quantiles(values, n=10, method="inclusive")
    return tenths[0], tenths[4], tenths[8]


def estimate(
    tasks: Sequence[TaskDraft | Task], past: Iterable[Mapping[str, Any]],
    constraints: Constraints, price: float,
) -> PlanEstimate:  # fmt: skip
    """What a plan will use.

    Args:
        tasks: Without circles.
        past: `capabilities`, `only_tools`, `tokens` and `seconds` of tasks that have succeeded.
        constraints: How many tasks there may be at once.
        price: Of a thousand tokens.
    """
    known: dict[Kind, list[Mapping[str, Any]]] = {}
    for row in past:
        kind = (tuple(sorted(row["capabilities"])), bool(row["only_tools"]))
        known.setdefault(kind, []).append(row)
    used, recorded = dict[str, tuple[Three, Three]](), 0
    for task in tasks:
        alike = known.get(kind_of(task), []) if task.kind == "agent" else []
        used[task.key] = default_of(task)
        if len(alike) >= KNOWN_MIN:
            recorded += 1
            used[task.key] = tuple(  # type: ignore[assignment]
                spread_of([float(row[what]) for row in alike]) for what in ("tokens", "seconds")
            )
    tokens = [sum(used[task.key][0][which] for task in tasks) for which in range(3)]
    seconds = [
        duration(tasks, {k: u[1][which] for k, u in used.items()}, constraints.parallelism)
        for which in range(3)
    ]
    return PlanEstimate(
        tokens=spread(tokens), seconds=spread(seconds),
        cost=spread([price * count / 1000 for count in tokens]),
        tasks=len(tasks), recorded=recorded,
    )  # fmt: skip


def spread(three: Sequence[float]) -> Spread:
    """Three numbers by their names."""
    low, likely, high = (round(number, 4) for number in three)
    return Spread(low=low, likely=likely, high=high)


def duration(
    tasks: Sequence[TaskDraft | Task], seconds: Mapping[str, float], at_once: int
) -> float:  # fmt: skip
    """How long a plan takes when a task begins as soon as it may and there is room."""
    left = {task.key: set(task.depends_on) for task in tasks}
    order = [task.key for task in tasks]
    going: list[tuple[float, str]] = []
    now = 0.0
    while left or going:
        for key in [key for key in order if key in left and not left[key]]:
            if len(going) < at_once:
                del left[key]
                heapq.heappush(going, (now + seconds[key], key))
        now, over = heapq.heappop(going)
        for before in left.values():
            before.discard(over)
    return now


def findings(
    tasks: Sequence[TaskDraft | Task], constraints: Constraints, there: Sequence[Agent],
    no_tools: Mapping[str, str],
) -> list[PlanFinding]:  # fmt: skip
    """What is wrong with a plan.

    Args:
        tasks: Of the plan.
        constraints: Of its goal.
        there: Agents that have some of the capabilities.
        no_tools: Names of tools that cannot be used, and why.
    """
    try:
        rules.levels(tasks)
    except CyclicPlan as circle:
        return [PlanFinding(kind="cycle", message=f"{circle.message} {circle.details}")]
    able = [set(agent.capabilities) for agent in there if agent.status not in GONE]
    found = []
    for wanted in dict.fromkeys(task.capabilities for task in tasks if task.kind == "agent"):
        if wanted and not any(set(wanted) <= has for has in able):
            message = f"No agent has {' and '.join(wanted)}."
            keys = tuple(task.key for task in tasks if task.capabilities == wanted)
            found.append(PlanFinding(kind="capability", message=message, tasks=keys))
    for tool, why in no_tools.items():
        keys = tuple(task.key for task in tasks if tool in tools_of(task))
        found.append(PlanFinding(kind="tool", message=f"{tool}: {why}", tasks=keys))
    least = estimate(tasks, (), constraints, 0).tokens.low
    if least > constraints.tokens:
        message = f"It needs {least:,.0f} tokens at least, and has {constraints.tokens:,}."
        found.append(PlanFinding(kind="budget", message=message))
    return found


def tools_of(task: TaskDraft | Task) -> list[str]:
    """The tools that a task prescribes."""
    return [step.tool for step in task.brief.steps if isinstance(step, ToolStep)]
