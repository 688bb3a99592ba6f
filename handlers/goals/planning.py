"""From a goal to its tasks: a template if one fits, else a plan that the model writes.

The model's plan is constrained to levels of tasks: every text that fits the schema is a graph
without circles, the first level has at least two tasks that run at the same time, and each task
names a capability that exists.
"""

from collections.abc import Sequence
from typing import Any

from bus.context import Context
from handlers.goals import templates
from schemas import models
from schemas.agents import Brief, ModelStep, ToolStep
from schemas.contract import Json, Problem
from schemas.documents import Document
from schemas.goals import Goal, TaskDraft
from schemas.models import GenerateText, Message

CAPABILITIES = ("read", "extract", "analyse", "compare", "calculate", "write", "summarise")
PLAN_TOKENS_MAX = 420
PLAN_TIMEOUT_S = 170.0
TEXT = {"type": "string", "minLength": 3, "maxLength": 90}

TASK_SCHEMA: Json = {
    "type": "object",
    "properties": {"title": TEXT, "capability": {"enum": list(CAPABILITIES)}},
    "required": ["title", "capability"],
    "additionalProperties": False,
}
PLAN_SCHEMA: Json = {
    "type": "object",
    "properties": {
        "first": {"type": "array", "items": TASK_SCHEMA, "minItems": 2, "maxItems": 2},
        "then": {"type": "array", "items": TASK_SCHEMA, "minItems": 1, "maxItems": 1},
    },
    "required": ["first", "then"],
    "additionalProperties": False,
}
ANSWER_SCHEMA: Json = {
    "type": "object",
    "properties": {"answer": {"type": "string", "minLength": 1, "maxLength": 700}},
    "required": ["answer"],
    "additionalProperties": False,
}


async def decompose(
    goal: Goal, attached: Sequence[Document], ctx: Context
) -> tuple[str, tuple[TaskDraft, ...]]:
    """The name of the strategy and the tasks of a plan."""
    fitting = templates.match(goal.description, attached)
    if fitting is not None:
        return f"template:{fitting.name}", fitting.tasks(goal, attached)
    try:
        return "model", drafts_of(goal, await ask_model(goal, attached, ctx))
    except Problem as problem:
        if problem.retryable:
            raise
        return "fallback", drafts_of(goal, FALLBACK)


FALLBACK: Json = {
    "first": [
        {"title": "Collect what is known", "capability": "read"},
        {"title": "Work out what is asked", "capability": "analyse"},
    ],
    "then": [{"title": "Bring it together", "capability": "write"}],
}


async def ask_model(goal: Goal, attached: Sequence[Document], ctx: Context) -> Any:
    """A plan as the model writes it; it always fits the schema."""
    titles = ", ".join(document.title for document in attached) or "none"
    request = GenerateText(
        messages=(
            Message(role="system", content="You split a goal into short tasks for a team."),
            Message(
                role="user",
                content=f"Goal: {goal.description[:1500]}\nAttached documents: {titles}\n"
                "Write the tasks that can be done first, at the same time, and those after them.",
            ),
        ),
        output_schema=PLAN_SCHEMA,
        tokens_max=PLAN_TOKENS_MAX,
        purpose="plan",
    )
    generation = await ctx.call(
        models.generate, request, key=f"plan/{goal.id}", timeout_s=PLAN_TIMEOUT_S
    )
    return generation.value


def drafts_of(goal: Goal, plan: Any) -> tuple[TaskDraft, ...]:
    """Tasks of the plan's levels, each after all of the level before it, and one that answers."""
    drafts: list[TaskDraft] = []
    before: tuple[str, ...] = ()
    for number, level in enumerate((plan["first"], plan["then"]), start=1):
        keys = tuple(f"step-{number}{chr(ord('a') + index)}" for index in range(len(level)))
        drafts += [
            TaskDraft(
                key=key,
                title=task["title"].strip() or key,
                brief=Brief(
                    objective=f"{task['title'].strip()}. This is part of: {goal.description[:1500]}"
                ),
                depends_on=before,
                capabilities=(task["capability"],),
            )
            for key, task in zip(keys, level, strict=True)
        ]
        before = keys
    return (*drafts, answer_draft(goal, before))


def answer_draft(goal: Goal, before: tuple[str, ...]) -> TaskDraft:
    """The last task: an answer out of the results of the level before, kept as an artifact."""
    given = "\n".join(f"{{{{ inputs.{key} }}}}" for key in before)
    parts = [{"heading": "Answer", "kind": "text", "value": {"$ref": "steps.answer.answer"}}]
    return TaskDraft(
        key="answer",
        title="Write the answer",
        brief=Brief(
            objective=goal.description,
            steps=(
                ModelStep(
                    name="answer",
                    ask=f"Goal: {goal.description[:1500]}\nFindings:\n{given}\nAnswer the goal.",
                    output_schema=ANSWER_SCHEMA,
                ),
                ToolStep(
                    name="report",
                    tool="artifact.report",
                    arguments={"title": goal.title, "parts": parts},
                ),
            ),
            result={
                "answer": {"$ref": "steps.answer.answer"},
                "artifact_id": {"$ref": "steps.report.document_id"},
                "provenance": {"$ref": "steps.report.provenance"},
            },
        ),
        depends_on=before,
        capabilities=("write",),
    )
