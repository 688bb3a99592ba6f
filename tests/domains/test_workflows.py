"""Workflows over real servers: every kind of step, waiting, failing, undoing, and going on."""

import asyncio

import pytest

from schemas import agents, documents, events
from schemas.agents import GetRun
from schemas.documents import ListDocuments
from schemas.events import QueryEvents
from schemas.identity import users
from schemas.identity.users import CreateUser, DisableUser
from schemas.principal import Principal
from schemas.problems import IllegalMove, NotFound, OutsideSchema, VersionConflict
from schemas.workflows import definitions, runs
from schemas.workflows.definitions import (
    BadDocument,
    ChangeWorkflow,
    CheckWorkflow,
    GetWorkflow,
    ListWorkflows,
    WorkflowNameTaken,
)
from schemas.workflows.runs import (
    AnswerQuestion,
    CancelWorkflowRun,
    GetWorkflowRun,
    NothingAsked,
    PauseRun,
    ResumeRun,
    RetryRun,
    SendSignal,
)
from tests.conftest import eventually, look
from tests.domains.flows import (
    document,
    done,
    ended,
    made,
    started,
    steps_of,
    tool,
    waits,
    write,
)

pytestmark = pytest.mark.usefixtures("platform")


async def test_steps_follow_each_other_and_hand_on_what_they_know(ask):
    run = await done(
        ask, "sums",
        tool("first", "$.inputs.sum"),
        tool("second", "1"),
        {"key": "both", "type": "set", "value": {
            "$concat": ["$.steps.first.output.value", "+", "$.steps.second.output.value"]}},
        inputs={"sum": "20 + 1"},
    )  # fmt: skip
    assert (run.status, run.result) == ("succeeded", "21+1"), run.error
    found = await steps_of(ask, run)
    assert [(s.path, s.status, s.version) for s in found.values()] == [
        ("first", "done", 1), ("second", "done", 1), ("both", "done", 1),
    ]  # fmt: skip


async def test_map_parallel_and_branch_are_carried_out_with_their_bounds(ask):
    run = await done(
        ask, "shapes",
        {"key": "each", "type": "map", "items": {"$range": 5}, "at_once": 2,
         "steps": [tool("double", {"$concat": ["$.index", " * 2"]})],
         "output": "$.steps.double.output.value"},
        {"key": "both", "type": "parallel", "branches": {
            "left": [tool("l", "1")], "right": [{"key": "r", "type": "set", "value": "$.inputs"}]}},
        {"key": "choice", "type": "branch",
         "cases": [{"when": {"$gt": [{"$length": "$.steps.each.output"}, 9]},
                    "steps": [{"key": "many", "type": "set", "value": "many"}]}],
         "otherwise": [{"key": "few", "type": "set", "value": "few"}]},
        output={"each": "$.steps.each.output", "right": "$.steps.both.output.right",
                "choice": "$.steps.choice.output"},
        inputs={"a": 1},
    )  # fmt: skip
    assert run.status == "succeeded", run.error
    assert run.result == {"each": ["0", "2", "4", "6", "8"], "right": {"a": 1}, "choice": "few"}


async def test_what_fails_for_good_takes_back_what_was_done_the_last_first(ask):
    run = await done(
        ask, "undone",
        write("one", "A text"), write("two", "Another text"),
        {"key": "broken", "type": "call", "operation": "documents.get", "input": {"id": "none"}},
    )  # fmt: skip
    assert run.status == "undone", run.error
    assert run.error["code"] == "ERR_100"
    found = await steps_of(ask, run)
    taken = sorted(
        (s for p, s in found.items() if p.endswith("!undo")), key=lambda s: s.finished_at
    )
    assert [s.path for s in taken] == ["two!undo", "one!undo"]
    assert [
        d for d in (await ask(documents.listing, ListDocuments())).items if d.status != "deleted"
    ] == []


async def test_a_failure_that_may_pass_is_tried_again_and_one_that_will_not_is_not(ask, platform):
    flaky = {"key": "x", "type": "call", "operation": "agents.get",
             "input": {"id": "00000000-0000-7000-8000-000000000000"},
             "retry": {"attempts": 3, "first_s": 0.05}}  # fmt: skip
    run = await done(ask, "gone", flaky)
    assert (run.status, run.error["code"]) == ("failed", "ERR_001")
    assert (await steps_of(ask, run))["x"].attempt == 1
    nobody = {"key": "x", "type": "tool", "tool": "no.such-tool", "on_error": "continue"}
    run = await done(
        ask, "let-through", nobody, {"key": "y", "type": "set", "value": "$.steps.x.error.code"}
    )
    assert run.status == "succeeded"


async def test_a_person_is_asked_and_the_first_answer_that_fits_counts(ask):
    schema = {"type": "object", "required": ["yes"], "properties": {"yes": {"type": "boolean"}}}
    workflow = await made(
        ask, "asks", {"key": "may", "type": "human", "question": "May I?", "answer": schema}
    )
    run = await started(ask, workflow)
    step = await waits(ask, run, "may")
    assert step.output["question"] == "May I?"
    with pytest.raises(OutsideSchema):
        await ask(runs.answer, AnswerQuestion(id=run.id, path="may", answer={"yes": "maybe"}))
    given = [AnswerQuestion(id=run.id, path="may", answer={"yes": b}) for b in (True, False, True)]
    answers = await asyncio.gather(*(ask(runs.answer, a) for a in given), return_exceptions=True)
    assert sum(isinstance(a, NothingAsked | IllegalMove) for a in answers) == 2
    [counted] = [a for a in answers if not isinstance(a, Exception)]
    assert (await ended(ask, run)).result == counted.output


async def test_nobody_answers_in_time_and_the_run_goes_on_with_the_default(ask):
    run = await done(ask, "silence", {
        "key": "may", "type": "human", "question": "?", "within_s": 0.3, "otherwise": {"yes": False}})  # fmt: skip
    assert run.result == {"yes": False}


async def test_a_signal_is_kept_for_the_step_that_will_wait_for_it(ask):
    steps = (
        {"key": "first", "type": "wait", "signal": "go"},
        {"key": "second", "type": "wait", "signal": "early"},
    )
    run = await started(ask, await made(ask, "signals", *steps))
    await waits(ask, run, "first")
    await ask(runs.signal, SendSignal(id=run.id, name="early", data=[2]))
    await ask(runs.signal, SendSignal(id=run.id, name="go", data=1))
    assert (await ended(ask, run)).result == [2]
    with pytest.raises(IllegalMove):
        await ask(runs.signal, SendSignal(id=run.id, name="late"))


async def test_times_are_waited_for_and_events_are_seen(ask):
    workflow = await made(
        ask, "waits",
        {"key": "while", "type": "wait", "for_s": 0.2},
        {"key": "made", "type": "wait", "event": "workflows.created",
         "match": {"$.payload.workflow.name": "$.inputs.name"}},
    )  # fmt: skip
    run = await started(ask, workflow, name="awaited")
    await waits(ask, run, "made")
    await made(ask, "other", {"key": "a", "type": "set", "value": 1})
    await made(ask, "awaited", {"key": "a", "type": "set", "value": 1})
    run = await ended(ask, run)
    assert run.status == "succeeded", run.error
    assert run.result["payload"]["workflow"]["name"] == "awaited"
    with pytest.raises(BadDocument):
        await made(ask, "no-time", {"key": "a", "type": "call", "operation": "no.such"})
    late = await done(ask, "late", {"key": "a", "type": "wait", "until": "yesterday"})
    assert late.error["code"] == "ERR_191"


async def test_an_inner_run_gives_its_result_or_its_failure(ask):
    await made(ask, "inner", tool("sum", "$.inputs.sum"))
    steps = (
        {"key": "call", "type": "workflow", "workflow": "inner", "input": {"sum": "$.inputs.sum"}},
    )
    outer = await made(ask, "outer", *steps, output="$.steps.call.output.value")
    good, bad = await started(ask, outer, sum="6 * 7"), await started(ask, outer, sum="6 *")
    assert (await ended(ask, good)).result == "42"
    bad = await ended(ask, bad)
    assert (bad.status, bad.error["code"]) == ("failed", "ERR_194")


async def test_an_agents_work_is_waited_for(ask):
    step = {"key": "work", "type": "agent", "objective": "Say one word.", "retry": {"attempts": 1}}
    workflow = await made(ask, "agents", step)
    run = await started(ask, workflow)
    waiting = await waits(ask, run, "work")
    ended_run = await ended(ask, run)
    work = await ask(agents.run, GetRun(id=waiting.awaits.partition("/")[2]))
    assert (ended_run.status, ended_run.result) == ("succeeded", work.result), ended_run.error
    run = await done(ask, "nobody", step | {"capabilities": ["no-such-capability"]})
    assert (run.status, run.error["code"]) == ("failed", "ERR_411"), run.error


async def test_a_cancelled_run_stops_at_once_and_its_inner_runs_with_it(ask):
    await made(ask, "sleeper", {"key": "sleep", "type": "wait", "for_s": 1000})
    outer = await made(ask, "holder", {"key": "call", "type": "workflow", "workflow": "sleeper"})
    run = await started(ask, outer)
    inner_id = (await waits(ask, run, "call")).awaits.partition("/")[2]
    assert (await ask(runs.cancel, CancelWorkflowRun(id=run.id))).status == "cancelled"

    async def inner_too():
        inner = await ask(runs.run, GetWorkflowRun(id=inner_id))
        step = (await steps_of(ask, run))["call"]
        return inner.status == "cancelled" and step.status == "failed"

    await eventually(inner_too)
    with pytest.raises(IllegalMove):
        await ask(runs.cancel, CancelWorkflowRun(id=run.id))


async def test_a_cancelled_run_can_take_back_what_it_did(ask):
    workflow = await made(
        ask, "back", write("one", "A text"), {"key": "w", "type": "wait", "for_s": 999}
    )
    run = await started(ask, workflow)
    await waits(ask, run, "w")
    await ask(runs.cancel, CancelWorkflowRun(id=run.id, undo=True))
    assert (await ended(ask, run)).status == "undone"
    assert (await steps_of(ask, run))["one!undo"].status == "done"


async def test_a_paused_run_goes_on_where_it_was(ask):
    steps = ({"key": "a", "type": "wait", "signal": "go"}, tool("b", "1"))
    run = await started(ask, await made(ask, "pauses", *steps))
    await waits(ask, run, "a")
    await ask(runs.pause, PauseRun(id=run.id))
    await ask(runs.signal, SendSignal(id=run.id, name="go"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ended(ask, run), 1)
    assert "b" not in await steps_of(ask, run)
    await ask(runs.resume, ResumeRun(id=run.id))
    assert (await ended(ask, run)).status == "succeeded"


async def test_a_failed_run_is_retried_from_what_failed(ask):
    steps = (tool("a", "1"), {"key": "b", "type": "call", "operation": "workflows.get",
                              "input": {"id": "$.inputs.id"}})  # fmt: skip
    workflow = await made(ask, "later", *steps)
    run = await ended(ask, await started(ask, workflow, id="00000000-0000-7000-8000-000000000000"))
    assert (run.status, run.error["code"]) == ("failed", "ERR_001")
    before = (await steps_of(ask, run))["a"]
    await ask(runs.retry, RetryRun(id=run.id))

    async def tried_again():
        return (await steps_of(ask, run))["b"].version > 2

    await eventually(tried_again)
    assert (await ended(ask, run)).status == "failed"
    assert (await steps_of(ask, run))["a"] == before


async def test_a_run_keeps_the_document_that_it_began_with(ask):
    first = await made(ask, "versions", {"key": "w", "type": "wait", "signal": "go"},
                       {"key": "r", "type": "set", "value": "old"})  # fmt: skip
    run = await started(ask, first)
    await waits(ask, run, "w")
    changed = ChangeWorkflow(id=first.id, version=1, document=document(
        {"key": "r", "type": "set", "value": "new"}))  # fmt: skip
    second = await ask(definitions.change, changed)
    with pytest.raises(VersionConflict):
        await ask(definitions.change, changed)
    await ask(runs.signal, SendSignal(id=run.id, name="go"))
    assert (await ended(ask, run)).result == "old"
    assert (await ended(ask, await started(ask, second))).result == "new"


@pytest.mark.parametrize(
    ("steps", "told"),
    [
        ([tool("a", "1"), tool("a", "2")], "same key"),
        ([tool("a", "1", after=["b"]), tool("b", "2", after=["a"])], "wait for each other"),
        ([tool("a", "1", after=["z"])], "not in its list"),
        ([tool("a", "$.steps.z.output")], "a step that there is not"),
        ([tool("a", "$.nowhere.x")], "begins at none of"),
        ([tool("a", "$.steps[")], "no JSONPath"),
        ([tool("a", {"$exec": "rm"})], "no operator"),
        ([{"key": "a", "type": "human", "question": "?", "answer": {"$ref": "#"}}], "refers to"),
        ([{"key": "a", "type": "human", "question": "?", "answer": {"type": "no"}}], "usable JSON Sch"),
        ([{"key": "a", "type": "call", "operation": "identity.sign-in"}], "cannot be asked"),
        ([{"key": "a", "type": "call", "operation": "identity.act-for"}], "cannot be asked"),
        ([{"key": "a", "type": "job", "operation": "agents.get"}], "of the type 'call'"),
    ],
)  # fmt: skip
async def test_a_document_that_cannot_be_carried_out_is_refused_with_the_place(ask, steps, told):
    found = await ask(definitions.check, CheckWorkflow(document=document(*steps)))
    assert not found.ok
    assert any(told in item.message for item in found.items), found.items
    with pytest.raises(BadDocument):
        await made(ask, "bad", *steps)


async def test_inputs_must_fit_and_names_are_given_once(ask):
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    workflow = await made(ask, "typed", {"key": "a", "type": "set", "value": 1}, inputs=schema)
    with pytest.raises(OutsideSchema) as refused:
        await started(ask, workflow, n="three")
    assert refused.value.details["pointer"] == "/inputs/n"
    with pytest.raises(WorkflowNameTaken):
        await made(ask, "typed", {"key": "a", "type": "set", "value": 1})
    assert (await ask(definitions.get, GetWorkflow(id=workflow.id))) == workflow
    assert workflow.id in [w.id for w in (await ask(definitions.listing, ListWorkflows())).items]


async def test_a_run_does_no_more_than_its_owner_may(ask, ask_as):
    owner = ask_as("developer", "eve")
    owner.principal = Principal(
        id="eve", kind="key", roles=("developer",),
        scopes=("workflows:create", "workflows:execute", "workflows:read"),
    )  # fmt: skip
    run = await started(owner, await made(owner, "reach", tool("a", "1")))
    run = await ended(owner, run)
    assert (run.status, run.error["code"]) == ("failed", "ERR_300")
    with pytest.raises(NotFound):
        await ask_as("developer", "mallory")(runs.cancel, CancelWorkflowRun(id=run.id))


async def test_a_run_that_takes_too_long_ends(ask):
    wait = {"key": "w", "type": "wait", "for_s": 1000}
    run = await started(ask, await made(ask, "slow", wait, within_s=3))
    await waits(ask, run, "w")
    run = await ended(ask, run)
    assert (run.status, run.error["code"]) == ("failed", "ERR_610")
    assert (await steps_of(ask, run))["w"].error["code"] == "abandoned"


async def test_a_short_run_takes_few_events_and_leaves_nothing_behind(ask, platform):
    steps = [{"key": k, "type": "set", "value": n} for n, k in enumerate("abc")]
    run = await done(ask, "short", *steps)

    async def told():  # events behind a commit that is under way are not shown yet
        return (await ask(events.query, QueryEvents(correlation_id=run.id, limit=50))).items

    assert [event.type for event in await eventually(told)] == [
        "workflows.run_started", *["workflows.step_finished"] * 3, "workflows.run_ended",
    ]  # fmt: skip

    async def forgotten():
        return await look(platform, "SELECT 1 FROM flow.drivers") == []

    await eventually(forgotten)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ({"$mul": [2**62, 2**62]}, "ERR_103"),
        ({"$concat": [{"$range": 9_000}, {"$range": 9_000}]}, "ERR_191"),
        ({"$div": [1, 0]}, "ERR_191"),
        ({"a": {"$concat": ["x" * 90_000]}, "b": ["y" * 90_000, "z" * 90_000]}, "ERR_103"),
    ],
    ids=["a number", "a list", "no number", "texts"],
)
async def test_a_value_that_cannot_be_kept_fails_its_step(ask, value, code):
    run = await done(ask, "odd", {"key": "a", "type": "set", "value": value})
    assert (run.status, run.error["code"]) == ("failed", code)


async def test_a_result_that_no_event_can_carry_is_a_failure(ask):
    text = {"key": "a", "type": "set", "value": "x" * 90_000}
    run = await done(ask, "large", text, output=["$.steps.a.output"] * 4)
    assert (run.status, run.error["code"]) == ("failed", "ERR_103")


async def test_work_that_was_begun_by_somebody_who_is_disabled_goes_no_further(ask):
    user = await ask(users.create_user, CreateUser(login="ada", name="ada", roles=("developer",)))
    owner = ask.acting_as(Principal(id=user.id, kind="user", roles=user.roles))
    steps = ({"key": "w", "type": "wait", "signal": "go"}, tool("a", "1"))
    run = await started(owner, await made(owner, "stopped", *steps))
    await waits(ask, run, "w")
    await ask(users.disable_user, DisableUser(id=user.id))
    await ask(runs.signal, SendSignal(id=run.id, name="go"))
    run = await ended(ask, run)
    assert (run.status, run.error["code"]) == ("failed", "ERR_200")


async def test_more_runs_than_connections_may_begin_at_once(ask, platform):
    workflow = await made(ask, "crowd", {"key": "a", "type": "set", "value": 1})
    many = range(platform.settings.pool_size * 2)
    begun = await asyncio.gather(*(started(ask, workflow) for _ in many))
    assert {run.status for run in begun} == {"succeeded"}
