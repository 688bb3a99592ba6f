"""How the run of a plan is brought to what its goal says, and how its end becomes the goal's.

A goal says it first, in its own transaction; a job then tells the run. Whatever dies in between,
the job comes again and looks at the goal anew.
"""

from typing import Literal

from bus.context import Context
from bus.database import Transaction
from handlers.goals import compiling, progress, rules, service, store
from handlers.goals.operations.goals import cancel_tasks, lock, plan_in, tasks_in
from handlers.goals.owner import GOALS
from schemas.contract import Json, Problem
from schemas.goals import (
    Finish,
    Goal,
    GoalCancelled,
    GoalChanged,
    GoalFailed,
    GoalStatus,
    MakePlan,
    Plan,
    PlanChanged,
    Steer,
    Task,
)
from schemas.problems import NotFound
from schemas.workflows import runs
from schemas.workflows.runs import OPEN, LeadRun, TokensSpent, WorkflowRun

To = Literal["running", "paused", "cancelled"]
SAYS: dict[GoalStatus, To] = {"executing": "running", "paused": "paused", "cancelled": "cancelled"}
"""What a goal says of its run."""
UNDER_WAY = ("executing", "paused")


async def not_steered(job: Steer, ctx: Context, problem: Problem) -> None:
    """The run cannot be told."""
    await give_up(job.goal_id, problem, ctx)


@service.works(Steer, gave_up=not_steered)
async def steer(job: Steer, ctx: Context) -> None:
    """Tell the run."""
    await bring(job.goal_id, job.again, ctx)


async def bring(goal_id: str, again: int | None, ctx: Context) -> None:
    """Bring the run to what the goal says; until that is what it still says afterwards."""
    ctx.part_of(goal_id)
    goal, told = Goal.model_validate(await ctx.row(store.GET, goal_id)), None
    while goal.status != told and goal.status in SAYS and goal.current_plan_id is not None:
        told = goal.status
        await tell(goal, SAYS[told], again, ctx)
        goal = Goal.model_validate(await ctx.row(store.GET, goal_id))


async def tell(goal: Goal, to: To, again: int | None, ctx: Context) -> None:
    """Tell the run of the goal's plan; one that is over already is the goal's end."""
    plan = Plan.model_validate(await ctx.row(store.GET_PLAN, goal.current_plan_id))
    rows = await ctx.database.rows(store.TASKS, plan.id)
    tasks = [Task.model_validate(dict(row)) for row in rows]
    row = await ctx.database.row(store.LOST_TOKENS, goal.id, plan.id)
    lost = row["prompt_tokens"] + row["completion_tokens"] if row else 0
    spent = lost + sum(progress.tokens(kept_of(tasks)).values())
    command = LeadRun(
        id=str(plan.run_id), goal_id=goal.id, to=to, name=goal.title, version=plan.plan_no,
        document=compiling.document(goal, tasks, spent), inputs=compiling.results(tasks),
        owner_id=goal.owner_id, mandate=goal.mandate, priority=goal.priority,
        again=again is not None,
    )  # fmt: skip
    key = f"{plan.run_id}/again/{again}" if again else None
    try:
        run = await ctx.as_principal(GOALS).call(runs.lead, command, key=key)
    except NotFound:
        return  # cancelled before it was begun
    if to == "running" and run.status not in OPEN:
        async with ctx.transaction() as tx:
            await note_end(tx, run, ctx)


def kept_of(tasks: list[Task]) -> list[Task]:
    """The tasks that a plan before has done."""
    return [task for task in tasks if task.kept_from]


async def give_up(goal_id: str, problem: Problem, ctx: Context) -> None:
    """A goal whose run cannot be begun, or gone on with, has failed."""
    ctx.part_of(goal_id)
    async with ctx.transaction() as tx:
        goal = await lock(tx, goal_id)
        if goal.status in UNDER_WAY:
            plan = await plan_in(tx, goal)
            await fail(tx, goal, plan, problem.kept(), ctx)


async def note_end(tx: Transaction, run: WorkflowRun, ctx: Context) -> None:
    """Write down how the run has ended, unless that is known or nobody wants to know any more."""
    goal = await lock(tx, str(run.goal_id))
    if goal.status not in UNDER_WAY:
        return
    plan = await plan_in(tx, goal)
    if plan.run_id != run.id or plan.run_status is not None:
        return
    if run.status == "cancelled":
        await cancel(tx, goal, run.error or {}, ctx)
        return
    changes = {"version": plan.version + 1, "run_status": run.status}
    plan = plan.model_copy(update=changes)
    await tx.record(PlanChanged(plan=plan))
    await advance(tx, goal, plan, await tasks_in(tx, plan.id), ctx)


async def cancel(tx: Transaction, goal: Goal, reason: Json, ctx: Context) -> Goal:
    """The goal is given up, with every open task."""
    at = ctx.now()
    cancelled = rules.moved(goal, "cancelled", at, completed_at=at, error=reason)
    await cancel_tasks(tx, goal, reason, ctx)
    await tx.record(GoalCancelled(goal=cancelled))
    return cancelled


async def advance(
    tx: Transaction, goal: Goal, plan: Plan, tasks: list[Task], ctx: Context
) -> None:  # fmt: skip
    """Say how far the goal is; it is at its end when its run and all of its tasks are."""
    lost, now = await tx.row(store.LOST_TOKENS, goal.id, plan.id), progress.tokens(tasks)
    spent = {name: count + (lost or now)[name] for name, count in now.items()}
    verdict = progress.verdict(tasks) if plan.run_status is not None else None
    over = sum(spent.values()) > goal.constraints.tokens
    state = {**spent, "progress": progress.progress(tasks)}
    if verdict == "failed" or (verdict is not None and over):
        await fail(tx, goal.model_copy(update=state), plan, broken_by(tasks), ctx)
        return
    goal = rules.moved(goal, goal.status, ctx.now(), **state)
    await tx.record(GoalChanged(goal=goal))
    if verdict == "succeeded":
        await tx.enqueue(Finish(goal_id=goal.id))


def broken_by(tasks: list[Task]) -> Json:
    """Why the goal cannot be reached: which task has failed, or that its tokens are used up."""
    broken = next((t for t in tasks if t.status in ("failed", "timed_out")), None)
    if broken is None or (broken.error or {}).get("code") == TokensSpent.code:
        return {"code": "budget", "message": "The goal's tokens are used up."}
    return {"code": "task_failed", "task": broken.key, "cause": broken.error}


async def fail(tx: Transaction, goal: Goal, plan: Plan, error: Json, ctx: Context) -> None:
    """The plan does not reach the goal; it is made anew if the goal says so."""
    at = ctx.now()
    await tx.record(PlanChanged(plan=rules.moved_plan(plan, "failed", at)))
    if rules.replans_itself(goal, plan, error):
        await tx.record(GoalChanged(goal=rules.moved(goal, "planning", at)))
        await tx.enqueue(MakePlan(goal_id=goal.id))
        return
    failed = rules.moved(goal, "failed", at, error=error, completed_at=at)
    await tx.record(GoalFailed(goal=failed))
