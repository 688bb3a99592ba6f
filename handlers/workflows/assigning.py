"""How a step has an agent work for it: give it away, look whether it is done, try again.

A step that finds no agent with room waits for one as long as it says; the driver asks again from
time to time, and at once when some agent has finished (`reactions/agents.py`). Each try is asked
for under a key of its own, which only the end of the run before makes another.
"""

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from bus import travel
from handlers.workflows.engine import Begin
from handlers.workflows.mapping import computed
from handlers.workflows.records import failure_of, step_id
from handlers.workflows.steps import BAD_END, GOOD_END, WORKFLOWS, Came, Place, failed
from schemas import agents
from schemas.agents import (
    AssignWork,
    Brief,
    CancelRun,
    FindRun,
    NoAgentFree,
    Run,
    StartRun,
)
from schemas.contract import Json, Operation, Problem
from schemas.problems import KeyReused, TimedOut
from schemas.workflows.document import AgentStep
from schemas.workflows.runs import AgentFailed, AgentWork, EndedBadly, RunStep, TokensSpent

FREE_AGENT = "agent"
"""What a step awaits that has found none with room."""
ASK_AGAIN_S = 2.0
FIRST_LOOK_S, LOOK_S = 1.0, 10.0
"""A run may have ended before it was recorded that its step waits: look soon, then seldom."""
OUR_FAULT = 500


async def agent(step: AgentStep, known: Json, place: Place) -> Came:
    """Give work to an agent, or look whether it is done.

    Raises:
        Problem: Nobody takes it.
    """
    kind, _, run_id = (place.awaits or "").partition("/")
    if kind == "run":
        return await look(step, known, run_id, place)
    return await give(step, known, place)


async def give(step: AgentStep, known: Json, place: Place) -> Came:
    """Ask the agent that the step names, or the one that fits best.

    Raises:
        TokensSpent: The run has none left.
        NoAgentFree: None has room, and the step waits no longer.
    """
    if place.tokens_left is not None and place.tokens_left <= 0:
        raise TokensSpent
    work = work_of(place.record)
    operation, command = question(step, known)
    place.asks(travel.question(operation, command))
    limits = {
        "tokens_max": place.tokens_left, "goal_id": place.goal_id,
        "task_id": step_id(place.run_id, place.path),
    }  # fmt: skip
    owner, key = await place.acting(), key_of(place, work)
    try:
        run = await owner.call(operation, command.model_copy(update=limits), key=key)
    except NoAgentFree:
        if place.late(step.free_within_s):
            raise
        return Came("waiting", awaits=FREE_AGENT, work=work)
    except KeyReused:  # asked before a crash, when more tokens were left
        asked = FindRun(task_id=step_id(place.run_id, place.path))
        run = await place.ctx.as_principal(WORKFLOWS).call(agents.find_run, asked)
    work = work.model_copy(update={"run_id": run.id, "agent_id": run.agent_id})
    due_at = place.look_by(FIRST_LOOK_S, None)
    return Came("waiting", awaits=f"run/{run.id}", due_at=due_at, work=work)


def question(
    step: AgentStep, known: Json
) -> tuple[Operation[Any, Run], StartRun | AssignWork]:  # fmt: skip
    """What is asked of whom; without limits, which change while the run goes on.

    Raises:
        Unmappable: It cannot be computed.
    """
    inputs = computed(step.inputs, known)
    if step.brief is not None:
        brief = step.brief.model_copy(update={"inputs": step.brief.inputs | inputs})
    else:
        brief = Brief(objective=str(computed(step.objective, known)), inputs=inputs)
    if step.agent_id is not None:
        return agents.start_run, StartRun(agent_id=step.agent_id, brief=brief)
    return agents.assign, AssignWork(capabilities=step.capabilities, brief=brief)


def asks(step: RunStep) -> bool:
    """Whether a step waits until any agent has room."""
    return step.status == "waiting" and step.awaits == FREE_AGENT


def ask_again_at(place: Place) -> datetime:
    """When it asks again by itself; the longer it has waited, the more seldom."""
    return place.look_by(ASK_AGAIN_S, None) or place.ctx.now()


def work_of(record: RunStep | None) -> AgentWork:
    """What agents have done for a step so far."""
    return (record.work if record else None) or AgentWork()


def key_of(place: Place, work: AgentWork) -> str:
    """Under which one try is asked for."""
    if not work.runs:
        return place.key
    return str(uuid5(UUID(step_id(place.run_id, place.path)), str(work.runs)))


async def look(step: AgentStep, known: Json, run_id: str, place: Place) -> Came:
    """What has become of the run; one that takes too long is stopped."""
    asking, record = place.ctx.as_principal(WORKFLOWS), place.record
    assert record is not None
    run = await asking.call(agents.find_run, FindRun(id=run_id))
    if run.status in GOOD_END:
        return Came("done", run.result, work=after(record, run))
    if run.status in BAD_END:
        begin = Begin(place.path, step, record.attempt, known)
        came = failure_of(begin, ended_badly(run), place.ctx.now())
        return replace(came, work=after(record, run))
    if place.ctx.now() >= run.created_at + timedelta(seconds=step.timeout_s):
        with suppress(Problem):
            await asking.call(agents.stop_run, CancelRun(id=run_id, reason="took too long"))
        return failed(TimedOut("It took too long."))
    due_at = place.look_by(LOOK_S, None)
    return Came("waiting", awaits=record.awaits, due_at=due_at, work=record.work)


def after(record: RunStep, run: Run) -> AgentWork:
    """The agents' work on a step once this run of it has ended."""
    before = work_of(record)
    return AgentWork(
        runs=before.runs + 1, run_id=run.id, agent_id=run.agent_id,
        prompt_tokens=before.prompt_tokens + run.prompt_tokens,
        completion_tokens=before.completion_tokens + run.completion_tokens,
    )  # fmt: skip


def ended_badly(run: Run) -> AgentFailed | EndedBadly:
    """Why a run gave no result; another may, if the work or the world failed, not the request."""
    code = str((run.error or {}).get("code"))
    known = Problem.by_code.get(code)
    passing = known is None or known.retryable or known.status >= OUR_FAULT
    said = f"The agent's run has {run.status.replace('_', ' ')}."
    details = {"status": run.status, "run": run.id, "cause": run.error}
    if passing and run.status != "cancelled":
        return AgentFailed(said, **details)
    return EndedBadly(said, **details)
