"""Runs of workflows through time: forked, compared and done again, and nothing taken back twice."""

import pytest

from schemas import documents, events
from schemas.documents import ListDocuments
from schemas.events import VerifyEvents
from schemas.problems import IllegalMove, OutsideSchema
from schemas.travel import (
    BadChange,
    CompareRuns,
    ForkRun,
    GetRunAt,
    ListRunStates,
    NoSuchStep,
    RerunRun,
)
from schemas.workflows import definitions, runs
from schemas.workflows.definitions import ChangeWorkflow
from schemas.workflows.runs import AnswerQuestion, CancelWorkflowRun
from tests.conftest import look
from tests.domains.flows import done, ended, made, started, steps_of, tool, waits, write

pytestmark = pytest.mark.usefixtures("platform")
ASK = {"key": "may", "type": "human", "question": "May I?", "answer": {"type": "object"}}
BIG = {"key": "big", "type": "set", "value": {"$mul": ["$.inputs.n", 10]}}
EACH = {
    "key": "each", "type": "map", "items": ["1", "2"],
    "steps": [tool("one", {"$concat": ["$.item", " * 3"]})],
}  # fmt: skip


async def rerun(ask, run, **changes):
    return await ask(runs.rerun, RerunRun(id=run.id, offline=True, changes=changes))


async def fork(ask, run, step, **changes):
    return await ask(runs.fork_run, ForkRun(id=run.id, from_step=step, changes=changes))


async def calls(platform):
    [row] = await look(platform, "SELECT count(*) AS calls FROM mcp_documents.tool_invocations")
    return row["calls"]


def verdicts(report):
    return {step.step: step.verdict for step in report.steps}


@pytest.fixture
async def story(ask, platform):
    """A run that computes, maps, asks a person, and computes with the answer."""
    last = tool("last", {"$concat": ["$.steps.may.output.n", " + ", {"$text": "$.inputs.n"}]})
    workflow = await made(ask, "story", BIG, EACH, ASK, last)
    run = await started(ask, workflow, n=4)
    await waits(ask, run, "may")
    await ask(runs.answer, AnswerQuestion(id=run.id, path="may", answer={"n": "5"}))
    run = await ended(ask, run)
    assert run.status == "succeeded", run.error
    return run


async def test_a_rerun_asks_nobody_and_says_where_it_asks_something_else(ask, story, platform):
    before = await calls(platform)
    same = await rerun(ask, story)
    assert same.ok, same
    assert verdicts(same) == dict.fromkeys(
        ("big", "each[0].one", "each[1].one", "may", "last"), "same"
    )
    other = await rerun(ask, story, **{"inputs.n": 5})
    assert (other.ok, other.diverged.step) == (False, "last")
    assert verdicts(other)["big"] == "changed"
    [one] = other.diverged.differences
    assert (one.path, one.first, one.second) == (
        "/request/arguments/expression", "5 + 4", "5 + 5",
    )  # fmt: skip
    asked = await rerun(ask, story, **{"steps.may.question": "Really?"})
    assert asked.diverged.step == "may"
    assert await calls(platform) == before


async def test_a_fork_does_what_waited_for_the_step_and_takes_over_the_rest(ask, story, platform):
    before = await calls(platform)
    forked = await ended(ask, await fork(ask, story, "each[1]", **{"steps.may.output": {"n": "6"}}))
    assert (forked.status, forked.result["value"]) == ("succeeded", "10")
    assert (forked.forked_from, forked.fork_step) == (story.id, "each[1]")
    taken = {path for path, s in (await steps_of(ask, forked)).items() if s.taken_from}
    assert taken == {"big", "each[0].one"}
    assert await calls(platform) == before + 2
    diff = await ask(runs.compare_runs, CompareRuns(id=story.id, other=forked.id))
    assert verdicts(diff)["each[1].one"] == "same"
    assert verdicts(diff)["last"] == "changed"
    assert (await rerun(ask, forked)).ok

    later = await ended(ask, await fork(ask, forked, "last", **{"inputs.n": 1}))
    assert (later.inputs, later.result["value"]) == ({"n": 1}, "7")
    assert set(later.changes) == {"steps.may.output", "inputs.n"}
    assert (await ask(events.verify, VerifyEvents())).ok


async def test_a_fork_that_fails_takes_back_only_what_it_did_itself(ask, platform):
    steps = (write("first", "one"), write("second", "two"), tool("bad", "1 / 0"))
    run = await done(ask, "careful", *steps)
    assert run.status == "undone"
    mended = {"steps.bad.input.expression": "1"}
    good = await ended(ask, await fork(ask, run, "bad", **mended))
    assert good.status == "succeeded", "what was taken back is done anew"
    other = {"steps.second.input": write("x", "three")["input"]}
    failing = other | {"steps.bad.input.expression": "1 / 0"}
    broken = await ended(ask, await fork(ask, good, "second", **failing))
    assert broken.status == "undone"
    page = await ask(documents.listing, ListDocuments(limit=50))
    left = sorted(d.source_uri for d in page.items if d.status != "deleted")
    assert left == ["upload:one.md", "upload:two.md"]  # titles change when they are read
    for each in (run, good, broken):
        report = await rerun(ask, each)
        assert report.ok, report


async def test_a_fork_never_takes_back_what_a_run_before_it_holds(ask, platform):
    steps = (write("first", "one"), write("second", "two"), tool("last", "1"))
    run = await done(ask, "kept", *steps)
    failing, other = {"steps.last.input.expression": "1 / 0"}, write("x", "three")["input"]
    same = await ended(ask, await fork(ask, run, "second", **failing))
    third = await ended(ask, await fork(ask, run, "second", **{"steps.second.input": other}))
    back = await ended(
        ask, await fork(ask, third, "second", **{"steps.second.input": steps[1]["input"]} | failing)
    )
    assert [r.status for r in (run, same, third, back)] == ["succeeded", "undone"] * 2
    second = (await steps_of(ask, run))["second"].output["id"]
    for fork_of_it in (same, back):
        own = await steps_of(ask, fork_of_it)
        assert (own["second"].output["id"], own["second"].taken_from) == (second, None)
        report = await rerun(ask, fork_of_it)
        assert report.ok, report
    page = await ask(documents.listing, ListDocuments(limit=50))
    left = {d.id for d in page.items if d.status != "deleted"}
    holders = [(run, "first"), (run, "second"), (third, "second")]
    assert left == {(await steps_of(ask, r))[path].output["id"] for r, path in holders}
    assert len(left) == 3


async def test_a_run_that_was_cancelled_ends_again_as_it_did_and_open_ones_are_refused(ask):
    workflow = await made(ask, "patient", tool("a", "1"), ASK)
    run = await started(ask, workflow)
    await waits(ask, run, "may")
    with pytest.raises(IllegalMove):
        await rerun(ask, run)
    await ask(runs.cancel, CancelWorkflowRun(id=run.id))
    report = await rerun(ask, await ended(ask, run))
    assert report.ok, report
    forked = await fork(ask, run, "may", **{"steps.may.output": {"yes": True}})
    assert (await ended(ask, forked)).result == {"yes": True}


async def test_what_a_fork_cannot_be_is_refused(ask, story):
    with pytest.raises(NoSuchStep):
        await fork(ask, story, "nowhere")
    for name, value in (
        ("model", "m"), ("steps.nowhere.output", 1), ("steps.last.tool", 5), ("workflow_id", "x"),
        ("steps.last.after", ["nowhere"]),
    ):  # fmt: skip
        with pytest.raises(BadChange):
            await fork(ask, story, "last", **{name: value})
    strict = {"type": "object", "properties": {"n": {"type": "integer"}}}
    workflow = await made(ask, "strict", BIG, inputs=strict)
    run = await ended(ask, await started(ask, workflow, n=1))
    with pytest.raises(OutsideSchema):
        await fork(ask, run, "big", **{"inputs.n": "many"})
    shorter = ChangeWorkflow(
        id=workflow.id, version=1, document={"steps": [{"key": "else", "type": "set", "value": 1}]}
    )
    await ask(definitions.change, shorter)
    assert (await rerun(ask, run)).ok, "a run keeps its document"


async def test_the_states_of_a_run_are_told_in_order_and_can_be_seen_again(ask, story):
    told, cursor = [], None
    while True:
        page = await ask(runs.run_states, ListRunStates(id=story.id, limit=3, cursor=cursor))
        told += page.items
        if (cursor := page.next) is None:
            break
    assert [state.seq for state in told] == sorted({state.seq for state in told})
    assert (told[0].type, told[-1].type) == ("workflows.run_started", "workflows.run_ended")
    waited = next(state for state in told if state.status == "waiting")
    past = await ask(runs.run_at, GetRunAt(id=story.id, seq=waited.seq))
    assert past.run["status"] == "running"
    assert {step["path"]: step["status"] for step in past.steps}["may"] == "waiting"
    now = await ask(runs.run_at, GetRunAt(id=story.id))
    live = [step.model_dump(mode="json") for step in (await steps_of(ask, story)).values()]
    assert (now.run, list(now.steps)) == (story.model_dump(mode="json"), live)
