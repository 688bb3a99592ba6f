"""How a goal gets its plan, and the plan its run.

Everything can be repeated: a job that finds its work done returns.
"""

import asyncio
from collections.abc import Sequence

from bus.context import Context
from bus.database import Transaction
from handlers.goals import planning, progress, rules, service, store
from handlers.goals.operations.goals import lock, plan_in, record_plan, record_task, tasks_in
from handlers.goals.operations.plans import findings_of
from handlers.goals.owner import acting_for
from handlers.goals.reactions import steering
from schemas import documents
from schemas.contract import Problem
from schemas.documents import Document, GetDocument, NotIndexed
from schemas.goals import (
    DocumentNotReadable,
    Goal,
    GoalChanged,
    GoalFailed,
    MakePlan,
    Plan,
    PlanChanged,
    Task,
    TaskDraft,
)
from schemas.goals.planning import PlanNotApproved
from schemas.problems import Denied

INDEX_WAIT_S = 60.0
INDEX_POLL_S = 0.25
FORGET_EVERY_S = 3_600.0


async def plan_failed(job: MakePlan, ctx: Context, problem: Problem) -> None:
    """No plan could be made, or none begun: the goal has failed."""
    ctx.part_of(job.goal_id)
    async with ctx.transaction() as tx:
        goal = await lock(tx, job.goal_id)
        if goal.status in ("submitted", "planning", "planned"):
            at, error = ctx.now(), problem.kept()
            failed = rules.moved(goal, "failed", at, error=error, completed_at=at)
            await tx.record(GoalFailed(goal=failed))
    await steering.give_up(goal.id, problem, ctx)


@service.works(MakePlan, gave_up=plan_failed)
async def make_plan(job: MakePlan, ctx: Context) -> None:
    """Make a plan unless there is one, and start it."""
    goal = Goal.model_validate(await ctx.row(store.GET, job.goal_id))
    ctx.part_of(goal.id)
    if goal.status in ("submitted", "planning", "planned"):
        owner = await acting_for(goal, ctx)
        attached = [await indexed(document_id, owner) for document_id in goal.document_ids]
        if goal.status != "planned":
            strategy, drafts = await drafted(goal, attached, job.feedback, owner)
            async with ctx.transaction() as tx:
                current = await lock(tx, goal.id)
                if (current.status, current.current_plan_id) == (goal.status, goal.current_plan_id):
                    await record_plan(tx, current, drafts, strategy, ctx)
        await note_findings(goal.id, owner, ctx)
    async with ctx.transaction() as tx:
        await start(tx, await lock(tx, goal.id), ctx)
    await steering.bring(goal.id, None, ctx)


async def note_findings(goal_id: str, owner: Context, ctx: Context) -> None:
    """Keep with the plan what seems wrong with it, for who approves it or finds it standing."""
    goal = Goal.model_validate(await ctx.row(store.GET, goal_id))
    if goal.current_plan_id is None:
        return
    plan = Plan.model_validate(await ctx.row(store.GET_PLAN, goal.current_plan_id))
    tasks = [Task.model_validate(dict(r)) for r in await ctx.database.rows(store.TASKS, plan.id)]
    try:
        found = await findings_of(tasks, goal.constraints, owner)
    except Denied:
        return  # the owner does not see agents: nothing can be said
    findings = tuple(one.model_dump(mode="json") for one in found)
    if findings == plan.findings:
        return
    async with ctx.transaction() as tx:
        current = await plan_in(tx, await lock(tx, goal_id))
        if (current.id, current.version) == (plan.id, plan.version):
            noted = {"version": plan.version + 1, "findings": findings}
            await tx.record(PlanChanged(plan=plan.model_copy(update=noted)))


async def drafted(
    goal: Goal, attached: Sequence[Document], feedback: str, owner: Context
) -> tuple[str, tuple[TaskDraft, ...]]:
    """How the tasks were found, and the tasks: the first time, or after a plan has failed."""
    if goal.current_plan_id is None:
        return await planning.decompose(goal, attached, owner)
    plan = Plan.model_validate(await owner.row(store.GET_PLAN, goal.current_plan_id))
    rows = await owner.database.rows(store.TASKS, plan.id)
    tasks = [Task.model_validate(dict(row)) for row in rows]
    return await planning.anew(goal, attached, plan, tasks, feedback, owner)


async def indexed(document_id: str, ctx: Context) -> Document:
    """The document, once it is read.

    Raises:
        DocumentNotReadable: It cannot be read.
        NotIndexed: It still is not after a minute.
    """
    for _ in range(int(INDEX_WAIT_S / INDEX_POLL_S)):
        document = await ctx.call(documents.get, GetDocument(id=document_id))
        if document.status == "indexed":
            return document
        if document.status in ("failed", "deleted"):
            raise DocumentNotReadable(title=document.title, reason=document.status_reason)
        await asyncio.sleep(INDEX_POLL_S)
    raise NotIndexed(id=document_id)


async def start(tx: Transaction, goal: Goal, ctx: Context) -> None:
    """Say that the plan is carried out; the tasks that depend on nothing are ready."""
    if goal.status != "planned" or goal.current_plan_id is None:
        return
    at, tasks = ctx.now(), await tasks_in(tx, goal.current_plan_id)
    plan = await plan_in(tx, goal)
    if rules.is_held(goal, plan):
        return
    if goal.approve and rules.plan_sha256(tasks, goal.constraints) != plan.sha256:
        raise PlanNotApproved(sha256=plan.sha256)
    await tx.record(PlanChanged(plan=rules.moved_plan(plan, "executing", at)))
    await tx.record(GoalChanged(goal=rules.moved(goal, "executing", at)))
    for task in progress.newly_ready(tasks, at):
        await record_task(tx, task)


@service.every(seconds=FORGET_EVERY_S)
async def forget_plans(ctx: Context) -> None:
    """Plans of the model that are too old are not taken again."""
    await ctx.database.execute(store.FORGET_CACHED, ctx.now() - planning.KEPT)
