"""What happens in a plan's run, told as what happens to the goal's tasks.

Tasks of one goal change under the lock of its row, so that the last two to finish cannot both
miss that they were the last.
"""

from collections.abc import Callable, Sequence

from bus.context import Context
from bus.database import Transaction
from handlers.goals import progress, service, store
from handlers.goals.operations.goals import lock, plan_in, record_task, tasks_in
from handlers.goals.reactions import steering
from schemas import goals
from schemas.agents import RunStarted
from schemas.goals import Goal, Task
from schemas.workflows.runs import PlanEnded, PlanStepFinished, PlanStepWaiting

Change = Callable[[Task], list[Task]]


@service.reacts_to(goals.on_step_waiting)
async def note_step(event: PlanStepWaiting, ctx: Context) -> None:
    """An agent or a person has a task."""
    step, goal_id = event.step, str(event.step.goal_id)
    ctx.part_of(goal_id)
    async with ctx.transaction() as tx:
        goal = await lock(tx, goal_id)
        await change(tx, goal, step.id, lambda t: progress.after_waiting(t, step, ctx.now()))


@service.reacts_to(goals.on_run_started)
async def note_started(event: RunStarted, ctx: Context) -> None:
    """An agent has begun with a task."""
    run = event.run
    if run.task_id is not None and run.goal_id is not None:
        ctx.part_of(run.goal_id)
        async with ctx.transaction() as tx:
            goal = await lock(tx, run.goal_id)
            if goal.owner_id == run.owner_id:  # anybody may name any goal
                started = progress.after_start
                await change(tx, goal, run.task_id, lambda t: started(t, run, ctx.now()))


@service.reacts_to(goals.on_step_finished)
async def follow_step(event: PlanStepFinished, ctx: Context) -> None:
    """A task has its result, is tried again, or has failed: its goal is further."""
    step, goal_id = event.step, str(event.step.goal_id)
    ctx.part_of(goal_id)
    async with ctx.transaction() as tx:
        goal = await lock(tx, goal_id)
        changed = await change(tx, goal, step.id, lambda t: progress.after_step(t, step, ctx.now()))
        counts = changed is not None and changed.plan_id == goal.current_plan_id
        if counts and goal.status in steering.UNDER_WAY:
            await go_on(tx, goal, ctx)


@service.reacts_to(goals.on_run_ended)
async def follow_run(event: PlanEnded, ctx: Context) -> None:
    """The run of a plan is over; so is the goal, when all of its tasks are known to be."""
    ctx.part_of(str(event.run.goal_id))
    async with ctx.transaction() as tx:
        await steering.note_end(tx, event.run, ctx)


async def change(tx: Transaction, goal: Goal, task_id: str, to: Change) -> Task | None:
    """Record what becomes of a task of the goal; its last state, if it has changed."""
    row = await tx.row(store.GET_TASK, task_id)
    if row is None or str(row["goal_id"]) != goal.id:
        return None
    states = to(Task.model_validate(dict(row)))
    await record(tx, states)
    return states[-1] if states else None


async def record(tx: Transaction, tasks: Sequence[Task]) -> None:
    """Announce what became of tasks."""
    for task in tasks:
        await record_task(tx, task)


async def go_on(tx: Transaction, goal: Goal, ctx: Context) -> None:
    """Say which tasks are ready now, which can never be, and how far the goal is."""
    plan = await plan_in(tx, goal)
    tasks = await tasks_in(tx, plan.id)
    moved = [*progress.newly_ready(tasks, ctx.now()), *progress.now_skipped(tasks, ctx.now())]
    await record(tx, moved)
    await steering.advance(tx, goal, plan, progress.replaced(tasks, moved), ctx)
