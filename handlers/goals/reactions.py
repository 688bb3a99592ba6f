"""How a goal is carried out: planned, its tasks given to agents, its result judged.

Tasks of one goal change under the lock of its row, so that the last two tasks to finish cannot
both miss that they were the last. Everything can be repeated: a job that finds its work done
returns.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from bus.context import Context
from bus.database import Transaction
from handlers.goals import planning, rules, service, store
from handlers.goals.operations import load_plan, lock, record_plan, tasks_in
from schemas import agents, documents, evaluation, goals
from schemas.agents import AssignWork, NoAgentFree, Run, RunFinished, RunStarted
from schemas.contract import Problem
from schemas.documents import Document, GetDocument, NotIndexed
from schemas.evaluation import ScoreResult
from schemas.goals import (
    Dispatch,
    DocumentNotReadable,
    Finish,
    Goal,
    GoalChanged,
    GoalCompleted,
    GoalFailed,
    MakePlan,
    Plan,
    PlanChanged,
    Task,
    TaskAssigned,
    TaskFailed,
    TaskReady,
    TaskStarted,
    TaskSucceeded,
)
from schemas.identity import principals
from schemas.identity.principals import ActFor
from schemas.principal import Principal
from schemas.problems import Denied, KeyReused, Unauthenticated

INDEX_WAIT_S = 60.0
INDEX_POLL_S = 0.25
WAITING_S = 2.0
DISPATCH_BATCH = 50
TEXT_LENGTH_MAX = 90_000
GOALS = Principal(id="goals", kind="service", via="bus")


async def plan_failed(job: MakePlan, ctx: Context, problem: Problem) -> None:
    """No plan could be made: the goal has failed."""
    ctx.part_of(job.goal_id)
    async with ctx.transaction() as tx:
        goal = await lock(tx, job.goal_id)
        if goal.status in ("submitted", "planning", "planned"):
            await tx.record(GoalFailed(goal=failed(goal, problem.kept(), ctx)))


@service.works(MakePlan, gave_up=plan_failed)
async def make_plan(job: MakePlan, ctx: Context) -> None:
    """Make a plan unless there is one, and start it."""
    goal = await find(job.goal_id, ctx)
    ctx.part_of(goal.id)
    owner = await acting_for(goal, ctx)
    attached = [await indexed(document_id, owner) for document_id in goal.document_ids]
    if goal.status in ("submitted", "planning") and goal.current_plan_id is None:
        strategy, drafts = await planning.decompose(goal, attached, owner)
        async with ctx.transaction() as tx:
            current = await lock(tx, goal.id)
            if current.status in ("submitted", "planning"):
                await record_plan(tx, current, drafts, strategy, ctx)
    async with ctx.transaction() as tx:
        await start(tx, await lock(tx, goal.id), ctx)


async def acting_for(goal: Goal, ctx: Context) -> Context:
    """The context in which others are asked for the goal: what its owner may now.

    Raises:
        Unauthenticated: The owner may nothing any more.
    """
    question = ActFor(owner_id=goal.owner_id, mandate=goal.mandate)
    owner = await ctx.as_principal(GOALS).call(principals.act_for, question)
    return ctx.as_principal(owner)


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
    """Begin to carry out the plan: the tasks that depend on nothing are ready."""
    if goal.status not in ("planned", "executing") or goal.current_plan_id is None:
        return
    at, tasks = ctx.now(), await tasks_in(tx, goal.current_plan_id)
    if goal.status == "planned":
        plan = Plan.model_validate(dict(await tx.row(store.GET_PLAN, goal.current_plan_id) or {}))
        await tx.record(PlanChanged(plan=rules.moved_plan(plan, "executing", at)))
        await tx.record(GoalChanged(goal=rules.moved(goal, "executing", at)))
    await make_ready(tx, tasks, ctx)
    for task in tasks:
        if task.status == "ready":
            await tx.enqueue(Dispatch(task_id=task.id, attempt=task.attempt))


async def make_ready(tx: Transaction, tasks: Sequence[Task], ctx: Context) -> list[Task]:
    """Make ready what can be, and look for agents."""
    ready = rules.newly_ready(tasks, ctx.now())
    for task in ready:
        await tx.record(TaskReady(task=task))
        await tx.enqueue(Dispatch(task_id=task.id, attempt=task.attempt))
    return ready


@service.works(Dispatch)
async def dispatch(job: Dispatch, ctx: Context) -> None:
    """Find an agent for a task; when none has room the task stays ready and is tried again."""
    task = Task.model_validate(await ctx.row(store.GET_TASK, job.task_id))
    if task.status != "ready" or task.attempt != job.attempt:
        return
    goal = await find(task.goal_id, ctx)
    ctx.part_of(goal.id)
    at_work = await ctx.row(store.AT_WORK, task.plan_id)
    if goal.status != "executing" or int(str(at_work["tasks"])) >= goal.constraints.parallelism:
        return
    run = await ask_agent(task, goal, ctx)
    if run is not None:
        await note_assigned(task, run, ctx)


async def ask_agent(task: Task, goal: Goal, ctx: Context) -> Run | None:
    """Give the task, with the results it depends on, to the agent that fits best."""
    rows = await ctx.database.rows(store.TASKS, task.plan_id)
    others = [Task.model_validate(dict(row)) for row in rows]
    brief = task.brief.model_copy(
        update={
            "inputs": task.brief.inputs | rules.inputs_of(task, others),
            "document_ids": task.brief.document_ids or goal.document_ids,
        }
    )
    command = AssignWork(
        capabilities=task.capabilities, brief=brief, task_id=task.id, goal_id=goal.id,
        tokens_max=rules.tokens_left(goal),
    )  # fmt: skip
    try:
        owner = await acting_for(goal, ctx)
        return await owner.call(agents.assign, command, key=f"{task.id}/{task.attempt}")
    except (NoAgentFree, KeyReused):  # reused: asked before, when more tokens were left
        return None
    except (Unauthenticated, Denied) as refused:
        await refuse(task, refused, ctx)
        return None


async def refuse(task: Task, problem: Problem, ctx: Context) -> None:
    """The owner may not have this done: the task has failed, and will not be tried again."""
    async with ctx.transaction() as tx:
        goal = await lock(tx, task.goal_id)
        row = await tx.row(store.GET_TASK, task.id)
        current = Task.model_validate(dict(row or {}))
        if current.status != "ready" or goal.status != "executing":
            return
        ended = rules.moved_task(current, "failed", error=problem.kept(), finished_at=ctx.now())
        await tx.record(TaskFailed(task=ended))
        await advance(tx, goal, ended, ctx)


async def note_assigned(task: Task, run: Run, ctx: Context) -> None:
    """Record who has the task, unless the run was so quick that more is known already."""
    async with ctx.transaction() as tx:
        await lock(tx, task.goal_id)
        row = await tx.row(store.GET_TASK, task.id)
        current = Task.model_validate(dict(row or {}))
        if current.status == "ready" and current.attempt == task.attempt:
            assigned = rules.moved_task(current, "assigned", agent_id=run.agent_id, run_id=run.id)
            await tx.record(TaskAssigned(task=assigned))


@service.every(seconds=1)
async def dispatch_waiting(ctx: Context) -> None:
    """Look again for agents for the tasks that have waited longest."""
    waiting = await ctx.database.rows(store.WAITING, WAITING_S, DISPATCH_BATCH)
    for row in waiting:
        await dispatch(Dispatch(task_id=row["id"], attempt=row["attempt"]), ctx)


@service.reacts_to(goals.on_run_started)
async def note_started(event: RunStarted, ctx: Context) -> None:
    """The agent has begun."""
    run = event.run
    if run.task_id is None:
        return
    async with ctx.transaction() as tx:
        task = await locked_task(tx, run, ctx)
        if task is not None and task.status in ("ready", "assigned"):
            started = rules.moved_task(
                task, "running", agent_id=run.agent_id, run_id=run.id, started_at=run.started_at
            )
            await tx.record(TaskStarted(task=started))


@service.reacts_to(goals.on_run_finished)
async def follow_run(event: RunFinished, ctx: Context) -> None:
    """The run of a task has ended: move the task, then the plan, then perhaps the goal."""
    if event.run.task_id is None:
        return
    async with ctx.transaction() as tx:
        task = await locked_task(tx, event.run, ctx)
        if task is None or task.status not in rules.AT_WORK:
            return
        goal = await lock(tx, task.goal_id)
        after = rules.after_run(task, event.run, ctx.now())
        await record_task(tx, after)
        if goal.status == "executing":
            await advance(tx, goal, after, ctx)


async def locked_task(tx: Transaction, run: Run, ctx: Context) -> Task | None:
    """The run's task under its goal's lock, unless the task has gone on to another run."""
    if run.goal_id is None or run.task_id is None:
        return None
    ctx.part_of(run.goal_id)
    await lock(tx, run.goal_id)
    row = await tx.row(store.GET_TASK, run.task_id)
    task = Task.model_validate(dict(row)) if row else None
    return task if task and task.run_id in (None, run.id) else None


async def record_task(tx: Transaction, task: Task) -> None:
    """Announce what became of a task."""
    if task.status == "succeeded":
        await tx.record(TaskSucceeded(task=task))
    elif task.status == "ready":
        await tx.record(TaskReady(task=task))
        await tx.enqueue(Dispatch(task_id=task.id, attempt=task.attempt), delay_s=1)
    else:
        await tx.record(TaskFailed(task=task))


async def advance(tx: Transaction, goal: Goal, changed: Task, ctx: Context) -> None:
    """Make ready what can be, skip what cannot, and see whether the goal is at its end."""
    assert goal.current_plan_id is not None
    tasks = rules.replaced(await tasks_in(tx, goal.current_plan_id), [changed])
    ready = await make_ready(tx, tasks, ctx)
    skipped = rules.now_skipped(tasks, ctx.now())
    for task in skipped:
        await tx.record(TaskFailed(task=task))
    tasks = rules.replaced(tasks, [*ready, *skipped])
    verdict = rules.verdict(tasks)
    at, spent = ctx.now(), rules.tokens(tasks)
    goal = rules.moved(goal, "executing", at, progress=rules.progress(tasks), **spent)
    if verdict == "failed" or rules.over_budget(goal, tasks):
        await fail(tx, goal, tasks, ctx)
        return
    await tx.record(GoalChanged(goal=goal))
    if verdict == "succeeded":
        await tx.enqueue(Finish(goal_id=goal.id))


async def fail(tx: Transaction, goal: Goal, tasks: Sequence[Task], ctx: Context) -> None:
    """The goal cannot be reached: say which task broke it."""
    broken = next((t for t in tasks if t.status in ("failed", "timed_out")), None)
    error: dict[str, Any] = {"code": "budget", "message": "The goal's tokens are used up."}
    if broken is not None:
        error = {"code": "task_failed", "task": broken.key, "cause": broken.error}
    ended = goal.model_copy(update={"status": "failed", "error": error, "completed_at": ctx.now()})
    await tx.record(GoalFailed(goal=ended))
    plan = Plan.model_validate(dict(await tx.row(store.GET_PLAN, goal.current_plan_id) or {}))
    await tx.record(PlanChanged(plan=rules.moved_plan(plan, "failed", ctx.now())))


@service.works(Finish)
async def finish(job: Finish, ctx: Context) -> None:
    """Judge the result, then complete the goal."""
    goal = await find(job.goal_id, ctx)
    if goal.status != "executing":
        return
    ctx.part_of(goal.id)
    plan = await load_plan(goal, ctx)
    rows = await ctx.database.rows(store.TASKS, plan.id)
    result = rules.result_of([Task.model_validate(dict(row)) for row in rows])
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


async def find(goal_id: str, ctx: Context) -> Goal:
    """The goal as it is now."""
    return Goal.model_validate(await ctx.row(store.GET, goal_id))


def failed(goal: Goal, error: dict[str, Any], ctx: Context) -> Goal:
    """The goal at a bad end."""
    return rules.moved(goal, "failed", ctx.now(), error=error, completed_at=ctx.now())
