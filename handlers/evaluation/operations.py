"""What evaluation answers."""

from datetime import datetime

from bus.context import Context
from handlers.evaluation import rules, service, store
from schemas import evaluation
from schemas.contract import Page
from schemas.evaluation import ListScores, QualityScore, QualityScored, ScoreResult


@service.handles(evaluation.score)
async def score(command: ScoreResult, ctx: Context) -> QualityScore:
    """Judge, write, announce, answer."""
    judged = rules.judge(command, id=ctx.new_id(), at=ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(QualityScored(score=judged))
    return judged


@service.handles(evaluation.scores)
async def scores(command: ListScores, ctx: Context) -> Page[QualityScore]:
    """A page of rows."""
    page = await ctx.page(
        command, QualityScore, store.LIST, command.subject_type, command.subject_id,
        sort={"evaluated_at": datetime, "id": str},
    )  # fmt: skip
    return ctx.reached(page, lambda score: (None, score.id, score.subject_id))
