"""The inbox over real servers: who sees what, who answers, and what an approval is worth."""

import asyncio

import pytest

from bus.clock import Clock
from schemas import events, human, tools
from schemas.events import QueryEvents
from schemas.human import (
    AnswerTask,
    AskPerson,
    ClaimTask,
    ContentChanged,
    DelegateTask,
    GetTask,
    ListTasks,
    NobodyThere,
    ReleaseTask,
    sha256_of,
)
from schemas.identity import keys, users
from schemas.identity.keys import IssueKey, RevokeKey
from schemas.identity.users import CreateUser, DisableUser, EnableUser
from schemas.problems import IllegalMove, NotFound, OutsideSchema
from schemas.tools import ListInvocations
from schemas.workflows import definitions, runs
from schemas.workflows.definitions import CheckWorkflow
from schemas.workflows.runs import AnswerQuestion, CancelWorkflowRun
from tests.conftest import eventually
from tests.domains.flows import document, ended, made, started, steps_of, tool, waits

YES = {"type": "object", "required": ["yes"], "properties": {"yes": {"type": "boolean"}}}
APPROVE = {"key": "may", "type": "human", "approves": "sum"}


def asking(**more):
    return {"key": "may", "type": "human", "question": "May I?", "answer": YES} | more


async def waiting(ask, name, *steps, **inputs):
    """A run that waits for a person, and its task."""
    run = await started(ask, await made(ask, name, *steps), **inputs)
    step = await waits(ask, run, "may")
    return run, await ask(human.get, GetTask(id=step.id))


async def answered(ask, task, answer, sha256=None):
    return await ask(human.answer, AnswerTask(id=task.id, answer=answer, sha256=sha256))


async def person(ask, ask_as, role, login):
    """Somebody who can be named, asking."""
    user = await ask(users.create_user, CreateUser(login=login, name=login, roles=(role,)))
    return user.id, ask_as(role, user.id)


async def inbox(ask, **chosen):
    return [task.id for task in (await ask(human.listing, ListTasks(**chosen))).items]


async def invoked(ask):
    return [i.params for i in (await ask(tools.invocations, ListInvocations())).items]


async def test_a_question_is_in_the_inbox_of_whom_it_is_for_until_it_is_answered(
    platform, ask, ask_as
):
    (bob_id, bob), eve = await person(ask, ask_as, "viewer", "bob"), ask_as("viewer", "eve")
    run, task = await waiting(ask, "asks", asking(assignee_id=bob_id, due_s=60, within_s=600))
    assert (task.title, task.question, task.kind) == ("asks: may", "May I?", "question")
    assert (task.run_id, task.owner_id, task.sha256) == (run.id, run.owner_id, None)
    assert (task.due_at - task.created_at).total_seconds() == pytest.approx(60, abs=1)
    for mine in (True, False):
        assert await inbox(bob, mine=mine) == [task.id]
        assert await inbox(eve, mine=mine) == []
    assert await inbox(ask, mine=True, due_before=task.due_at) == []
    assert await inbox(ask_as("operator", "olga")) == [task.id]
    assert await inbox(ask_as("operator", "olga"), mine=True) == []
    with pytest.raises(NotFound):
        await answered(eve, task, {"yes": True})
    with pytest.raises(OutsideSchema):
        await answered(bob, task, {"yes": "maybe"})

    async def announced(asker):
        found = await asker(events.query, QueryEvents(type="human.task_asked"))
        return [event.aggregate_id for event in found.items]

    assert (await announced(bob), await announced(eve)) == ([task.id], [])
    answers = await asyncio.gather(
        *(answered(asker, task, {"yes": asker is bob}) for asker in (bob, ask, bob)),
        return_exceptions=True,
    )
    [counted] = [a for a in answers if not isinstance(a, Exception)]
    assert [type(a) for a in answers if isinstance(a, Exception)] == [IllegalMove] * 2
    assert (await ended(ask, run)).result == counted.answer
    assert await inbox(bob, status="open") == []
    assert await inbox(bob, status="answered") == [task.id]


async def test_a_task_of_a_role_is_claimed_given_back_and_given_to_somebody_else(
    platform, ask, ask_as
):
    ada, olga = ask_as("developer", "ada"), ask_as("operator", "olga")
    otto, (carol_id, carol) = (
        ask_as("operator", "otto"),
        await person(ask, ask_as, "viewer", "carol"),
    )
    run, task = await waiting(ada, "roles", asking(for_role="operator"))
    assert await inbox(otto, mine=True, for_role="operator") == [task.id]
    assert (await olga(human.claim, ClaimTask(id=task.id))).claimed_by == "olga"
    for refused in (
        answered(otto, task, {"yes": True}),
        otto(human.claim, ClaimTask(id=task.id)),
        otto(human.delegate, DelegateTask(id=task.id, assignee_id=carol_id)),
    ):
        with pytest.raises(IllegalMove):
            await refused
    await otto(human.release, ReleaseTask(id=task.id))
    with pytest.raises(IllegalMove):
        await otto(human.release, ReleaseTask(id=task.id))
    with pytest.raises(NotFound):
        await carol(human.claim, ClaimTask(id=task.id))
    given = await ada(human.delegate, DelegateTask(id=task.id, assignee_id=carol_id))
    assert (given.assignee_id, given.for_role) == (carol_id, None)
    assert (await answered(carol, task, {"yes": True})).answered_by == carol_id
    assert (await ended(ada, run)).result == {"yes": True}


async def test_nothing_is_given_to_who_is_not_there_or_cannot_sign_in_any_more(
    platform, ask, ask_as
):
    bob_id, bob = await person(ask, ask_as, "viewer", "bob")
    run, task = await waiting(ask, "given", asking(assignee_id=bob_id))
    await ask(users.disable_user, DisableUser(id=bob_id))
    for nobody in ("nobody", Clock().new_id(), bob_id):
        with pytest.raises(NobodyThere) as refused:
            await ask(human.delegate, DelegateTask(id=task.id, assignee_id=nobody))
        assert (refused.value.status, refused.value.details) == (400, {"assignee_id": nobody})
        workflow = await made(ask, f"for-{nobody}", asking(assignee_id=nobody))
        refused_run = await ended(ask, await started(ask, workflow))
        assert (refused_run.status, refused_run.error["code"]) == ("failed", "ERR_199")
    eve = ask_as("viewer", "eve")
    with pytest.raises(NotFound):
        await eve(human.delegate, DelegateTask(id=task.id, assignee_id="nobody"))
    assert await inbox(ask) == [task.id]
    await ask(users.enable_user, EnableUser(id=bob_id))
    given = await ask(human.delegate, DelegateTask(id=task.id, assignee_id=bob_id))
    assert (await answered(bob, given, {"yes": True})).answered_by == bob_id
    assert (await ended(ask, run)).status == "succeeded"


async def test_a_task_is_given_to_who_is_no_user_as_long_as_his_key_is_good(platform, ask):
    run, task = await waiting(ask, "keyed", asking())
    named = DelegateTask(id=task.id, assignee_id="admin")
    with pytest.raises(NobodyThere):
        await ask(human.delegate, named)
    issued = await ask(keys.issue_key, IssueKey(name="only"))
    assert (await ask(human.delegate, named)).assignee_id == "admin"
    await ask(keys.revoke_key, RevokeKey(id=issued.key.id))
    with pytest.raises(NobodyThere):
        await ask(human.delegate, named)
    await ask(runs.cancel, CancelWorkflowRun(id=run.id))


async def test_an_approval_shows_what_will_be_done_and_counts_for_nothing_else(platform, ask):
    steps = (APPROVE, tool("sum", {"$concat": ["$.inputs.n", " + 1"]}))
    run, task = await waiting(ask, "approves", *steps, n=41)
    assert task.content == {"tool": "calculator.evaluate", "input": {"expression": "41 + 1"}}
    assert (task.kind, task.sha256) == ("approval", sha256_of(task.content))
    for wrong in (None, "0" * 64):
        with pytest.raises(ContentChanged) as refused:
            await answered(ask, task, {"approved": True}, wrong)
        assert refused.value.details["sha256"] == task.sha256
    with pytest.raises(OutsideSchema):
        await answered(ask, task, {"approved": "yes"}, task.sha256)
    with pytest.raises(ContentChanged):
        await ask(runs.answer, AnswerQuestion(id=run.id, path="may", answer={"approved": True}))
    assert await invoked(ask) == []

    given = AnswerQuestion(id=run.id, path="may", answer={"approved": True}, sha256=task.sha256)
    step = await ask(runs.answer, given, key="once")
    assert await ask(runs.answer, given, key="once") == step
    assert step.output == {"approved": True, "sha256": task.sha256, "by": "admin"}
    assert (await ended(ask, run)).result["value"] == "42"
    [told] = (await ask(events.query, QueryEvents(type="human.task_answered"))).items
    assert told.payload["task"]["sha256"] == task.sha256
    assert told.payload["task"]["content"] == task.content


async def test_what_is_done_must_be_what_was_approved(platform, ask):
    steps = (
        APPROVE, {"key": "later", "type": "set", "value": "2 + 2"},
        tool("sum", {"$else": ["$.steps.later.output", "1 + 1"]}),
    )  # fmt: skip
    run, task = await waiting(ask, "changes", *steps)
    assert task.content["input"] == {"expression": "1 + 1"}
    await answered(ask, task, {"approved": True}, task.sha256)
    run = await ended(ask, run)
    assert (run.status, run.error["code"]) == ("failed", "ERR_198")
    assert run.error["details"]["approved"] == task.sha256
    assert await invoked(ask) == []


async def test_who_answers_to_something_that_has_changed_meanwhile_is_told(platform, ask, ask_as):
    ada = ask_as("viewer", "ada")
    command = AskPerson(id=Clock().new_id(), owner_id="ada", title="Delete?", content={"rows": 1.0})
    first = await ask.as_edge(human.ask, command)
    await ada(human.claim, ClaimTask(id=first.id))
    same = command.model_copy(update={"content": {"rows": 1}})
    assert (await ask.as_edge(human.ask, same)).version == 2
    other = command.model_copy(update={"content": {"rows": 1_000_000}})
    changed = await ask.as_edge(human.ask, other)
    assert (changed.version, changed.claimed_by) == (3, None)
    with pytest.raises(ContentChanged) as refused:
        await answered(ada, first, {"approved": True}, first.sha256)
    assert refused.value.details == {"sha256": changed.sha256}
    done = await answered(ada, changed, {"approved": True}, changed.sha256)
    assert (await ask.as_edge(human.ask, other)) == done
    assert (await ask.as_edge(human.ask, command)).status == "open"


async def test_a_refusal_and_silence_approve_nothing(platform, ask):
    guarded = tool("sum", "1 + 1", when="$.steps.may.output.approved")
    refused = ({"approved": False, "note": "too dear"}, "succeeded", None)
    for name, step, (verdict, status, code) in (
        ("skips", guarded, refused),
        ("fails", tool("sum", "1 + 1"), (refused[0], "failed", "ERR_198")),
    ):
        run, task = await waiting(ask, name, APPROVE, step)
        await answered(ask, task, verdict, task.sha256)
        run = await ended(ask, run)
        assert (run.status, run.error and run.error["code"]) == (status, code)
    run, task = await waiting(ask, "waits", APPROVE | {"within_s": 0.5}, tool("sum", "1 + 1"))
    run = await ended(ask, run)
    assert (run.status, run.error["code"]) == ("failed", "ERR_610")
    assert await inbox(ask, status="expired") == [task.id]
    with pytest.raises(IllegalMove):
        await answered(ask, task, {"approved": True}, task.sha256)
    assert await invoked(ask) == []


async def test_nobody_but_people_answers_and_what_nobody_waits_for_is_withdrawn(platform, ask):
    run, task = await waiting(ask, "held", APPROVE, tool("sum", "1 + 1"))
    robot = await made(ask, "robot", {
        "key": "answer", "type": "call", "operation": "human.answer",
        "input": {"id": task.id, "answer": {"approved": True}, "sha256": task.sha256},
    })  # fmt: skip
    tried = await ended(ask, await started(ask, robot))
    assert (tried.status, tried.error["code"]) == ("failed", "ERR_300")
    await ask(runs.cancel, CancelWorkflowRun(id=run.id))

    async def withdrawn():
        return await inbox(ask, status="withdrawn") == [task.id]

    await eventually(withdrawn)
    with pytest.raises(IllegalMove):
        await answered(ask, task, {"approved": True}, task.sha256)
    assert (await steps_of(ask, run))["may"].status == "failed"


async def test_an_approval_of_what_asks_nobody_is_no_document(platform, ask):
    value = {"key": "value", "type": "set", "value": 1}
    for approved in ("none", "may", "value"):
        bad = document(APPROVE | {"approves": approved}, value)
        found = await ask(definitions.check, CheckWorkflow(document=bad))
        assert "no step of the type call, job or tool" in found.items[0].message
    for odd in ({"otherwise": {"approved": True}}, {"answer": YES}):
        with pytest.raises(ValueError, match="never by silence"):
            document(APPROVE | odd, tool("sum", "1"))
