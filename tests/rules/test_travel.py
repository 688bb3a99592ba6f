"""Runs through time, without servers: questions, differences, and a record that answers."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from bus import travel
from handlers.agents import conversation, offline
from schemas import models, tools
from schemas.agents import Agent, AgentConfig, AgentLimits, Brief, Run, Step
from schemas.contract import Schema
from schemas.models import GenerateText, Message
from schemas.tools import InvokeTool, Tool, ToolFailed
from schemas.travel import BadChange

AT = datetime(2026, 1, 2, tzinfo=UTC)
ID = "00000000-0000-7000-8000-00000000000"
LOOK_UP = Tool.model_construct(
    name="shop.look_up", description="Look up a price", input_schema={"type": "object"}
)


def test_a_question_is_the_same_on_whose_behalf_it_is_asked():
    one = InvokeTool(name="a.b", arguments={"x": 1, "y": 2}, goal_id=f"{ID}1")
    other = InvokeTool(name="a.b", arguments={"y": 2, "x": 1}, task_id=f"{ID}2")
    third = InvokeTool(name="a.b", arguments={"x": 2, "y": 1})
    asked = [travel.question(tools.invoke, command) for command in (one, other, third)]

    assert asked[0] == asked[1]
    assert asked[0].hash != asked[2].hash
    assert asked[0].request == {"name": "a.b", "arguments": {"x": 1, "y": 2}}


def test_a_question_shows_no_secret_and_no_long_text():
    class Told(Schema):
        word: SecretStr
        content: bytes = b""

    secret = travel.question(models.generate, Told(word=SecretStr("open sesame"), content=b"x"))
    assert "sesame" not in secret.model_dump_json()
    long = GenerateText(messages=(Message(role="user", content="x" * 99_000),) * 2)
    asked = travel.question(models.generate, long)
    assert (asked.request, len(asked.hash)) == (None, 64)


@pytest.mark.parametrize(
    ("first", "second", "pointers"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": [1, {"b/c~": 2}]}, {"a": [1, {"b/c~": 3}]}, ["/a/1/b~1c~0"]),
        ({"a": [1]}, {"a": [1, 2]}, ["/a/1"]),
        ({"a": 1}, {"b": 1}, ["/a", "/b"]),
        (1, [1], [""]),
        (None, {"a": 1}, [""]),
    ],
    ids=["same", "escaped", "longer", "renamed", "kinds", "nothing"],
)
def test_differences_are_named_by_json_pointers(first, second, pointers):
    assert [one.path for one in travel.differences(first, second)] == pointers


def test_a_report_has_a_bound_and_says_what_it_leaves_out():
    steps = [{f"s{n}": {"output": list(range(30))} for n in range(40)} for _ in range(2)]
    for facts in steps[1].values():
        facts["output"] = [value + 1 for value in facts["output"]]

    report = travel.comparison((f"{ID}1", f"{ID}2"), ({}, {}), tuple(steps))

    assert sum(len(step.differences) for step in report.steps) == travel.SHOWN_MAX
    assert report.left_out == 40 * 30 - travel.SHOWN_MAX
    assert not report.same


def test_a_change_of_what_is_not_there_is_refused():
    thing = {"inputs": {"list": [1, 2]}}
    travel.put(thing, ("inputs", "list", "1"), 5)
    travel.put(thing, ("inputs", "new"), 6)
    assert thing == {"inputs": {"list": [1, 5], "new": 6}}
    for path in (("inputs", "list", "7"), ("inputs", "list", "x"), ("inputs", "no", "deeper")):
        with pytest.raises(BadChange):
            travel.put(thing, path, 0)


class Story:
    """A run of free turns, as it is recorded: the model asks for a tool twice, then answers."""

    def __init__(self) -> None:
        self.agent = Agent(
            id=f"{ID}0", version=1, name="a", agent_type="t", capabilities=(), status="idle",
            config=AgentConfig(), limits=AgentLimits(), status_reason=None, running=0,
            owner_id="o", created_at=AT, updated_at=AT, terminated_at=None,
        )  # fmt: skip
        self.steps: list[Step] = []
        self.run = Run(
            id=f"{ID}1", version=3, agent_id=f"{ID}0", task_id=None, goal_id=None,
            brief=Brief(objective="price"), status="succeeded", result={"text": "3 euros"},
            error=None, steps=5, prompt_tokens=1, completion_tokens=1, owner_id="o",
            created_at=AT, started_at=AT, finished_at=AT,
        )  # fmt: skip
        refused = ToolFailed("No such fruit.", fruit="aple").kept()
        self.turn("", {"name": "shop.look_up", "arguments": {"fruit": "aple"}})
        self.tool({"fruit": "aple"}, {"error": dict(sorted(refused.items()))}, None)
        self.turn("", {"name": "shop.look_up", "arguments": {"fruit": "apple"}})
        self.tool({"fruit": "apple"}, {"price": 3}, f"{ID}7")
        self.turn("3 euros")

    def turn(self, text, *calls):
        asked = conversation.next_turn(self.agent, self.run, self.steps, [LOOK_UP])
        output = {"text": text, "tool_calls": list(calls)}
        self.add("model", "turn", travel.question(models.generate, asked), output, f"{ID}8")

    def tool(self, arguments, output, reference):
        asked = travel.asked("tools.invoke", {"name": LOOK_UP.name, "arguments": arguments})
        self.add("tool", "tool", asked, output, reference)

    def add(self, kind, name, asked, output, reference):
        number = len(self.steps)
        self.steps.append(Step(
            id=f"{ID}{number}", version=2, run_id=self.run.id, goal_id=None, task_id=None,
            ordinal=number, kind=kind, name=f"{name}-{number}", target=LOOK_UP.name,
            status="finished", input={}, output=output, error=None, prompt_tokens=0,
            completion_tokens=0, reference=reference, attempts=1, started_at=AT, finished_at=AT,
            asked=asked,
        ))  # fmt: skip

    async def again(self, **changes):
        platform = SimpleNamespace(clock=SimpleNamespace(new_id=lambda: f"{ID}9"))
        ctx = SimpleNamespace(platform=platform, principal=None, origin=None)
        run = self.run.model_copy(update=changes)
        return await offline.again(run, self.agent, self.steps, self.run, ctx)


async def test_free_turns_are_answered_from_the_record_with_the_tools_of_then():
    story = Story()
    ending = await story.again()

    assert (ending.status, ending.result, ending.diverged) == ("succeeded", story.run.result, None)
    assert [step.output for step in ending.steps] == [step.output for step in story.steps]
    assert [step.asked for step in ending.steps] == [step.asked for step in story.steps]


async def test_free_turns_diverge_where_another_answer_was_needed():
    story = Story()
    story.steps[3] = story.steps[3].model_copy(update={"output": {"price": 4}})
    ending = await story.again()
    assert (ending.status, ending.diverged.step) == (None, "turn-4")
    assert [one.path for one in ending.diverged.differences] == ["/request/messages/5/content"]

    del story.steps[2:]
    ending = await story.again()
    assert ending.diverged.step == "turn-2"
    assert ending.diverged.asked_then is None

    story.run = story.run.model_copy(update={"status": "cancelled", "error": {"code": "x"}})
    ending = await story.again()
    assert (ending.status, ending.error, len(ending.steps)) == ("cancelled", {"code": "x"}, 2)
