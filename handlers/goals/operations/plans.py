"""What goals answer about plans: before they are carried out, and while they are."""

from collections.abc import Sequence

from bus.context import Context
from handlers.goals import estimating, planning, rules, service, store
from handlers.goals.operations.goals import (
    check_documents,
    load,
    load_plan,
    lock,
    plan_in,
    record_plan,
)
from schemas import agents, documents, tools
from schemas.agents import Agent, ListAgents
from schemas.documents import GetDocument
from schemas.goals import (
    Constraints,
    Goal,
    GoalChanged,
    GoalStatus,
    MakePlan,
    Plan,
    PlanApproved,
    Steer,
    SubmitGoal,
    Task,
    TaskDraft,
)
from schemas.goals import planning as plans
from schemas.goals.planning import (
    AboutPlan,
    ApprovePlan,
    DecomposeGoal,
    Decomposition,
    EstimatePlan,
    ExecuteGoal,
    PauseGoal,
    PlanEstimate,
    PlanFinding,
    PlanFindings,
    PlanNotApproved,
    ReplanGoal,
    ResumeGoal,
    ValidatePlan,
)
from schemas.problems import Denied, IllegalMove, NotFound
from schemas.tools import GetTool, ToolUnknown

PAST_MAX = 2_000
AGENTS_MAX = 200


@service.handles(plans.decompose)
async def decompose(command: DecomposeGoal, ctx: Context) -> Decomposition:
    """The tasks of a goal that is not kept."""
    wanted = SubmitGoal(description=command.description, document_ids=command.document_ids)
    await check_documents(wanted, ctx)
    goal = rules.new_goal(wanted, ctx.principal, id=ctx.new_id(), at=ctx.now())
    attached = [await ctx.call(documents.get, GetDocument(id=d)) for d in command.document_ids]
    strategy, drafts = await planning.by(command.strategy, goal, attached, ctx)
    return Decomposition(strategy=strategy, items=drafts)


async def tasks_about(
    command: AboutPlan, ctx: Context
) -> tuple[Sequence[TaskDraft | Task], Constraints]:
    """The tasks in question, and what they may use.

    Raises:
        NotFound: There is no such goal, or it has no plan.
    """
    if command.goal_id is None:
        return command.tasks, command.constraints
    goal = await load(command.goal_id, ctx)
    plan = await load_plan(goal, ctx)
    rows = await ctx.database.rows(store.TASKS, plan.id)
    return [Task.model_validate(dict(row)) for row in rows], goal.constraints


@service.handles(plans.validate)
async def validate(command: ValidatePlan, ctx: Context) -> PlanFindings:
    """What is wrong with it now."""
    tasks, constraints = await tasks_about(command, ctx)
    found = await findings_of(tasks, constraints, ctx)
    return PlanFindings(ok=not found, items=tuple(found))


async def findings_of(
    tasks: Sequence[TaskDraft | Task], constraints: Constraints, ctx: Context
) -> list[PlanFinding]:
    """Look which agents and tools there are, then say what is wrong.

    Raises:
        Denied: Agents are not to be seen.
    """
    there, no_tools = dict[str, Agent](), dict[str, str]()
    for capability in dict.fromkeys(c for task in tasks for c in task.capabilities):
        wanted = ListAgents(capability=capability, limit=AGENTS_MAX)
        page = await ctx.call(agents.listing, wanted)
        there |= {agent.id: agent for agent in page.items}
    for name in dict.fromkeys(tool for task in tasks for tool in estimating.tools_of(task)):
        try:
            await ctx.call(tools.get, GetTool(name=name))
        except (NotFound, ToolUnknown):
            no_tools[name] = "there is no such tool"
        except Denied as refused:
            no_tools[name] = refused.message
    return estimating.findings(tasks, constraints, list(there.values()), no_tools)


@service.handles(plans.estimate)
async def estimate(command: EstimatePlan, ctx: Context) -> PlanEstimate:
    """From tasks of the past that are like these."""
    tasks, constraints = await tasks_about(command, ctx)
    rules.levels(tasks)
    wanted = sorted({capability for task in tasks for capability in task.capabilities})
    past = await ctx.database.rows(store.PAST, wanted, PAST_MAX)
    return estimating.estimate(tasks, past, constraints, command.price)


@service.handles(plans.approve)
async def approve(command: ApprovePlan, ctx: Context) -> Plan:
    """Approve exactly this plan; it is carried out, unless that is to be asked for."""
    await load(command.id, ctx)
    ctx.part_of(command.id)
    async with ctx.transaction() as tx:
        goal = await lock(tx, command.id)
        if goal.status != "planned":
            raise IllegalMove(status=goal.status)
        plan = rules.approved(await plan_in(tx, goal), command.sha256, ctx.principal, ctx.now())
        await tx.record(PlanApproved(plan=plan))
        await tx.enqueue(MakePlan(goal_id=goal.id))
    return plan


@service.handles(plans.execute)
async def execute(command: ExecuteGoal, ctx: Context) -> Goal:
    """Let a planned goal go on."""
    await load(command.id, ctx)
    ctx.part_of(command.id)
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id)
        if before.status != "planned":
            raise IllegalMove(status=before.status, to="executing")
        plan = await plan_in(tx, before)
        if plan.status != "approved":
            raise PlanNotApproved(sha256=plan.sha256)
        goal = rules.moved(before, "planned", ctx.now(), execute=True)
        await tx.record(GoalChanged(goal=goal))
        await tx.enqueue(MakePlan(goal_id=goal.id))
    return goal


@service.handles(plans.replan)
async def replan(command: ReplanGoal, ctx: Context) -> Goal:
    """Plan a failed goal anew: with the tasks that are given, or by a job."""
    await load(command.id, ctx)
    ctx.part_of(command.id)
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id)
        if before.status != "failed":
            raise IllegalMove(status=before.status, to="planning")
        goal = rules.moved(
            before, "planning", ctx.now(), error=None, completed_at=None,
            mandate=rules.retried_by(before, ctx.principal),
        )  # fmt: skip
        await tx.record(GoalChanged(goal=goal))
        if command.tasks:
            goal = await record_plan(tx, goal, command.tasks, "given", ctx)
        await tx.enqueue(MakePlan(goal_id=goal.id, feedback=command.feedback))
    return goal


async def steered(goal_id: str, before: GoalStatus, to: GoalStatus, ctx: Context) -> Goal:
    """The goal in another state; a job tells its run."""
    await load(goal_id, ctx)
    ctx.part_of(goal_id)
    async with ctx.transaction() as tx:
        found = await lock(tx, goal_id)
        if found.status != before:
            raise IllegalMove(status=found.status, to=to)
        goal = rules.moved(found, to, ctx.now())
        await tx.record(GoalChanged(goal=goal))
        await tx.enqueue(Steer(goal_id=goal.id))
    return goal


@service.handles(plans.pause)
async def pause(command: PauseGoal, ctx: Context) -> Goal:
    """To paused."""
    return await steered(command.id, "executing", "paused", ctx)


@service.handles(plans.resume)
async def resume(command: ResumeGoal, ctx: Context) -> Goal:
    """To executing."""
    return await steered(command.id, "paused", "executing", ctx)
