"""kill -9 of whoever drives a long run, again and again: each effect outside is had once."""

import asyncio
import json
import random
from collections import Counter

import nats
import pytest

from schemas import events, tools
from schemas.events import VerifyEvents
from schemas.tools import RegisterTool
from schemas.workflows import definitions, runs
from schemas.workflows.definitions import CreateWorkflow
from schemas.workflows.document import Document
from schemas.workflows.runs import AnswerQuestion, GetWorkflowRun, ListRunSteps, StartWorkflow
from tests.conftest import eventually, settled
from tests.faults.test_crashes import patiently

pytestmark = pytest.mark.timeout(300)
ITEMS = 60
KILLS = 5
KILL_EVERY_S = 2.0
POINTS = ("before-commit", "after-effect-before-ack", "tool-ran", "after-publish-before-delete")


def note(key, number, **more):
    """A step with an effect outside."""
    step = {"key": key, "type": "tool", "tool": "effects.note", "input": {"number": number}}
    return step | {"retry": {"attempts": 20, "first_s": 0.2, "most_s": 2}} | more


LONG = Document.model_validate({
    "at_once": 8,
    "steps": [
        {"key": "each", "type": "map", "items": {"$range": ITEMS}, "at_once": 6, "steps": [
            note("do", "$.index"),
            {"key": "double", "type": "set", "value": {"$mul": ["$.steps.do.output.number", 2]}},
            {"key": "more", "type": "set", "value": {"$add": ["$.steps.double.output", 1]}},
        ]},
        {"key": "both", "type": "parallel", "branches": {
            "left": [note("l", 1000), {"key": "pause", "type": "wait", "for_s": 1}],
            "right": [{"key": "may", "type": "human", "question": "?"}, note("r", 1001)],
        }},
        {"key": "taken-back", "type": "parallel", "on_error": "continue", "branches": {"only": [
            {"key": "broken", "type": "call", "operation": "agents.get", "input": {"id": "none"}},
        ]}},
        {"key": "sum", "type": "set", "value": {"$length": "$.steps.each.output"}},
    ],
})  # fmt: skip
SHORT = Document.model_validate({"steps": [note("a", 1), note("b", 2), note("c", 3)]})
QUEUED = Document.model_validate({
    "queue": {"name": "narrow", "runs_at_once": 1},
    "steps": [note("a", 1), {"key": "pause", "type": "wait", "for_s": 1}, note("b", 2)],
})  # fmt: skip


class Outside:
    """A program that is no part of the platform, and counts what it was told to do."""

    def __init__(self):
        self.asked, self.done = Counter(), Counter()

    async def serve(self, message):
        number = json.loads(message.data)["number"]
        invocation = message.headers["x-invocation-id"]
        self.asked[number] += 1
        if self.asked[number, invocation] == 0:
            self.done[number] += 1
        self.asked[number, invocation] += 1
        await message.respond(json.dumps({"number": number}).encode())


@pytest.fixture
async def outside(bus_server, bus_ready):
    counted = Outside()
    async with await nats.connect(bus_server.url) as bus:
        await bus.subscribe("tool.effects.note", cb=counted.serve)
        await settled(bus)
        yield counted


async def begun(ask, document):
    """A run of this document."""
    tool = RegisterTool(
        name="effects.note", description="Counts.", subject="tool.effects.note",
        input_schema={"type": "object"}, repeatable=True,
    )  # fmt: skip
    await patiently(ask, tools.register, tool, key="tool")
    command = CreateWorkflow(name="long", document=document)
    workflow = await patiently(ask, definitions.create, command, key="create")
    return await patiently(ask, runs.start, StartWorkflow(id=workflow.id), key="start")


async def ended(ask, run, timeout_s=200):
    async def check():
        found = await patiently(ask, runs.run, GetWorkflowRun(id=run.id))
        return found if found.finished_at else None

    return await eventually(check, timeout_s, 0.3)


async def test_a_run_of_two_hundred_steps_survives_the_death_of_its_drivers(handlers, ask, outside):
    running = [handlers.start(), handlers.start()]
    run = await begun(ask, LONG)
    draw = random.Random(20261123)
    for _ in range(KILLS):
        await asyncio.sleep(KILL_EVERY_S)  # the rhythm of the deaths is the test
        victim = draw.choice(running)
        victim.kill()
        running.remove(victim)
        running.append(handlers.start())

    async def answered():
        command = AnswerQuestion(id=run.id, path="both:right.may", answer="yes")
        try:
            return await patiently(ask, runs.answer, command, key="answer")
        except runs.NothingAsked:
            return None

    await eventually(answered, 120, 0.5)
    run = await ended(ask, run)
    assert (run.status, run.result) == ("succeeded", ITEMS), run.error
    assert outside.done == dict.fromkeys([*range(ITEMS), 1000, 1001], 1)
    first = await patiently(ask, runs.steps, ListRunSteps(id=run.id, limit=200))
    done = Counter(step.path for step in first.items)
    assert len(done) == ITEMS * 3 + 6
    assert set(done.values()) == {1}
    verdict = await patiently(ask, events.verify, VerifyEvents())
    assert verdict.ok, verdict


@pytest.mark.parametrize("point", POINTS)
async def test_a_run_survives_the_death_of_its_driver_at_this_point(handlers, ask, outside, point):
    first = handlers.start(point)
    starting = asyncio.create_task(begun(ask, SHORT))
    await handlers.died(first)
    handlers.start()
    run = await ended(ask, await starting)
    assert run.status == "succeeded", run.error
    assert outside.done == {1: 1, 2: 1, 3: 1}


@pytest.mark.parametrize("point", POINTS[:2])
async def test_no_run_stays_queued_when_its_processes_die(handlers, ask, outside, point):
    first = handlers.start()
    run = await begun(ask, QUEUED)
    more = [
        await patiently(ask, runs.start, StartWorkflow(id=run.workflow_id), key=f"start-{n}")
        for n in range(3)
    ]
    first.kill()
    for _ in range(2):
        await handlers.died(handlers.start(point))
    handlers.start()
    for one in (run, *more):
        over = await ended(ask, one)
        assert over.status == "succeeded", over.error
    assert outside.done == {1: 4, 2: 4}
