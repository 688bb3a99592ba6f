"""Plans before they are carried out, approved, held, and made anew."""

import asyncio

import pytest

from bus.statement import Statement
from schemas import agents, goals, tools
from schemas.agents import Brief, CreateAgent, ModelStep, ToolStep
from schemas.goals import (
    CancelGoal,
    Constraints,
    CyclicPlan,
    GetGoal,
    GetPlan,
    ListTasks,
    SubmitGoal,
    TaskDraft,
)
from schemas.goals import planning as plans
from schemas.goals.planning import (
    ApprovePlan,
    DecomposeGoal,
    EstimatePlan,
    ExecuteGoal,
    NoPlanOfThisKind,
    PauseGoal,
    PlanNotApproved,
    ReplanGoal,
    ResumeGoal,
    ValidatePlan,
)
from schemas.human import ContentChanged
from schemas.principal import Principal
from schemas.problems import Denied, IllegalMove
from schemas.tools import ListInvocations
from schemas.workflows import runs
from schemas.workflows.runs import GetWorkflowRun
from tests.conftest import eventually
from tests.domains.misbehaving import END, Misbehaving, line
from tests.domains.test_goals import ended, failing
from tests.factories import calculation, goal_of_calculations

pytestmark = pytest.mark.usefixtures("platform")

PLAN = (
    '{"first": [{"title": "Look", "capability": "read"}, {"title": "Think", "capability":'
    ' "analyse"}], "then": [{"title": "Gather", "capability": "write"}]}'
)
SAID = {"type": "object", "required": ["answer"], "properties": {"answer": {"type": "string"}}}


class Planner(Misbehaving):
    """Writes the same plan whenever a plan is asked for, else one answer; `hold` keeps it silent."""

    def __init__(self):
        super().__init__(self.say)
        self.plans, self.hold = 0, None

    async def say(self, writer, number):
        body = self.bodies[number - 1]
        asked = "split a goal" in body["messages"][0]["content"]
        self.plans += asked
        if self.hold is not None and not asked:
            await self.hold.wait()
        answer = PLAN if asked else '{"answer": "done"}' if body.get("format") else "done"
        writer.write(line(answer) + END)


@pytest.fixture
async def planner():
    server = Planner()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


@pytest.fixture
def settings(settings, planner):
    chosen = {"ollama_url": f"http://127.0.0.1:{planner.port}", "chat_model": "m"}
    return settings.model_copy(update=chosen)


async def of_status(ask, goal, *statuses):
    async def check():
        now = await ask(goals.get, GetGoal(id=goal.id))
        return now if now.status in statuses else None

    return await eventually(check, 60)


async def tasks_of(ask, goal):
    return {task.key: task for task in (await ask(goals.tasks, ListTasks(id=goal.id))).items}


async def plan_of(ask, goal):
    return await ask(goals.plan, GetPlan(id=goal.id))


async def test_a_goal_is_shown_as_tasks_and_the_model_plans_the_same_words_once(ask, planner):
    wanted = DecomposeGoal(description="Think of a name for a red boat!")
    first = await ask(plans.decompose, wanted)
    assert (first.strategy, [t.key for t in first.items]) == (
        "model", ["step-1a", "step-1b", "step-2a", "answer"],
    )  # fmt: skip
    again = DecomposeGoal(description="think of a name, for a RED boat")
    second = await ask(plans.decompose, again)
    assert (second.strategy, planner.plans) == ("cache", 1)
    assert [t.title for t in second.items] == [t.title for t in first.items]
    chosen = again.model_copy(update={"strategy": "model"})
    assert (await ask(plans.decompose, chosen)).strategy == "model"
    assert planner.plans == 2
    assert (await ask(goals.listing, goals.ListGoals())).items == ()
    goal = await ask(goals.submit, SubmitGoal(description=wanted.description, execute=False))
    await of_status(ask, goal, "planned")
    assert (await plan_of(ask, goal)).strategy == "cache"


async def test_a_plan_is_taken_again_for_a_week_and_only_for_its_owner(ask, ask_as, platform):
    wanted = DecomposeGoal(description="Think of a name")
    await ask(plans.decompose, wanted)
    from_cache = wanted.model_copy(update={"strategy": "cache"})
    assert (await ask(plans.decompose, from_cache)).strategy == "cache"
    with pytest.raises(NoPlanOfThisKind):
        await ask_as("developer")(plans.decompose, from_cache)
    older = "UPDATE mcp_documents.plan_cache SET made_at = made_at - interval '7 days 1 second'"
    await platform.database.execute(Statement(older))
    with pytest.raises(NoPlanOfThisKind):
        await ask(plans.decompose, from_cache)
    with pytest.raises(NoPlanOfThisKind):
        await ask(plans.decompose, wanted.model_copy(update={"strategy": "template"}))


async def test_what_is_wrong_with_a_plan_is_told_before_it_is_carried_out(ask):
    circle = (calculation("a", after=("b",)), calculation("b", after=("a",)))
    [found] = (await ask(plans.validate, ValidatePlan(tasks=circle))).items
    assert found.kind == "cycle"
    rare = TaskDraft(
        key="rare", title="x", brief=Brief(objective="x"), capabilities=("read", "no-such"),
    )  # fmt: skip
    command = ValidatePlan(
        tasks=(calculation("good"), failing("bad"), rare), constraints=Constraints(tokens=100)
    )
    answer = await ask(plans.validate, command)
    assert [(f.kind, f.tasks) for f in answer.items] == [
        ("capability", ("rare",)), ("tool", ("bad",)), ("budget", ()),
    ]  # fmt: skip
    assert not answer.ok
    agent = CreateAgent(name="rare", capabilities=("no-such", "read"))
    await ask(agents.create, agent)
    better = command.model_copy(update={"tasks": command.tasks[::2], "constraints": Constraints()})
    assert (await ask(plans.validate, better)).ok


async def test_who_approves_a_plan_sees_what_is_wrong_with_it(ask):
    rare = TaskDraft(key="rare", title="x", brief=Brief(objective="x"), capabilities=("no-such",))
    command = SubmitGoal(description="x", tasks=(failing("bad"), rare), approve=True)
    goal = await ask(goals.submit, command)

    async def told():
        return (await plan_of(ask, goal)).findings

    found = await eventually(told)
    assert [(f["kind"], f["tasks"]) for f in found] == [("capability", ["rare"]), ("tool", ["bad"])]
    again = await ask(plans.validate, ValidatePlan(goal_id=goal.id))
    assert [item.model_dump(mode="json") for item in again.items] == list(found)


async def test_an_estimate_is_taken_from_what_such_tasks_have_used_before(ask):
    goal = await ask(goals.submit, goal_of_calculations(6))
    command = EstimatePlan(goal_id=goal.id, price=2.0)
    before = await ask(plans.estimate, command)
    assert (before.tasks, before.recorded) == (6, 0)
    assert (before.tokens.high, before.seconds.likely) == (0, 3)  # 5 tasks, 4 at once, and 1
    await ended(ask, goal)
    after = await ask(plans.estimate, command)
    assert after.recorded == 6
    assert 0 < after.seconds.low <= after.seconds.likely <= after.seconds.high
    asking = ModelStep(name="a", ask="x", output_schema=SAID)
    task = TaskDraft(key="a", title="a", brief=Brief(objective="x", steps=(asking,)))
    costs = (await ask(plans.estimate, EstimatePlan(tasks=(task,), price=2.0))).cost
    assert (costs.low, costs.likely, costs.high) == (0.6, 2, 8)
    with pytest.raises(CyclicPlan):
        await ask(plans.estimate, EstimatePlan(tasks=(calculation("a", after=("a",)),)))


async def test_a_plan_waits_until_a_person_has_approved_exactly_it(ask, ask_as):
    command = goal_of_calculations(2).model_copy(update={"approve": True})
    goal = await ask(goals.submit, command)
    plan = await plan_of(ask, goal)
    assert (goal.status, plan.status) == ("planned", "validated")
    with pytest.raises(PlanNotApproved):
        await ask(plans.execute, ExecuteGoal(id=goal.id))
    with pytest.raises(ContentChanged) as other:
        await ask(plans.approve, ApprovePlan(id=goal.id, sha256="0" * 64))
    assert other.value.details["sha256"] == plan.sha256
    approval = ApprovePlan(id=goal.id, sha256=plan.sha256)
    with pytest.raises(Denied):
        await ask_as("viewer")(plans.approve, approval)
    program = ask.acting_as(Principal(id="admin", kind="client", roles=("admin",)))
    with pytest.raises(Denied):
        await program(plans.approve, approval)
    assert (await tasks_of(ask, goal))["total"].status == "pending"
    approved = await ask_as("operator")(plans.approve, approval)
    assert (approved.status, approved.approved_by) == ("approved", "operator")
    assert (await ended(ask, goal)).status == "completed"
    with pytest.raises(IllegalMove):
        await ask(plans.approve, approval)


async def test_a_plan_that_was_changed_behind_its_approval_is_not_carried_out(ask, platform):
    command = goal_of_calculations(2).model_copy(update={"approve": True})
    goal = await ask(goals.submit, command)
    plan = await plan_of(ask, goal)
    change = "UPDATE mcp_documents.tasks SET brief = jsonb_set(brief, '{objective}', '\"other\"')"
    await platform.database.execute(Statement(change))
    await ask(plans.approve, ApprovePlan(id=goal.id, sha256=plan.sha256))
    goal = await of_status(ask, goal, "failed")
    assert goal.error["code"] == PlanNotApproved.code
    assert (await ask(tools.invocations, ListInvocations(goal_id=goal.id))).items == ()


async def test_a_planned_goal_is_carried_out_when_it_is_said(ask):
    goal = await ask(
        goals.submit, goal_of_calculations(2).model_copy(update={"execute": False})
    )  # fmt: skip
    assert (await plan_of(ask, goal)).status == "approved"
    await ask(plans.execute, ExecuteGoal(id=goal.id))
    assert (await ended(ask, goal)).status == "completed"
    with pytest.raises(IllegalMove):
        await ask(plans.execute, ExecuteGoal(id=goal.id))


async def test_a_paused_goal_begins_nothing_and_goes_on_where_it_was(ask, planner):
    planner.hold = asyncio.Event()
    asking = ModelStep(name="a", ask="Say it.", output_schema=SAID)
    think = TaskDraft(
        key="think", title="x", brief=Brief(objective="x", steps=(asking,)), capabilities=("write",)
    )
    tasks = (think, calculation("after", after=("think",)))
    goal = await ask(goals.submit, SubmitGoal(description="x", tasks=tasks))

    async def thinking():
        return planner.now == 1

    await eventually(thinking)
    assert (await ask(plans.pause, PauseGoal(id=goal.id))).status == "paused"
    with pytest.raises(IllegalMove):
        await ask(plans.pause, PauseGoal(id=goal.id))

    async def told():
        plan = await plan_of(ask, goal)
        run = await ask(runs.run, GetWorkflowRun(id=plan.run_id))
        return run.status == "paused"

    await eventually(told)
    planner.hold.set()

    async def ready():
        states = {key: task.status for key, task in (await tasks_of(ask, goal)).items()}
        return states == {"think": "succeeded", "after": "ready"}

    await eventually(ready)  # it was under way, and is finished; nothing else begins
    assert (await ask(goals.get, GetGoal(id=goal.id))).progress == 0.5
    assert (await ask(tools.invocations, ListInvocations(goal_id=goal.id))).items == ()
    assert (await ask(plans.resume, ResumeGoal(id=goal.id))).status == "executing"
    assert (await ended(ask, goal)).status == "completed"


async def test_a_paused_goal_can_be_cancelled(ask):
    goal = await ask(goals.submit, goal_of_calculations(9))
    await of_status(ask, goal, "executing")
    await ask(plans.pause, PauseGoal(id=goal.id))
    assert (await ask(goals.cancel, CancelGoal(id=goal.id))).status == "cancelled"
    with pytest.raises(IllegalMove):
        await ask(plans.resume, ResumeGoal(id=goal.id))


async def test_a_failed_goal_is_planned_anew_and_keeps_what_is_done(ask):
    tasks = (calculation("good", "6 * 7"), failing("bad"), calculation("after", "1", ("bad",)))
    goal = await ended(ask, await ask(goals.submit, SubmitGoal(description="x", tasks=tasks)))
    first, before = await plan_of(ask, goal), await tasks_of(ask, goal)
    step = ToolStep(
        name="x", tool="calculator.evaluate",
        arguments={"expression": {"$ref": "inputs.good.value"}},
    )  # fmt: skip
    other = TaskDraft(
        key="other", title="Another way", brief=Brief(objective="x", steps=(step,)),
        depends_on=("good",), capabilities=("calculate",),
    )  # fmt: skip
    await ask(plans.replan, ReplanGoal(id=goal.id, tasks=(other,)))
    goal = await ended(ask, goal)
    assert goal.status == "completed", goal.error
    second, after = await plan_of(ask, goal), await tasks_of(ask, goal)
    assert (second.plan_no, second.supersedes_id) == (2, first.id)
    assert second.sha256 != first.sha256
    assert {key: task.status for key, task in after.items()} == {
        "good": "succeeded", "other": "succeeded",
    }  # fmt: skip
    assert after["good"].kept_from == before["good"].id
    assert (after["good"].result, after["good"].run_id) == (
        before["good"].result, before["good"].run_id,
    )  # fmt: skip
    assert after["other"].result["value"] == "42"
    calls = (await ask(tools.invocations, ListInvocations(goal_id=goal.id))).items
    succeeded = [call for call in calls if call.status == "succeeded"]
    assert len(succeeded) == 2, "what was done was done again"
    with pytest.raises(IllegalMove):
        await ask(plans.replan, ReplanGoal(id=goal.id))


async def test_a_plan_that_fails_is_made_anew_once_by_itself_if_the_goal_says_so(ask, planner):
    command = SubmitGoal(
        description="Name a boat", tasks=(calculation("good"), failing("bad")),
        constraints=Constraints(replans=1),
    )  # fmt: skip
    goal = await ended(ask, await ask(goals.submit, command))
    assert goal.status == "completed", goal.error
    plan, tasks = await plan_of(ask, goal), await tasks_of(ask, goal)
    assert (plan.plan_no, plan.strategy, planner.plans) == (2, "model", 1)
    assert list(tasks) == [
        "good", "again-1-step-1a", "again-1-step-1b", "again-1-step-2a", "again-1-answer",
    ]  # fmt: skip
    assert tasks["again-1-step-1a"].depends_on == ("good",)
    assert goal.result["answer"] == "done"

    unsaid = SubmitGoal(description="Name a boat", tasks=(failing("bad"),))
    goal = await ended(ask, await ask(goals.submit, unsaid))
    assert (goal.status, (await plan_of(ask, goal)).plan_no) == ("failed", 1)
