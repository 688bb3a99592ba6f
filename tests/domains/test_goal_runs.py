"""Plans carried out by runs of workflows: people, busy agents, budgets, cancelling, control."""

import asyncio
from contextlib import suppress

import pytest

from schemas import agents, goals, human
from schemas.agents import AgentLimits, Brief, ListRuns, ModelStep
from schemas.goals import (
    CancelGoal,
    Constraints,
    GetGoal,
    GetPlan,
    ListTasks,
    PersonAsked,
    SubmitGoal,
    TaskDraft,
)
from schemas.human import AnswerTask
from schemas.human import ListTasks as ListInbox
from schemas.problems import IllegalMove, NotFound
from schemas.workflows import runs
from schemas.workflows.runs import (
    CancelWorkflowRun,
    GetWorkflowRun,
    ListRunSteps,
    PauseRun,
    RetryRun,
)
from tests.conftest import eventually
from tests.domains.misbehaving import END, Misbehaving, line
from tests.domains.test_goals import ended
from tests.factories import calculation, create_agent

pytestmark = pytest.mark.usefixtures("platform")


class Model(Misbehaving):
    """Says one word whenever it is asked; `hold` keeps it silent, `most` asked at once are told."""

    def __init__(self):
        super().__init__(self.say)
        self.hold, self.most = None, 0

    async def say(self, writer, _):
        self.most = max(self.most, self.now)
        if self.hold is not None:
            await self.hold.wait()
        writer.write(line('{"text": "word"}') + END)


@pytest.fixture
async def model():
    server = Model()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    yield server
    listening.close()


@pytest.fixture
def settings(settings, model):
    chosen = {"ollama_url": f"http://127.0.0.1:{model.port}", "chat_model": "m"}
    return settings.model_copy(update=chosen)


YES = {"type": "object", "required": ["yes"], "properties": {"yes": {"type": "boolean"}}}
SAID = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}


async def tasks_of(ask, goal):
    return {task.key: task for task in (await ask(goals.tasks, ListTasks(id=goal.id))).items}


async def run_of(ask, goal):
    """The workflow run of the goal's plan, as soon as it is begun."""

    async def check():
        plan = await ask(goals.plan, GetPlan(id=goal.id))
        with suppress(NotFound):
            return await ask(runs.run, GetWorkflowRun(id=plan.run_id))

    return await eventually(check)


async def of_status(ask, goal, key, status):
    async def check():
        task = (await tasks_of(ask, goal)).get(key)
        return task if task and task.status == status else None

    return await eventually(check, 40)


def asking_a_person(key, after=(), **person):
    return TaskDraft(
        key=key, title="May it be sent?", kind="human", depends_on=after,
        brief=Brief(objective="$5 for this letter?"),
        person=PersonAsked(answer=YES, for_role="operator", **person),
    )  # fmt: skip


def thinking(key, capability="write", **fields):
    step = ModelStep(name="say", ask="Say one word.", output_schema=SAID, tokens_max=40)
    brief = Brief(objective="Say it", steps=(step,))
    return TaskDraft(key=key, title=key, brief=brief, capabilities=(capability,), **fields)


async def test_a_task_for_people_waits_in_the_inbox_and_its_answer_goes_to_those_behind_it(ask):
    tasks = (
        calculation("sum", "40 + 2"), asking_a_person("may", ("sum",)),
        calculation("after", "1 + 1", ("may",)),
    )  # fmt: skip
    goal = await ask(goals.submit, SubmitGoal(description="x", tasks=tasks))
    task = await of_status(ask, goal, "may", "assigned")
    [asked] = (await ask(human.listing, ListInbox(status="open"))).items
    assert (asked.id, asked.for_role, asked.title) == (task.id, "operator", "May it be sent?")
    assert asked.question["objective"] == "$5 for this letter?"
    assert asked.question["inputs"]["sum"]["value"] == "42"
    await ask(human.answer, AnswerTask(id=asked.id, answer={"yes": True}))
    goal = await ended(ask, goal)
    assert goal.status == "completed", goal.error
    found = await tasks_of(ask, goal)
    assert found["may"].result == {"yes": True}
    [run] = (await ask(agents.runs, ListRuns(goal_id=goal.id, limit=1))).items
    assert (run.task_id, run.brief.inputs) == (found["after"].id, {"may": {"yes": True}})


async def test_a_task_that_nobody_answers_in_time_fails_and_leaves_out_what_is_behind_it(ask):
    tasks = (asking_a_person("may", within_s=0.5), calculation("after", "1", ("may",)))
    goal = await ended(ask, await ask(goals.submit, SubmitGoal(description="x", tasks=tasks)))
    states = {key: task.status for key, task in (await tasks_of(ask, goal)).items()}
    assert (goal.status, states) == ("failed", {"may": "timed_out", "after": "skipped"})


async def test_the_run_of_a_plan_belongs_to_the_goals_owner_and_only_the_goal_leads_it(ask, ask_as):
    owner = ask_as("developer")
    goal = await owner(goals.submit, SubmitGoal(description="x", tasks=(asking_a_person("may"),)))
    await of_status(ask, goal, "may", "assigned")
    run = await run_of(owner, goal)
    assert (run.goal_id, run.owner_id, run.status) == (goal.id, goal.owner_id, "running")
    assert run.mandate == goal.mandate
    for operation, command in (
        (runs.cancel, CancelWorkflowRun(id=run.id)), (runs.pause, PauseRun(id=run.id)),
        (runs.retry, RetryRun(id=run.id)),
    ):  # fmt: skip
        with pytest.raises(IllegalMove):
            await ask(operation, command)
    await owner(goals.cancel, CancelGoal(id=goal.id))


async def test_cancelling_a_goal_cancels_its_run_its_agents_and_what_it_asks_people(ask, model):
    model.hold = asyncio.Event()
    tasks = (thinking("think"), asking_a_person("may"), calculation("after", "1", ("think",)))
    goal = await ask(goals.submit, SubmitGoal(description="x", tasks=tasks))
    begun = await of_status(ask, goal, "think", "running")
    await of_status(ask, goal, "may", "assigned")

    async def asked():
        return model.now == 1

    await eventually(asked)
    await ask(goals.cancel, CancelGoal(id=goal.id, reason="enough"))

    async def all_over():
        run = await run_of(ask, goal)
        work = await ask(agents.run, agents.GetRun(id=begun.run_id))
        inbox = (await ask(human.listing, ListInbox(status="open"))).items
        return (run.status, work.status, inbox, model.now) == ("cancelled", "cancelled", (), 0)

    await eventually(all_over)  # the model is hung up on: nothing is released
    goal = await ask(goals.get, GetGoal(id=goal.id))
    states = {task.status for task in (await tasks_of(ask, goal)).values()}
    assert (goal.status, states) == ("cancelled", {"cancelled"})


async def test_a_task_waits_until_an_agent_has_room(ask, model):
    await ask(agents.create, create_agent(capabilities=("rare",), limits=AgentLimits(parallel=1)))
    model.hold = asyncio.Event()
    tasks = (thinking("a", "rare"), thinking("b", "rare"))
    goal = await ask(goals.submit, SubmitGoal(description="x", tasks=tasks))

    async def one_waits():
        steps = (await ask(runs.steps, ListRunSteps(id=(await run_of(ask, goal)).id))).items
        return sorted((step.awaits or "").partition("/")[0] for step in steps) == ["agent", "run"]

    await eventually(one_waits)
    model.hold.set()
    goal = await ended(ask, goal)
    assert goal.status == "completed", goal.error
    assert goal.completion_tokens == sum(
        task.completion_tokens for task in (await tasks_of(ask, goal)).values()
    )


async def test_no_more_agents_are_at_work_than_the_goal_says(ask, model):
    model.hold = asyncio.Event()
    command = SubmitGoal(
        description="x", constraints=Constraints(parallelism=2),
        tasks=tuple(thinking(key) for key in "abcde"),
    )  # fmt: skip
    goal = await ask(goals.submit, command)

    async def two_are_at_work():
        states = sorted(task.status for task in (await tasks_of(ask, goal)).values())
        return states == ["ready"] * 3 + ["running"] * 2 and model.now == 2

    await eventually(two_are_at_work)  # a task is told to run before its model is asked
    model.hold.set()
    assert (await ended(ask, goal)).status == "completed"
    assert model.most == 2


async def test_a_goal_whose_tokens_are_used_up_fails_and_says_so(ask, model):
    command = SubmitGoal(
        description="x", constraints=Constraints(parallelism=1, tokens=100),
        tasks=tuple(thinking(f"t{n}", depends_on=(f"t{n - 1}",) if n else ()) for n in range(60)),
    )  # fmt: skip
    goal = await ended(ask, await ask(goals.submit, command))
    assert (goal.status, goal.error["code"]) == ("failed", "budget")
    states = {task.status for task in (await tasks_of(ask, goal)).values()}
    assert states == {"succeeded", "failed", "skipped"}
