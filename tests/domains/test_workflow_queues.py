"""Whose run is driven next where there is little room, and queues of runs."""

import asyncio
import contextlib
import json

import nats
import pytest

from bus.database import Transaction
from bus.service import own_context
from handlers.workflows import ending, service, store
from handlers.workflows.engine import Outcome
from handlers.workflows.reactions import queues, room
from schemas import goals, tools
from schemas.agents import Brief
from schemas.goals import SubmitGoal, TaskDraft
from schemas.problems import IllegalMove
from schemas.tools import RegisterTool
from schemas.travel import ForkRun
from schemas.workflows import runs
from schemas.workflows.runs import (
    CancelWorkflowRun,
    ListWorkflowRuns,
    PauseRun,
    ResumeRun,
    RetryRun,
    RunEnded,
    SendSignal,
    StartWorkflow,
)
from tests.conftest import eventually, look, settled
from tests.domains.flows import ended, made, now, started, steps_of, waits

pytestmark = pytest.mark.usefixtures("platform")
GATED = RegisterTool(
    name="gated.tool", description="Answers when it is let.", subject="tool.gated.tool",
    input_schema={"type": "object"}, output_schema={"type": "object"}, timeout_ms=60_000,
)  # fmt: skip
GATE = {"key": "gate", "type": "tool", "tool": "gated.tool", "timeout_s": 60,
        "input": {"who": "$.inputs.who"}}  # fmt: skip
SLEEP = {"key": "sleep", "type": "wait", "signal": "go"}
IN_LOCK_QUEUE = """
    SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()
"""


class Gate:
    """A program that is no part of the platform: it holds whoever asks until it lets one go."""

    def __init__(self):
        self.came, self.inside, self.most = [], [], 0
        self.tasks = []

    async def serve(self, message):
        let, who = asyncio.Event(), json.loads(message.data)["who"]
        self.came.append(who)
        self.inside.append(let)
        self.most = max(self.most, len(self.inside))
        self.tasks.append(asyncio.create_task(self.hold(let, message)))

    async def hold(self, let, message):
        await let.wait()
        await message.respond(b"{}")

    def let_one_go(self):
        self.inside.pop(0).set()

    async def holds(self, *came):
        """All of these have come, and the last ones are inside."""

        async def check():
            return self.came == list(came)

        with contextlib.suppress(AssertionError):
            await eventually(check)
        assert self.came == list(came)


@pytest.fixture
async def gate(settings, ask, platform):
    connection, one = await nats.connect(settings.nats_url.get_secret_value()), Gate()
    await connection.subscribe(GATED.subject, cb=one.serve)
    await settled(connection)
    await ask(tools.register, GATED)
    yield one
    for let in one.inside:
        let.set()
    await asyncio.gather(*one.tasks)
    await connection.close()


@pytest.fixture
def acting(platform):
    """As whom the domain itself writes."""
    return own_context(service, platform)


async def go(ask, workflow, who, **more):
    command = StartWorkflow(id=workflow.id, inputs={"who": who}, **more)
    return await ask(runs.start, command)


async def states(ask, some):
    return [(await now(ask, run)).status for run in some]


# --- drivers ---------------------------------------------------------------------------------


async def test_one_owners_flood_lets_anothers_run_go_before_it(ask_as, gate, platform, monkeypatch):
    monkeypatch.setattr(room, "DRIVEN_MAX", 2)
    mallory, eve = ask_as("developer", "mallory"), ask_as("developer", "eve")
    flood, single = await made(mallory, "flood", GATE), await made(eve, "single", GATE)
    many = [await go(mallory, flood, "mallory") for _ in range(12)]
    await gate.holds("mallory", "mallory")
    one = await go(eve, single, "eve")
    gate.let_one_go()
    await gate.holds("mallory", "mallory", "eve")
    assert await look(platform, "SELECT 1 FROM ops.jobs WHERE kind = 'workflows.drive'") == []
    monkeypatch.setattr(room, "DRIVEN_MAX", 64)
    gate.let_one_go()
    await gate.holds("mallory", "mallory", "eve", *["mallory"] * 10)
    while gate.inside:
        gate.let_one_go()
    for run in (*many, one):
        assert (await ended(mallory if run in many else eve, run)).status == "succeeded"


async def test_where_there_is_one_place_owners_take_turns(ask_as, gate, monkeypatch):
    monkeypatch.setattr(room, "DRIVEN_MAX", 1)
    owners = {name: ask_as("developer", name) for name in ("ada", "bob", "cleo")}
    workflows = {name: await made(ask, "turns", GATE) for name, ask in owners.items()}
    for name in ("ada", "ada", "ada", "ada", "bob", "bob", "cleo"):
        await go(owners[name], workflows[name], name)
    expected = ["ada", "ada", "bob", "cleo", "ada", "bob", "ada"]
    for n in range(1, 8):
        await gate.holds(*expected[:n])
        gate.let_one_go()


async def test_more_owners_than_are_looked_at_at_once_all_have_their_turn(
    ask_as, gate, monkeypatch
):
    monkeypatch.setattr(room, "DRIVEN_MAX", 0)
    monkeypatch.setattr(room, "OWNERS_MAX", 1)
    for name in ("ada", "bob", "cleo"):
        owner = ask_as("developer", name)
        workflow = await made(owner, "pages", GATE)
        for _ in range(2):
            await go(owner, workflow, name)
    monkeypatch.setattr(room, "DRIVEN_MAX", 6)
    await eventually(lambda: gate_is_full(gate, 6))
    assert sorted(gate.came) == ["ada", "ada", "bob", "bob", "cleo", "cleo"]


async def gate_is_full(gate, count):
    return len(gate.inside) == count


async def test_more_urgent_runs_of_an_owner_are_driven_first(ask, gate, monkeypatch):
    monkeypatch.setattr(room, "DRIVEN_MAX", 1)
    workflow = await made(ask, "urgent", GATE)
    for priority in (3, 5, 4, 1):
        await go(ask, workflow, priority, priority=priority)
    for n in range(1, 5):
        await gate.holds(*[3, 1, 4, 5][:n])
        gate.let_one_go()


async def test_two_processes_never_take_the_same_run(ask, gate, platform, monkeypatch):
    monkeypatch.setattr(room, "DRIVEN_MAX", 0)
    workflow = await made(ask, "once", GATE)
    waiting = [(await go(ask, workflow, n)).id for n in range(8)]
    some = await asyncio.gather(*(room.taken(waiting, platform) for _ in range(4)))
    assert sorted(driver.run_id for drivers in some for driver in drivers) == sorted(waiting)
    assert gate.came == []


async def test_what_a_dead_process_drove_is_driven_by_another_in_its_turn(
    ask, gate, platform, monkeypatch
):
    monkeypatch.setattr(room, "DRIVEN_MAX", 0)
    run = await go(ask, await made(ask, "left", GATE), "left")
    [_] = await room.taken([run.id], platform)  # and dies
    dead = "UPDATE flow.drivers SET lease_until = now() - interval '1 second'"
    connection = await platform.database.connect()
    await connection.execute(dead)
    await connection.close()
    monkeypatch.setattr(room, "DRIVEN_MAX", 1)
    await gate.holds("left")
    gate.let_one_go()
    assert (await ended(ask, run)).status == "succeeded"


async def test_what_finds_room_and_has_no_queue_asks_nothing_more_of_the_database(
    ask, monkeypatch, gate
):
    seen = set()
    for verb in ("row", "rows", "execute"):
        how = getattr(Transaction, verb)

        async def noting(self, statement, *values, how=how):
            seen.add(statement)
            return await how(self, statement, *values)

        monkeypatch.setattr(Transaction, verb, noting)
    run = await go(ask, await made(ask, "fast", GATE), "fast")
    await gate.holds("fast")
    gate.let_one_go()
    assert (await ended(ask, run)).status == "succeeded"
    assert store.CLAIM in seen
    assert not seen & {store.WANT, store.LOCK_QUEUE, store.IN_QUEUE, store.NEXT_IN_QUEUE}


# --- queues ----------------------------------------------------------------------------------


async def test_no_more_runs_of_a_queue_are_under_way_than_it_says(ask, gate):
    workflow = await made(ask, "bound", GATE, queue={"name": "narrow", "runs_at_once": 2})
    some = [await go(ask, workflow, 0)]
    await gate.holds(0)
    some += [await go(ask, workflow, n) for n in range(1, 6)]
    assert [run.status for run in some] == ["running"] * 2 + ["queued"] * 4
    for n in range(2, 7):
        await gate.holds(*range(n))
        gate.let_one_go()
    gate.let_one_go()
    assert {(await ended(ask, run)).status for run in some} == {"succeeded"}
    assert gate.most == 2


async def test_workflows_of_an_owner_share_a_queue_and_owners_do_not(ask_as):
    queue = {"name": "shared", "runs_at_once": 1}
    ada, bob = ask_as("developer", "ada"), ask_as("developer", "bob")
    some = [(ada, "one"), (ada, "two"), (bob, "one")]
    begun = [await started(ask, await made(ask, name, SLEEP, queue=queue)) for ask, name in some]
    assert [run.status for run in begun] == ["running", "queued", "running"]
    listed = await ada(runs.runs, ListWorkflowRuns(status="queued"))
    assert [run.id for run in listed.items] == [begun[1].id]


async def test_a_queue_lets_the_more_urgent_in_first_and_what_waits_keeps_its_place(ask):
    workflow = await made(ask, "order", SLEEP, queue={"name": "order"})
    first = await started(ask, workflow)
    await waits(ask, first, "sleep")
    late, usual, urgent = [
        await ask(runs.start, StartWorkflow(id=workflow.id, priority=p)) for p in (5, 3, 1)
    ]
    await ask(runs.pause, PauseRun(id=first.id))
    assert await states(ask, (late, usual, urgent)) == ["queued"] * 3
    await ask(runs.resume, ResumeRun(id=first.id))
    for run, then in [(first, urgent), (urgent, usual), (usual, late)]:
        await ask(runs.signal, SendSignal(id=run.id, name="go"))
        await ended(ask, run)
        assert (await now(ask, then)).status == "running"
    await ask(runs.signal, SendSignal(id=late.id, name="go"))
    assert (await ended(ask, late)).status == "succeeded"


async def test_a_queued_run_can_be_cancelled_and_signalled_and_nothing_else(ask):
    workflow = await made(ask, "told", SLEEP, queue={"name": "told"})
    first, second, third = [await started(ask, workflow) for _ in range(3)]
    for operation, command in [
        (runs.pause, PauseRun), (runs.resume, ResumeRun), (runs.retry, RetryRun)
    ]:  # fmt: skip
        with pytest.raises(IllegalMove):
            await ask(operation, command(id=second.id))
    await ask(runs.signal, SendSignal(id=third.id, name="go"))
    cancelled = await ask(runs.cancel, CancelWorkflowRun(id=second.id, undo=True))
    assert cancelled.status == "cancelled"
    assert (await now(ask, third)).status == "queued"
    await ask(runs.cancel, CancelWorkflowRun(id=first.id))
    assert (await ended(ask, third)).status == "succeeded"


async def test_the_time_of_a_queued_run_counts_from_its_beginning(ask):
    workflow = await made(ask, "timed", SLEEP, queue={"name": "timed"}, within_s=3_600)
    first, second = await started(ask, workflow), await started(ask, workflow)
    assert second.status == "queued"
    await ask(runs.cancel, CancelWorkflowRun(id=first.id))
    over, second = await now(ask, first), await now(ask, second)
    assert second.status == "running"
    assert (second.deadline - over.finished_at).total_seconds() == pytest.approx(3_600, abs=1)
    assert second.deadline >= second.started_at + (first.deadline - first.started_at)


async def test_two_runs_that_end_at_once_let_in_two(ask, platform, acting):
    """The second one has to wait until the first has counted and let in, and then count anew."""
    workflow = await made(ask, "race", SLEEP, queue={"name": "race", "runs_at_once": 2})
    some = [await started(ask, workflow) for _ in range(5)]
    for run in some[:2]:
        await waits(ask, run, "sleep")

    async def end(run, tx):
        over = ending.ended(await now(ask, run), "cancelled", Outcome(), acting.now())
        await ending.record(tx, over, acting)

    first, second = [await platform.database.begin(acting.origin) for _ in range(2)]
    await end(some[0], first)
    other = asyncio.create_task(end(some[1], second))
    await eventually(lambda: look(platform, IN_LOCK_QUEUE))
    assert not other.done()
    await first.commit()
    await other
    await second.commit()
    expected = ["cancelled", "cancelled", "running", "running", "queued"]
    assert await states(ask, some) == expected


async def test_a_start_and_an_end_at_once_neither_share_a_place_nor_lose_it(ask, platform, acting):
    workflow = await made(ask, "both", SLEEP, queue={"name": "both"})
    first = await started(ask, workflow)
    await waits(ask, first, "sleep")
    async with acting.transaction() as tx:
        over = ending.ended(await now(ask, first), "cancelled", Outcome(), acting.now())
        await ending.record(tx, over, acting)
        starting = [asyncio.create_task(started(ask, workflow)) for _ in range(2)]
        await eventually(lambda: look(platform, IN_LOCK_QUEUE))
    begun = await asyncio.gather(*starting)
    assert sorted(run.status for run in begun) == ["queued", "running"]


async def test_a_place_that_nobody_was_given_is_found(ask, acting, monkeypatch):
    monkeypatch.setattr(queues, "QUEUES_AT_ONCE_MAX", 0)  # the sweep looks when the test says so
    workflow = await made(ask, "stuck", SLEEP, queue={"name": "stuck"})
    first, second, third = [await started(ask, workflow) for _ in range(3)]
    await waits(ask, first, "sleep")
    over = ending.ended(await now(ask, first), "cancelled", Outcome(), acting.now())
    async with acting.transaction() as tx:
        await tx.record(RunEnded(run=over))  # as a version that knows no queues
    assert await states(ask, (second, third)) == ["queued", "queued"]
    fourth = await started(ask, workflow)
    assert fourth.status == "queued"  # it does not push in
    monkeypatch.setattr(queues, "QUEUES_AT_ONCE_MAX", 10)
    await queues.let_in(acting)
    assert await states(ask, (second, third, fourth)) == ["running", "queued", "queued"]


async def test_what_has_failed_queues_again_when_it_is_tried_again(ask):
    steps = (
        {"key": "kept", "type": "set", "value": 1},
        {"key": "b", "type": "call", "operation": "agents.get", "input": {"id": "none"}},
    )
    queue = {"name": "again"}
    failed = await ended(ask, await started(ask, await made(ask, "fails", *steps, queue=queue)))
    assert failed.status == "failed"
    holder = await started(ask, await made(ask, "holds", SLEEP, queue=queue))
    assert (holder.status, (await ask(runs.retry, RetryRun(id=failed.id))).status) == (
        "running", "queued",
    )  # fmt: skip
    with pytest.raises(IllegalMove):
        await ask(runs.cancel, CancelWorkflowRun(id=failed.id, undo=True))
    await ask(runs.cancel, CancelWorkflowRun(id=holder.id))
    again = await ended(ask, failed)
    assert (again.status, (await steps_of(ask, again))["kept"].version) == ("failed", 1)
    assert again.finished_at > failed.finished_at


async def test_an_inner_run_has_the_place_and_the_priority_of_the_outer_one(ask):
    queue = {"name": "nested"}
    await made(ask, "inside", {"key": "a", "type": "set", "value": 1}, queue=queue)
    call = {"key": "call", "type": "workflow", "workflow": "inside"}
    outer = await made(ask, "outside", call, queue=queue)
    run = await ended(ask, await ask(runs.start, StartWorkflow(id=outer.id, priority=2)))
    assert run.status == "succeeded"
    found = (await ask(runs.runs, ListWorkflowRuns())).items
    assert {(r.workflow_name, r.priority, r.queue) for r in found} == {
        ("outside", 2, "nested"), ("inside", 2, None),
    }  # fmt: skip


async def test_a_fork_has_the_priority_of_its_run_and_queues_as_any_other(ask):
    steps = ({"key": "a", "type": "set", "value": 1}, SLEEP)
    workflow = await made(ask, "forks", *steps, queue={"name": "forks"})
    run = await ask(runs.start, StartWorkflow(id=workflow.id, priority=4))
    await waits(ask, run, "sleep")
    forked = await ask(runs.fork_run, ForkRun(id=run.id, from_step="sleep"))
    assert (forked.status, forked.priority) == ("queued", 4)
    await ask(runs.cancel, CancelWorkflowRun(id=run.id))
    await waits(ask, forked, "sleep")
    assert (await steps_of(ask, forked))["a"].taken_from is not None


async def test_a_goals_run_has_the_priority_of_its_goal(ask, platform):
    task = TaskDraft(key="one", title="One", brief=Brief(objective="Say one word."))
    await ask(goals.submit, SubmitGoal(description="A word.", priority=1, tasks=(task,)))

    async def begun():
        return await look(platform, "SELECT priority FROM flow.runs WHERE goal_id IS NOT NULL")

    assert [row["priority"] for row in await eventually(begun)] == [1]
