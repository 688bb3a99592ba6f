"""Goals: planned, carried out by agents in parallel, judged, and right after any failure."""

from pathlib import Path

import pytest

from schemas import agents, documents, evaluation, events, goals
from schemas.agents import Brief, ListSteps, ToolStep
from schemas.documents import AttachDocument
from schemas.evaluation import ListScores
from schemas.events import QueryEvents, VerifyEvents
from schemas.goals import (
    CancelGoal,
    CyclicPlan,
    DocumentNotReadable,
    GetGoal,
    GetPlan,
    ListTasks,
    RetryGoal,
    SubmitGoal,
    TaskDraft,
)
from schemas.problems import IllegalMove
from tests.conftest import eventually
from tests.factories import calculation, goal_of_calculations

pytestmark = pytest.mark.usefixtures("platform")

ORDERS = b"""order_id,region,status,total_amount
1,North,failed,10.10
2,North,ok,99.00
3,South,failed,5.05
4,North,failed,0.85
5,East,ok,7.00
"""


async def ended(ask, goal, timeout_s=100):
    """The goal at its end."""

    async def check():
        now = await ask(goals.get, GetGoal(id=goal.id))
        return now if now.status in ("completed", "failed", "cancelled") else None

    return await eventually(check, timeout_s)


async def story(ask, goal):
    """Everything that was recorded for a goal, page after page."""
    told, cursor = [], None
    while True:
        asked = QueryEvents(correlation_id=goal.id, limit=200, cursor=cursor)
        page = await ask(events.query, asked)
        told += page.items
        cursor = page.next
        if cursor is None:
            return told


async def test_a_goal_of_twelve_tasks_is_carried_out_and_its_events_tell_the_story(ask):
    goal = await ended(ask, await ask(goals.submit, goal_of_calculations(12)))
    assert goal.status == "completed", goal.error
    tasks = (await ask(goals.tasks, ListTasks(id=goal.id))).items
    assert {task.status for task in tasks} == {"succeeded"}
    plan = await ask(goals.plan, GetPlan(id=goal.id))
    assert plan.status == "completed"
    assert len(plan.levels[0]) == 11

    async def told():  # events behind a commit that is under way are not shown yet
        types = [event.type for event in await story(ask, goal)]
        return types if "goals.completed" in types else None

    types = await eventually(told)
    assert types[0] == "goals.submitted"
    assert types.count("goals.task_succeeded") == 12
    assert types.count("tools.invocation_succeeded") == 12
    assert (await ask(events.verify, VerifyEvents())).ok


async def test_the_result_is_scored(ask):
    goal = await ended(ask, await ask(goals.submit, goal_of_calculations(3)))
    assert 0 <= goal.result["quality"]["score"] <= 100
    scores = await ask(evaluation.scores, ListScores(subject_id=goal.id))
    assert [score.subject_id for score in scores.items] == [goal.id]


async def test_a_question_about_a_table_is_answered_with_exact_figures(ask):
    document = await ask(documents.attach, AttachDocument(name="orders.csv", content=ORDERS))
    question = "How many orders failed in each region, and what was their total amount?"
    goal = await ask(goals.submit, SubmitGoal(description=question, document_ids=(document.id,)))
    goal = await ended(ask, goal)
    assert goal.status == "completed", goal.error
    assert "10.95" in goal.result["answer"]
    assert "5.05" in goal.result["answer"]
    assert goal.result["artifact_id"]
    plan = await ask(goals.plan, GetPlan(id=goal.id))
    assert plan.strategy == "template:table-question"
    assert len(plan.levels[0]) > 1


async def test_two_reports_are_compared_with_exact_quotes(ask):
    folder = Path(__file__).parent.parent / "documents_text" / "reports"
    files = sorted(folder.glob("outage*"))[:2]
    assert len(files) == 2
    attached = [
        await ask(documents.attach, AttachDocument(name=f.name, content=f.read_bytes()))
        for f in files
    ]
    text = (
        "Compare the two incident reports. List the claims on which they disagree and write a "
        "one-page summary."
    )
    command = SubmitGoal(description=text, document_ids=tuple(d.id for d in attached))
    goal = await ended(ask, await ask(goals.submit, command))
    assert goal.status == "completed", goal.error
    assert goal.result["facts"], "no disagreement was found"
    quote = goal.result["facts"][0]["positions"][0]["quote"]
    assert any(quote in f.read_text() for f in files)
    assert goal.result["provenance"]
    assert goal.completion_tokens > 0


@pytest.mark.timeout(300)
async def test_a_goal_without_a_template_is_planned_by_the_model(ask):
    goal = await ask(goals.submit, SubmitGoal(description="Think of a name for a red boat."))
    goal = await ended(ask, goal, 280)
    plan = await ask(goals.plan, GetPlan(id=goal.id))
    assert plan.strategy == "model"
    assert len(plan.levels) == 3
    assert len(plan.levels[0]) >= 2
    assert goal.status == "completed", goal.error


async def test_a_circle_of_tasks_is_refused_with_the_circle(ask):
    circle = (calculation("a", after=("b",)), calculation("b", after=("a",)))
    with pytest.raises(CyclicPlan) as refused:
        await ask(goals.submit, SubmitGoal(description="x", tasks=circle))
    assert set(refused.value.details["cycle"]) == {"a", "b"}


async def test_a_goal_with_a_missing_document_is_refused(ask, platform):
    command = SubmitGoal(description="x", document_ids=(platform.clock.new_id(),))
    with pytest.raises(DocumentNotReadable):
        await ask(goals.submit, command)


def failing(key, after=()):
    """A task whose tool does not exist."""
    step = ToolStep(name="x", tool="no.such")
    return TaskDraft(
        key=key,
        title=key,
        brief=Brief(objective=key, steps=(step,)),
        depends_on=after,
        capabilities=("calculate",),
    )


async def test_a_failed_task_skips_what_depends_on_it_and_fails_the_goal(ask):
    tasks = (calculation("good"), failing("bad"), calculation("after", after=("bad",)))
    goal = await ended(ask, await ask(goals.submit, SubmitGoal(description="x", tasks=tasks)))
    assert (goal.status, goal.error["task"]) == ("failed", "bad")
    states = {t.key: t.status for t in (await ask(goals.tasks, ListTasks(id=goal.id))).items}
    assert states == {"good": "succeeded", "bad": "failed", "after": "skipped"}


async def test_a_retried_goal_keeps_what_succeeded(ask):
    tasks = (calculation("good"), failing("bad"))
    goal = await ended(ask, await ask(goals.submit, SubmitGoal(description="x", tasks=tasks)))
    before = {t.key: t for t in (await ask(goals.tasks, ListTasks(id=goal.id))).items}
    await ask(goals.retry, RetryGoal(id=goal.id))
    await ended(ask, goal)
    after = {t.key: t for t in (await ask(goals.tasks, ListTasks(id=goal.id))).items}
    assert after["good"] == before["good"]
    assert after["bad"].attempt == before["bad"].attempt + 1


async def test_a_cancelled_goal_stops_and_stays_cancelled(ask):
    goal = await ask(goals.submit, goal_of_calculations(30))
    cancelled = await ask(goals.cancel, CancelGoal(id=goal.id, reason="enough"))
    assert cancelled.status == "cancelled"

    async def all_closed():
        tasks = (await ask(goals.tasks, ListTasks(id=goal.id))).items
        return not {t.status for t in tasks} & {"pending", "ready", "assigned", "running"}

    await eventually(all_closed)
    with pytest.raises(IllegalMove):
        await ask(goals.cancel, CancelGoal(id=goal.id))


async def test_every_step_of_a_run_is_recorded_once(ask):
    goal = await ended(ask, await ask(goals.submit, goal_of_calculations(4)))
    for task in (await ask(goals.tasks, ListTasks(id=goal.id))).items:
        steps = (await ask(agents.steps, ListSteps(run_id=task.run_id))).items
        assert [(s.ordinal, s.status, s.attempts) for s in steps] == [(0, "finished", 1)]
