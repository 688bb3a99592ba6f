"""Runs of agents through time, with the real model: forked, compared and done again."""

import contextlib

import pytest

from bus.statement import Statement
from schemas import agents
from schemas.agents import (
    AgentLimits,
    Brief,
    CancelRun,
    GetRun,
    ListSteps,
    ModelStep,
    StartRun,
    ToolStep,
)
from schemas.problems import Denied, IllegalMove, NotFound
from schemas.travel import (
    BadChange,
    CompareRuns,
    ForkRun,
    GetRunAt,
    NoSuchStep,
    NotRecorded,
    RerunRun,
)
from tests.conftest import eventually, look
from tests.factories import create_agent

SAID = {
    "type": "object", "additionalProperties": False, "required": ["text"],
    "properties": {"text": {"type": "string", "minLength": 3, "maxLength": 40}},
}  # fmt: skip
FORGET_QUESTIONS = Statement("UPDATE runtime.steps SET asked = NULL WHERE run_id = $1")


def sums(name, expression):
    return ToolStep(name=name, tool="calculator.evaluate", arguments={"expression": expression})


STORY = Brief(
    objective="Say something about a number",
    inputs={"city": "Graz"},
    steps=(
        sums("sum", "40 + 2"),
        ModelStep(
            name="draft", ask="About {{ steps.sum.value }}.", output_schema=SAID, tokens_max=40
        ),
        sums("twice", "2 * 21"),
    ),
    result={"text": {"$ref": "steps.draft.text"}, "value": {"$ref": "steps.twice.value"}},
)


async def started(ask, brief, **agent):
    made = await ask(agents.create, create_agent(**agent))
    return await ask(agents.start_run, StartRun(agent_id=made.id, brief=brief))


async def finished(ask, run):
    async def ended():
        now = await ask(agents.run, GetRun(id=run.id))
        return now if now.finished_at else None

    return await eventually(ended, 60)


async def steps_of(ask, run):
    return (await ask(agents.steps, ListSteps(run_id=run.id))).items


async def spent(platform):
    """How often a model or a tool was called so far, and the tokens that were billed."""
    [row] = await look(
        platform,
        "SELECT (SELECT count(*) FROM mcp_documents.tool_invocations) AS tools, count(*) AS models,"
        " coalesce(sum(prompt_tokens + completion_tokens), 0) AS tokens FROM models.llm_usage",
    )
    return dict(row)


async def rerun(ask, run, **changes):
    return await ask(agents.rerun, RerunRun(id=run.id, offline=True, changes=changes))


async def fork(ask, run, step, **changes):
    return await ask(agents.fork_run, ForkRun(id=run.id, from_step=step, changes=changes))


def verdicts(report):
    return {step.step: step.verdict for step in report.steps}


@pytest.fixture
async def story(ask, platform):
    """A run that has asked a tool, the model and a tool."""
    run = await finished(ask, await started(ask, STORY))
    assert run.status == "succeeded", run.error
    return run


async def test_a_rerun_gives_the_same_and_neither_calls_nor_bills_anything(ask, story, platform):
    before = await spent(platform)
    same = await rerun(ask, story)
    assert (same.ok, same.status, same.diverged) == (True, "succeeded", None), same
    assert verdicts(same) == dict.fromkeys(("sum", "draft", "twice"), "same")

    other = await rerun(ask, story, prompt="Be rude.")
    assert (other.ok, other.status, verdicts(other)) == (False, None, {"sum": "same"})
    assert (other.diverged.step, other.diverged.problem["code"]) == ("draft", "ERR_155")
    [said] = other.diverged.differences
    assert (said.path, said.second) == ("/request/messages/0/content", "Be rude.")
    assert other.diverged.asked_then.request["messages"][1]["content"] == "About 42."
    assert other.fork_id is None

    assert await spent(platform) == before
    assert (await rerun(ask, story, **{"inputs.city": "Wien"})).ok, "no step has asked about it"


async def test_a_fork_takes_over_what_was_before_and_bills_who_forks(ask, ask_as, story, platform):
    before, olga = await spent(platform), ask_as("operator", "olga")
    changes = {"steps.twice.arguments.expression": "1 + 1"}
    forked = await finished(ask, await fork(olga, story, "twice", **changes))

    assert forked.result == {"text": story.result["text"], "value": "2"}
    assert (forked.owner_id, forked.forked_from) == ("olga", story.id)
    assert (forked.fork_step, forked.changes) == ("twice", changes)
    assert (forked.prompt_tokens, forked.completion_tokens) == (0, 0)
    assert await spent(platform) == before | {"tools": before["tools"] + 1}
    taken, did = await steps_of(ask, story), await steps_of(ask, forked)
    assert [step.taken_from for step in did] == [taken[0].id, taken[1].id, None]
    assert await finished(ask, story) == story, "the first run stays as it was"

    diff = await ask(agents.compare_runs, CompareRuns(id=story.id, other=forked.id))
    assert verdicts(diff) == {"sum": "same", "draft": "same", "twice": "changed"}
    pointers = {difference.path for difference in diff.steps[2].differences}
    assert {"/asked/arguments/expression", "/output/value"} <= pointers
    assert (await ask(agents.compare_runs, CompareRuns(id=story.id, other=story.id))).same
    assert (await rerun(ask, forked)).ok


async def test_a_fork_asks_the_model_anew_in_its_own_name(ask, ask_as, story, platform):
    changes = {"prompt": "Be brief.", "steps.sum.output": {"value": "7"}}
    again = RerunRun(id=story.id, changes=changes)
    report = await ask_as("operator", "olga")(agents.rerun, again)
    assert (report.ok, report.diverged.step) == (False, "draft")
    forked = await finished(ask, await ask(agents.run, GetRun(id=report.fork_id)))

    assert forked.status == "succeeded", forked.error
    assert forked.config.instructions == "Be brief."
    rows = await look(platform, "SELECT actor, run_id, goal_id FROM models.llm_usage ORDER BY at")
    assert [tuple(row) for row in rows[1:]] == [("olga", forked.id, None)]
    assert forked.completion_tokens > 0
    draft = (await steps_of(ask, forked))[1]
    assert draft.asked.request["messages"][1]["content"] == "About 7."
    assert draft.asked.request["seed"] == story_seed(await steps_of(ask, story))


def story_seed(steps):
    return steps[1].asked.request["seed"]


async def test_a_later_step_can_be_given_its_output(ask, story, platform):
    before = await spent(platform)
    changes = {"steps.draft.output": {"text": "as told"}, "steps.twice.output": {"value": "9"}}
    forked = await finished(ask, await fork(ask, story, "draft", **changes))

    assert forked.result == {"text": "as told", "value": "9"}
    assert await spent(platform) == before
    assert (await rerun(ask, forked)).ok


async def test_what_cannot_be_changed_forked_or_done_again_is_refused(ask, ask_as, platform):
    run = await finished(ask, await started(ask, Brief(objective="x", steps=(sums("a", "1"),))))
    with pytest.raises(NoSuchStep):
        await fork(ask, run, "nowhere")
    for name in ("colour", "steps.b.output", "steps.a", "inputs.x.y", "tools"):
        with pytest.raises(BadChange):
            await fork(ask, run, "a", **{name: "red"})
    with pytest.raises(BadChange) as unfit:
        await rerun(ask, run, temperature="hot")
    assert "temperature" in unfit.value.details["fields"][0]
    with pytest.raises(Denied):
        await fork(ask_as("viewer"), run, "a")
    with pytest.raises(NotFound):
        await ask(agents.run_at, GetRunAt(id=run.id, seq=1))
    await platform.database.execute(FORGET_QUESTIONS, run.id)
    with pytest.raises(NotRecorded):
        await rerun(ask, run)


async def test_a_run_that_failed_or_was_cancelled_ends_again_as_it_did(ask, platform):
    failing = Brief(objective="x", steps=(sums("a", "1"), sums("b", "1 / 0"), sums("c", "1")))
    failed = await finished(ask, await started(ask, failing))
    assert failed.status == "failed"
    assert (await rerun(ask, failed)).ok
    mended = await fork(ask, failed, "b", **{"steps.b.arguments.expression": "1 / 1"})
    assert (await finished(ask, mended)).status == "succeeded"

    waiting = Brief(objective="x", steps=(ToolStep(name="a", tool="no.such"),))
    run = await started(ask, waiting)
    with contextlib.suppress(IllegalMove):  # it was quicker than we
        await ask(agents.cancel_run, CancelRun(id=run.id))
    assert (await rerun(ask, await finished(ask, run))).ok


async def test_free_turns_are_done_again_with_the_tools_that_were_offered_then(ask, platform):
    """The turns are written down here: what a small model decides is another test's matter."""
    run = await finished(
        ask, await started(ask, Brief(objective="x"), limits=AgentLimits(steps=1, tokens=100))
    )
    [turn] = await steps_of(ask, run)
    before = await spent(platform)

    same = await rerun(ask, run)
    assert same.ok, same
    other = await rerun(ask, run, objective="Say goodbye.")
    assert (other.diverged.step, other.diverged.asked_then) == ("turn-0", turn.asked)
    assert await spent(platform) == before
    report = await ask(agents.rerun, RerunRun(id=run.id, changes={"objective": "Say goodbye."}))
    forked = await ask(agents.run, GetRun(id=report.fork_id))
    assert (forked.fork_step, forked.brief.objective) == ("turn-0", "Say goodbye.")
    await ask(agents.cancel_run, CancelRun(id=forked.id))
