"""How the result of a goal is judged."""

from typing import Any

from bus.context import Context
from handlers.goals import progress, rules, service, store
from handlers.goals.operations.goals import load_plan, lock, plan_in
from schemas import evaluation
from schemas.evaluation import ScoreResult
from schemas.goals import Finish, Goal, GoalCompleted, PlanChanged, Task

TEXT_LENGTH_MAX = 90_000


@service.works(Finish)
async def finish(job: Finish, ctx: Context) -> None:
    """Judge the result, then complete the goal."""
    goal = Goal.model_validate(await ctx.row(store.GET, job.goal_id))
    if goal.status != "executing":
        return
    ctx.part_of(goal.id)
    plan = await load_plan(goal, ctx)
    rows = await ctx.database.rows(store.TASKS, plan.id)
    result = progress.result_of([Task.model_validate(dict(row)) for row in rows])
    score = await ctx.call(
        evaluation.score, scoring(goal, result), key=f"score/{goal.id}/{goal.version}"
    )
    quality = {"score": score.score, "grade": score.grade, "findings": list(score.findings)}
    async with ctx.transaction() as tx:
        current = await lock(tx, goal.id)
        if current.status != "executing":
            return
        at = ctx.now()
        done = rules.moved(
            current, "completed", at, progress=1.0, completed_at=at,
            result=result | {"quality": quality},
        )  # fmt: skip
        await tx.record(GoalCompleted(goal=done))
        plan = await plan_in(tx, current)
        await tx.record(PlanChanged(plan=rules.moved_plan(plan, "completed", at)))


def scoring(goal: Goal, result: dict[str, Any]) -> ScoreResult:
    """What evaluation is asked."""
    return ScoreResult(
        subject_id=goal.id,
        question=goal.description,
        text=str(result.get("answer") or result.get("results") or "")[:TEXT_LENGTH_MAX],
        facts=tuple(f for f in result.get("facts") or () if isinstance(f, dict))[:1000],
        provenance=tuple(p for p in result.get("provenance") or () if isinstance(p, dict))[:1000],
    )
