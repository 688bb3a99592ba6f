"""kill -9 of a handlers process at each named point while a goal runs: nothing lost or doubled."""

import asyncio
import contextlib

import nats
import pytest

from bus import faults
from handlers import DOMAINS
from schemas import agents, events, goals, tools
from schemas.agents import Brief, ListSteps, ModelStep
from schemas.events import QueryEvents, VerifyEvents
from schemas.goals import GetGoal, ListTasks, SubmitGoal, TaskDraft
from schemas.problems import BreakerOpen, DependencyDown, TimedOut, Unavailable
from schemas.tools import ListInvocations
from tests.conftest import eventually
from tests.factories import calculation, create_agent, goal_of_calculations

AT_A_REPLAY = "after-replay-before-position"
AWAY = (Unavailable, TimedOut, DependencyDown, BreakerOpen)


async def patiently(ask, operation, command, **how):
    """Ask until somebody answers."""

    async def asked():
        try:
            return await ask(operation, command, **how)
        except AWAY:
            ask.forget_failures()
            return None

    return await eventually(asked, 60, 0.2)


def goal_with_a_model_step(count: int) -> SubmitGoal:
    """Calculations and one question to the model."""
    text = {"type": "string", "minLength": 1, "maxLength": 40}
    schema = {"type": "object", "properties": {"text": text}, "required": ["text"]}
    ask = ModelStep(name="say", ask="Say something short.", output_schema=schema, tokens_max=64)
    asking = TaskDraft(
        key="say", title="Say it", brief=Brief(objective="Say", steps=(ask,)),
        capabilities=("write",),
    )  # fmt: skip
    return SubmitGoal(
        description="Compute and say",
        tasks=(*goal_of_calculations(count).tasks, asking),
    )


OF_LETTERS = ("before-letter", "after-letter-before-end")
"""No message of a goal is given up: `test_dead_letters.py` dies there."""
GOALS = {"after-model-before-checkpoint": goal_with_a_model_step}


async def check_invariants(ask, goal_id):
    """Every task done once, every step recorded once, every tool called once, log and tables equal."""
    tasks = (await ask(goals.tasks, ListTasks(id=goal_id))).items
    assert {task.status for task in tasks} == {"succeeded"}
    for task in tasks:
        steps = (await ask(agents.steps, ListSteps(run_id=task.run_id))).items
        assert [step.status for step in steps] == ["finished"] * len(steps)
    calls = (await ask(tools.invocations, ListInvocations(goal_id=goal_id, limit=200))).items
    done = [call.task_id for call in calls]
    computed = [task.id for task in tasks if hasattr(task.brief.steps[0], "tool")]
    assert sorted(done) == sorted(computed), [
        (c.id, c.task_id, c.status, c.attempts, c.error) for c in calls
    ]
    for event_type, count in (("goals.completed", 1), ("goals.task_succeeded", len(tasks))):
        asked = QueryEvents(correlation_id=goal_id, type=event_type, limit=200)
        assert len((await ask(events.query, asked)).items) == count
    verdict = await ask(events.verify, VerifyEvents())
    assert verdict.ok, verdict


@pytest.mark.parametrize("point", [p for p in faults.POINTS if p not in (*OF_LETTERS, AT_A_REPLAY)])
async def test_a_goal_survives_the_death_of_its_worker(handlers, ask, point):
    doomed = handlers.start(point)
    submitted = asyncio.create_task(
        patiently(ask, goals.submit, GOALS.get(point, goal_of_calculations)(6), key="the-goal")
    )
    await handlers.died(doomed)
    handlers.start()
    goal = await submitted

    async def completed():
        now = await patiently(ask, goals.get, GetGoal(id=goal.id))
        assert now.status not in ("failed", "cancelled"), now.error
        return now.status == "completed"

    await eventually(completed, 90, 0.3)
    await check_invariants(ask, goal.id)


async def test_an_acknowledged_command_survives_the_death_right_after_its_commit(handlers, ask):
    doomed = handlers.start("after-commit-before-reply")
    command = create_agent()
    asked = asyncio.create_task(patiently(ask, agents.create, command, key="unknown"))
    await handlers.died(doomed)
    handlers.start()
    agent = await asked
    again = await ask(agents.create, command, key="unknown")
    assert again == agent
    story = await ask(events.query, QueryEvents(aggregate_id=agent.id))
    assert [event.type for event in story.items] == ["agents.created"]


async def test_two_handlers_processes_share_the_work_and_one_may_die(handlers, ask):
    first = handlers.start()
    handlers.start()
    tasks = tuple(calculation(f"t{n}", f"{n} + 1") for n in range(20))
    goal = await patiently(ask, goals.submit, SubmitGoal(description="x", tasks=tasks), key="g")
    first.kill()

    async def completed():
        return (await patiently(ask, goals.get, GetGoal(id=goal.id))).status == "completed"

    await eventually(completed, 60, 0.3)
    await check_invariants(ask, goal.id)


async def announced(bus_server):
    """Whether every domain says on the bus that it is there."""
    connection = await nats.connect(bus_server.url)
    replies = await connection.subscribe(connection.new_inbox())
    await connection.publish("$SRV.PING", reply=replies.subject)
    found = []
    with contextlib.suppress(TimeoutError):
        while len(found) < len(DOMAINS):
            found.append(await replies.next_msg(timeout=1))
    await connection.close()
    return len(found) == len(DOMAINS)


async def test_handlers_told_to_end_while_the_bus_is_away_end_in_order(handlers, ask, bus_server):
    running = handlers.start()
    await eventually(lambda: announced(bus_server), 60)
    bus_server.kill()
    running.terminate()
    assert await asyncio.to_thread(running.wait, 60) == 0
