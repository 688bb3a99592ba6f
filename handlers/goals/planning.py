"""From a goal to its tasks: a template if one fits, a plan that was made before, or the model's.

The model's plan is constrained to levels of tasks: every text that fits the schema is a graph
without circles, the first level has at least two tasks that run at the same time, and each task
names a capability that exists.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from bus.context import Context
from handlers.goals import store, templates
from schemas import models
from schemas.agents import Brief, ModelStep, ToolStep
from schemas.contract import Json, Problem
from schemas.documents import Document
from schemas.goals import Goal, Plan, Task, TaskDraft
from schemas.goals.planning import NoPlanOfThisKind, Strategy
from schemas.human import sha256_of
from schemas.models import GenerateText, Message

CAPABILITIES = ("read", "extract", "analyse", "compare", "calculate", "write", "summarise")
PLAN_TOKENS_MAX = 420
PLAN_TIMEOUT_S = 170.0
HISTORY_MAX = 2_000
KEPT = timedelta(days=7)
"""How long a plan of the model is taken again for a goal of the same words."""
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
    """The name of the strategy and the tasks of a plan: whatever fits, and always something."""
    try:
        return await by("auto", goal, attached, ctx)
    except Problem as problem:
        if problem.retryable:
            raise
        return "fallback", drafts_of(goal, FALLBACK)


async def by(
    strategy: Strategy, goal: Goal, attached: Sequence[Document], ctx: Context
) -> tuple[str, tuple[TaskDraft, ...]]:
    """The tasks of a plan that is made in one way.

    Raises:
        NoPlanOfThisKind: There is no template that fits, or none in the cache.
        Problem: The model cannot be asked.
    """
    fitting = templates.match(goal.description, attached)
    if strategy in ("auto", "template") and fitting is not None:
        return f"template:{fitting.name}", fitting.tasks(goal, attached)
    if strategy in ("auto", "cache"):
        row = await ctx.database.row(store.CACHED, cache_key(goal, attached), ctx.now() - KEPT)
        if row is not None:
            return "cache", drafts_of(goal, row["plan"])
    if strategy not in ("auto", "model"):
        raise NoPlanOfThisKind(strategy=strategy)
    plan = await ask_model(goal, attached, ctx)
    await ctx.database.execute(store.CACHE, cache_key(goal, attached), plan, ctx.now())
    return "model", drafts_of(goal, plan)


async def anew(
    goal: Goal, attached: Sequence[Document], before: Plan, tasks: Sequence[Task], feedback: str,
    ctx: Context,
) -> tuple[str, tuple[TaskDraft, ...]]:  # fmt: skip
    """What is still to be done after a plan has failed: as its template says, or the model."""
    fitting = templates.match(goal.description, attached)
    if fitting is not None and before.strategy == f"template:{fitting.name}":
        return before.strategy, fitting.tasks(goal, attached)
    needed = {key for task in tasks for key in task.depends_on if task.status == "succeeded"}
    done = [task for task in tasks if task.status == "succeeded"]
    last = tuple(task.key for task in done if task.key not in needed)
    history = [f"Done: {task.title}" for task in done]
    history += [f"Failed: {t.title} ({(t.error or {}).get('message', '')[:200]})"
                for t in tasks if t.status in ("failed", "timed_out")]  # fmt: skip
    told = "\n".join([*history, feedback])[:HISTORY_MAX]
    prefix = f"again-{before.plan_no}-"
    try:
        plan = await ask_model(goal, attached, ctx, told, f"plan/{goal.id}/{before.plan_no}")
        return "model", drafts_of(goal, plan, prefix, last)
    except Problem as problem:
        if problem.retryable:
            raise
        return "fallback", drafts_of(goal, FALLBACK, prefix, last)


def cache_key(goal: Goal, attached: Sequence[Document]) -> str:
    """Of plans for the same words, and documents of the same kinds, of one owner."""
    words = " ".join(re.findall(r"\w+", goal.description.casefold()))
    kinds = sorted(document.doc_type for document in attached)
    return sha256_of([goal.owner_id, words, kinds])


FALLBACK: Json = {
    "first": [
        {"title": "Collect what is known", "capability": "read"},
        {"title": "Work out what is asked", "capability": "analyse"},
    ],
    "then": [{"title": "Bring it together", "capability": "write"}],
}


async def ask_model(
    goal: Goal, attached: Sequence[Document], ctx: Context, history: str = "",
    key: str | None = None,
) -> Any:  # fmt: skip
    """A plan as the model writes it; it always fits the schema."""
    titles = ", ".join(document.title for document in attached) or "none"
    request = GenerateText(
        messages=(
            Message(role="system", content="You split a goal into short tasks for a team."),
            Message(
                role="user",
                content=f"Goal: {goal.description[:1500]}\nAttached documents: {titles}\n"
                f"{history}\nWrite the tasks that can be done first, at the same time, and those "
                "after them.",
            ),
        ),
        output_schema=PLAN_SCHEMA,
        tokens_max=PLAN_TOKENS_MAX,
        purpose="plan",
    )
    generation = await ctx.call(
        models.generate, request, key=key or f"plan/{goal.id}", timeout_s=PLAN_TIMEOUT_S
    )
    return generation.value


def drafts_of(
    goal: Goal, plan: Any, prefix: str = "", before: tuple[str, ...] = ()
) -> tuple[TaskDraft, ...]:
    """Tasks of the plan's levels, each after all of the level before it, and one that answers."""
    drafts: list[TaskDraft] = []
    for number, level in enumerate((plan["first"], plan["then"]), start=1):
        keys = tuple(f"{prefix}step-{number}{chr(ord('a') + index)}" for index in range(len(level)))
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
    return (*drafts, answer_draft(goal, before, prefix))


def answer_draft(goal: Goal, before: tuple[str, ...], prefix: str = "") -> TaskDraft:
    """The last task: an answer out of the results of the level before, kept as an artifact."""
    given = "\n".join(f"{{{{ inputs.{key} }}}}" for key in before)
    parts = [{"heading": "Answer", "kind": "text", "value": {"$ref": "steps.answer.answer"}}]
    return TaskDraft(
        key=f"{prefix}answer",
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
