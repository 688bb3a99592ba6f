"""Agents: what may be asked of one, and that a run goes on where it was."""

import asyncio

import pytest

from schemas import agents
from schemas.agents import (
    AgentConfig,
    AgentLimits,
    AgentNameTaken,
    AssignWork,
    Brief,
    CancelRun,
    ConfigureAgent,
    GetAgent,
    GetRun,
    ListAgents,
    ListSteps,
    NoAgentFree,
    ResumeAgent,
    StartRun,
    SuspendAgent,
    TerminateAgent,
    ToolStep,
)
from schemas.contract import Operation
from schemas.problems import IllegalMove, KeyReused, Malformed, NotFound, VersionConflict
from tests.conftest import eventually
from tests.factories import create_agent

pytestmark = pytest.mark.usefixtures("platform")
SUM = Brief(
    objective="Add",
    steps=(ToolStep(name="sum", tool="calculator.evaluate", arguments={"expression": "40 + 2"}),),
)


async def finished(ask, run):
    """The run at its end."""

    async def ended():
        now = await ask(agents.run, GetRun(id=run.id))
        return now if now.finished_at else None

    return await eventually(ended, 40)


async def test_a_created_agent_is_idle_and_can_be_read(ask):
    created = await ask(agents.create, create_agent(capabilities=("read",)))
    assert (created.status, created.version, created.owner_id) == ("idle", 1, "admin")
    assert await ask(agents.get, GetAgent(id=created.id)) == created


async def test_a_second_agent_of_the_same_name_is_refused(ask):
    await ask(agents.create, create_agent(name="twin"))
    with pytest.raises(AgentNameTaken):
        await ask(agents.create, create_agent(name="twin"))


async def test_the_same_name_is_free_again_after_termination(ask):
    first = await ask(agents.create, create_agent(name="phoenix"))
    await ask(agents.terminate, TerminateAgent(id=first.id))
    assert (await ask(agents.create, create_agent(name="phoenix"))).id != first.id


async def test_the_same_key_answers_the_same_agent_and_another_body_is_refused(ask):
    command = create_agent()
    first = await ask(agents.create, command, key="once")
    assert await ask(agents.create, command, key="once") == first
    with pytest.raises(KeyReused):
        await ask(agents.create, create_agent(), key="once")


async def test_fifty_concurrent_requests_with_one_key_make_one_agent(ask):
    command = create_agent()
    answers = await asyncio.gather(*(ask(agents.create, command, key="race") for _ in range(50)))
    assert len({answer.id for answer in answers}) == 1


async def test_configuring_an_old_version_is_refused(ask):
    agent = await ask(agents.create, create_agent())
    change = ConfigureAgent(id=agent.id, version=1, config=AgentConfig(temperature=1.0))
    changed = await ask(agents.configure, change)
    assert (changed.version, changed.config.temperature) == (2, 1.0)
    with pytest.raises(VersionConflict):
        await ask(agents.configure, change)


async def test_a_suspended_agent_gets_no_work_until_it_is_resumed(ask):
    agent = await ask(agents.create, create_agent(capabilities=("rare",)))
    await ask(agents.suspend, SuspendAgent(id=agent.id, reason="lunch"))
    with pytest.raises(NoAgentFree):
        await ask(agents.assign, AssignWork(capabilities=("rare",), brief=SUM))
    await ask(agents.resume, ResumeAgent(id=agent.id))
    run = await ask(agents.assign, AssignWork(capabilities=("rare",), brief=SUM))
    assert run.agent_id == agent.id


async def test_a_terminated_agent_moves_no_more(ask):
    agent = await ask(agents.create, create_agent())
    await ask(agents.terminate, TerminateAgent(id=agent.id))
    with pytest.raises(IllegalMove):
        await ask(agents.resume, ResumeAgent(id=agent.id))


async def test_an_agent_takes_no_more_runs_than_its_limit(ask):
    limits = AgentLimits(parallel=1)
    agent = await ask(agents.create, create_agent(limits=limits))
    slow = Brief(objective="wait for ever", steps=(ToolStep(name="x", tool="no.such"),))
    await ask(agents.start_run, StartRun(agent_id=agent.id, brief=slow))
    busy = await ask(agents.get, GetAgent(id=agent.id))
    if busy.running:
        with pytest.raises(NoAgentFree):
            await ask(agents.start_run, StartRun(agent_id=agent.id, brief=SUM))


async def test_a_run_does_its_prescribed_steps_and_the_agent_is_free_again(ask):
    agent = await ask(agents.create, create_agent())
    run = await finished(ask, await ask(agents.start_run, StartRun(agent_id=agent.id, brief=SUM)))
    assert run.status == "succeeded", run.error
    assert run.result["value"] == "42"
    [step] = (await ask(agents.steps, ListSteps(run_id=run.id))).items
    assert (step.status, step.kind, step.attempts) == ("finished", "tool", 1)
    assert (await ask(agents.get, GetAgent(id=agent.id))).running == 0


async def test_a_run_with_an_unknown_tool_fails_with_the_reason(ask):
    agent = await ask(agents.create, create_agent())
    brief = Brief(objective="x", steps=(ToolStep(name="x", tool="no.such"),))
    run = await finished(ask, await ask(agents.start_run, StartRun(agent_id=agent.id, brief=brief)))
    assert (run.status, run.error["code"]) == ("failed", "ERR_141")
    assert (await ask(agents.get, GetAgent(id=agent.id))).status == "idle"


async def test_a_cancelled_run_stays_cancelled(ask):
    agent = await ask(agents.create, create_agent())
    run = await ask(agents.start_run, StartRun(agent_id=agent.id, brief=SUM))
    try:
        cancelled = await ask(agents.cancel_run, CancelRun(id=run.id, reason="no more"))
    except IllegalMove:
        return  # it was quicker than we
    assert cancelled.status == "cancelled"
    with pytest.raises(IllegalMove):
        await ask(agents.cancel_run, CancelRun(id=run.id))


async def test_a_page_neither_skips_nor_repeats_while_agents_are_added(ask):
    for _ in range(5):
        await ask(agents.create, create_agent(capabilities=("paged",)))
    seen, cursor = [], None
    while True:
        command = ListAgents(limit=2, cursor=cursor, capability="paged")
        page = await ask(agents.listing, command)
        seen += [agent.id for agent in page.items]
        await ask(agents.create, create_agent(capabilities=("paged",)))
        if (cursor := page.next) is None:
            break
    assert len(seen) == len(set(seen)) == 5


async def test_a_cursor_of_another_list_is_refused(ask):
    for _ in range(2):
        await ask(agents.create, create_agent(capabilities=("a",)))
    page = await ask(agents.listing, ListAgents(limit=1, capability="a"))
    with pytest.raises(Malformed):
        await ask(agents.listing, ListAgents(limit=1, capability="b", cursor=page.next))


async def test_a_developer_sees_all_agents_but_changes_only_their_own(ask, ask_as):
    theirs = await ask(agents.create, create_agent())
    developer = ask_as("developer")
    assert (await developer(agents.get, GetAgent(id=theirs.id))).id == theirs.id
    with pytest.raises(NotFound):
        await developer(agents.suspend, SuspendAgent(id=theirs.id))
    own = await developer(agents.create, create_agent())
    assert (await developer(agents.suspend, SuspendAgent(id=own.id))).status == "suspended"


async def test_an_unknown_agent_is_not_found(ask, platform):
    operation: Operation = agents.get
    with pytest.raises(NotFound):
        await ask(operation, GetAgent(id=platform.clock.new_id()))
