"""What goals answer."""

from collections.abc import Sequence
from datetime import timedelta

from bus.context import Context
from bus.database import Transaction
from handlers.goals import progress, rules, service, store
from schemas import documents, goals
from schemas.contract import Json, Page
from schemas.documents import GetDocument
from schemas.goals import (
    CancelGoal,
    DocumentNotReadable,
    GetGoal,
    GetPlan,
    GetTask,
    Goal,
    GoalCancelled,
    GoalChanged,
    GoalSubmitted,
    ListGoals,
    ListTasks,
    MakePlan,
    Plan,
    PlanChanged,
    PlanMade,
    RetryGoal,
    Steer,
    SubmitGoal,
    Task,
    TaskAssigned,
    TaskCreated,
    TaskDraft,
    TaskFailed,
    TaskKept,
    TaskReady,
    Tasks,
    TaskStarted,
    TaskStatus,
    TaskSucceeded,
)
from schemas.problems import IllegalMove, NotFound


async def load(goal_id: str, ctx: Context) -> Goal:
    """The goal, if the caller may know of it."""
    goal = Goal.model_validate(await ctx.row(store.GET, goal_id))
    ctx.require_owner(goal.owner_id, goal.id)
    return goal


async def load_plan(goal: Goal, ctx: Context) -> Plan:
    """The goal's current plan.

    Raises:
        NotFound: It has none yet.
    """
    if goal.current_plan_id is None:
        raise NotFound("The goal has no plan yet.")
    return Plan.model_validate(await ctx.row(store.GET_PLAN, goal.current_plan_id))


async def tasks_in(tx: Transaction, plan_id: str) -> list[Task]:
    """Every task of a plan."""
    return [Task.model_validate(dict(row)) for row in await tx.rows(store.TASKS, plan_id)]


async def plan_in(tx: Transaction, goal: Goal) -> Plan:
    """The goal's current plan, as it is in this transaction."""
    row = await tx.row(store.GET_PLAN, goal.current_plan_id)
    return Plan.model_validate(dict(row or {}))


async def lock(tx: Transaction, goal_id: str) -> Goal:
    """The goal as it is now, held until the transaction ends: its tasks change one at a time."""
    row = await tx.row(store.LOCK, goal_id)
    if row is None:
        raise NotFound(id=goal_id)
    return Goal.model_validate(dict(row))


async def check_documents(command: SubmitGoal, ctx: Context) -> None:
    """Refuse a goal with an attachment that nobody can read.

    Raises:
        DocumentNotReadable: Says which, and why.
    """
    for document_id in command.document_ids:
        try:
            document = await ctx.call(documents.get, GetDocument(id=document_id))
        except NotFound:
            raise DocumentNotReadable(document_id=document_id, reason="not there") from None
        if document.status in ("failed", "deleted"):
            raise DocumentNotReadable(
                document_id=document_id, title=document.title, reason=document.status_reason
            )


async def record_plan(
    tx: Transaction, goal: Goal, drafts: Sequence[TaskDraft], strategy: str, ctx: Context
) -> Goal:
    """Record the plan, its tasks, and that the goal is planned; what is done of it is kept."""
    at, before, kept = ctx.now(), None, dict[str, Task]()
    if goal.current_plan_id is not None:
        before = await plan_in(tx, goal)
        done = [t for t in await tasks_in(tx, before.id) if t.status == "succeeded"]
        drafts, kept = rules.with_kept(done, drafts)
        await tx.record(PlanChanged(plan=rules.moved_plan(before, "superseded", at)))
    ids = {"id": ctx.new_id(), "run_id": ctx.new_id()}
    plan = rules.new_plan(goal, drafts, strategy, **ids, at=at, before=before)
    goal = rules.moved(goal, "planned", at, current_plan_id=plan.id)
    await tx.record(PlanMade(plan=plan))
    for number, draft in enumerate(drafts):  # listed in the order of their creation
        created_at = at + timedelta(microseconds=number)
        if draft.key in kept:
            task = rules.kept_task(draft, goal, plan, kept[draft.key], at=created_at)
            await tx.record(TaskKept(task=task))
        else:
            await record_task(tx, rules.new_task(draft, goal, plan, at=created_at))
    await tx.record(GoalChanged(goal=goal))
    return goal


TaskEvent = TaskCreated | TaskReady | TaskAssigned | TaskStarted | TaskSucceeded | TaskFailed
EVENTS: dict[TaskStatus, type[TaskEvent]] = {
    "pending": TaskCreated, "ready": TaskReady, "assigned": TaskAssigned, "running": TaskStarted,
    "succeeded": TaskSucceeded,
}  # fmt: skip


async def record_task(tx: Transaction, task: Task) -> None:
    """Announce what became of a task."""
    await tx.record(EVENTS.get(task.status, TaskFailed)(task=task))


@service.handles(goals.submit)
async def submit(command: SubmitGoal, ctx: Context) -> Goal:
    """Store the goal; a plan of the caller's own is checked and stored with it."""
    await check_documents(command, ctx)
    goal = rules.new_goal(command, ctx.principal, id=ctx.new_id(), at=ctx.now())
    rules.levels(command.tasks)
    ctx.part_of(goal.id)
    async with ctx.transaction() as tx:
        await tx.record(GoalSubmitted(goal=goal))
        if command.tasks:
            goal = await record_plan(tx, goal, command.tasks, "given", ctx)
        await tx.enqueue(MakePlan(goal_id=goal.id))
    return goal


@service.handles(goals.get)
async def get(command: GetGoal, ctx: Context) -> Goal:
    """One row."""
    return await load(command.id, ctx)


@service.handles(goals.listing)
async def listing(command: ListGoals, ctx: Context) -> Page[Goal]:
    """A page of rows."""
    return await ctx.page(command, Goal, store.LIST, *ctx.visible, command.status)


@service.handles(goals.plan)
async def plan(command: GetPlan, ctx: Context) -> Plan:
    """One row."""
    return await load_plan(await load(command.id, ctx), ctx)


@service.handles(goals.tasks)
async def tasks(command: ListTasks, ctx: Context) -> Tasks:
    """All rows of one plan."""
    goal = await load(command.id, ctx)
    if goal.current_plan_id is None:
        return Tasks(items=())
    rows = await ctx.database.rows(store.TASKS, goal.current_plan_id)
    return Tasks(items=tuple(Task.model_validate(dict(row)) for row in rows))


@service.handles(goals.task)
async def task(command: GetTask, ctx: Context) -> Task:
    """One row."""
    found = Task.model_validate(await ctx.row(store.GET_TASK, command.id))
    await load(found.goal_id, ctx)
    return found


@service.handles(goals.cancel)
async def cancel(command: CancelGoal, ctx: Context) -> Goal:
    """Cancel the goal with every open task; a job stops its run, with the agents in it."""
    await load(command.id, ctx)
    ctx.part_of(command.id)
    at, reason = ctx.now(), {"code": "cancelled", "message": command.reason or "cancelled"}
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id)
        goal = rules.moved(before, "cancelled", at, completed_at=at, error=reason)
        await cancel_tasks(tx, goal, reason, ctx)
        await tx.record(GoalCancelled(goal=goal))
        await tx.enqueue(Steer(goal_id=goal.id))
    return goal


async def cancel_tasks(tx: Transaction, goal: Goal, reason: Json, ctx: Context) -> None:
    """Cancel the open tasks and the plan."""
    if goal.current_plan_id is None:
        return
    for task in await tasks_in(tx, goal.current_plan_id):
        if task.status in progress.OPEN_TASK:
            ended = rules.moved_task(task, "cancelled", error=reason, finished_at=ctx.now())
            await tx.record(TaskFailed(task=ended))
    current = await plan_in(tx, goal)
    await tx.record(PlanChanged(plan=rules.moved_plan(current, "cancelled", ctx.now())))


@service.handles(goals.retry)
async def retry(command: RetryGoal, ctx: Context) -> Goal:
    """Carry out again what failed; what succeeded is kept."""
    await load(command.id, ctx)
    ctx.part_of(command.id)
    at = ctx.now()
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id)
        to: goals.GoalStatus = "executing" if before.current_plan_id else "planning"
        goal = rules.moved(
            before, to, at, error=None, completed_at=None,
            mandate=rules.retried_by(before, ctx.principal),
        )  # fmt: skip
        await tx.record(GoalChanged(goal=goal))
        if goal.current_plan_id is None:
            await tx.enqueue(MakePlan(goal_id=goal.id))
        else:
            plan = await reopen(tx, goal.current_plan_id, ctx)
            await tx.enqueue(Steer(goal_id=goal.id, again=plan.version))
    return goal


async def reopen(tx: Transaction, plan_id: str, ctx: Context) -> Plan:
    """Failed tasks become ready, skipped ones wait again; the plan's run is to go on."""
    row = await tx.row(store.GET_PLAN, plan_id)
    current = Plan.model_validate(dict(row or {}))
    if current.run_id is None:
        raise IllegalMove("It was planned by an older version; submit it again.")
    plan = rules.moved_plan(current, "executing", ctx.now(), run_status=None)
    await tx.record(PlanChanged(plan=plan))
    for failed in await tasks_in(tx, plan_id):
        if failed.status in ("failed", "timed_out", "cancelled"):
            await record_task(tx, progress.tried_again(failed, ctx.now()))
        elif failed.status == "skipped":
            await record_task(tx, rules.moved_task(failed, "pending", finished_at=None))
    return plan
