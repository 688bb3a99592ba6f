"""Decisions about agents and runs. Pure: state, command and time in; new state or a problem out."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from schemas.agents import (
    Agent,
    AgentStatus,
    AssignWork,
    BadReference,
    Brief,
    ConfigureAgent,
    CreateAgent,
    ModelStep,
    Run,
    RunStatus,
    StartRun,
    Step,
    ToolStep,
)
from schemas.principal import Mandate, Principal, RunRights
from schemas.problems import IllegalMove

AGENT_MOVES: dict[AgentStatus, frozenset[AgentStatus]] = {
    "created": frozenset({"idle", "failed", "terminated"}),
    "idle": frozenset({"busy", "suspended", "failed", "terminated"}),
    "busy": frozenset({"idle", "suspended", "failed", "terminated"}),
    "suspended": frozenset({"idle", "terminated"}),
    "failed": frozenset({"idle", "terminated"}),
    "terminated": frozenset(),
}
RUN_MOVES: dict[RunStatus, frozenset[RunStatus]] = {
    "queued": frozenset({"running", "failed", "cancelled"}),
    "running": frozenset({"running", "succeeded", "failed", "timed_out", "cancelled"}),
    "succeeded": frozenset(),
    "failed": frozenset(),
    "timed_out": frozenset(),
    "cancelled": frozenset(),
}
REFERENCE = "$ref"
OFFERED = "offered"
TOOLS_CHARACTERS_MAX = 1_200
WEIGHT_FIT, WEIGHT_ROOM, WEIGHT_SUCCESS = 0.5, 0.3, 0.2


def new_agent(command: CreateAgent, *, id: str, owner: str, at: datetime) -> Agent:
    """An agent that can be given work at once."""
    return Agent(
        id=id,
        version=1,
        status="idle",
        status_reason=None,
        running=0,
        owner_id=owner,
        created_at=at,
        updated_at=at,
        terminated_at=None,
        **dict(command),
    )


def configured(agent: Agent, command: ConfigureAgent, at: datetime) -> Agent:
    """The agent with what the command names replaced.

    Raises:
        IllegalMove: It is terminated.
    """
    if agent.status == "terminated":
        raise IllegalMove(status=agent.status)
    changes = {
        name: value
        for name in ("capabilities", "config", "limits")
        if (value := getattr(command, name)) is not None
    }
    return changed(agent, at, **changes)


def moved(agent: Agent, to: AgentStatus, reason: str, at: datetime) -> Agent:
    """The agent in another state.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in AGENT_MOVES[agent.status]:
        raise IllegalMove(status=agent.status, to=to)
    ended = at if to == "terminated" else None
    return changed(agent, at, status=to, status_reason=reason or None, terminated_at=ended)


def has_room(agent: Agent) -> bool:
    """Whether the agent takes one more run now."""
    return agent.status in ("idle", "busy") and agent.running < agent.limits.parallel


def with_run(agent: Agent, at: datetime) -> Agent:
    """The agent with one more run; ask `has_room` first."""
    return changed(agent, at, status="busy", running=agent.running + 1)


def without_run(agent: Agent, at: datetime) -> Agent:
    """The agent with one run less; idle when it was the last."""
    running = max(agent.running - 1, 0)
    status = "idle" if agent.status == "busy" and running == 0 else agent.status
    return changed(agent, at, status=status, running=running)


def changed(agent: Agent, at: datetime, **fields: Any) -> Agent:
    """The next version of the agent."""
    return agent.model_copy(update=fields | {"version": agent.version + 1, "updated_at": at})


def fit(agent: Agent, wanted: Sequence[str], success: float) -> float:
    """How well an agent suits: 0.5 capabilities, 0.3 room, 0.2 past success."""
    asked = set(wanted)
    capability = len(asked & set(agent.capabilities)) / len(asked) if asked else 1.0
    room = 1 - agent.running / agent.limits.parallel
    return WEIGHT_FIT * capability + WEIGHT_ROOM * room + WEIGHT_SUCCESS * success


def best_agent(candidates: Sequence[tuple[Agent, float]], wanted: Sequence[str]) -> Agent | None:
    """The best of those that have every capability; ties go to the oldest."""
    able = [(a, s) for a, s in candidates if set(wanted) <= set(a.capabilities)]
    if not able:
        return None
    return max(
        able, key=lambda pair: (fit(pair[0], wanted, pair[1]), -pair[0].created_at.timestamp())
    )[0]


def new_run(
    agent: Agent, command: StartRun | AssignWork, asker: Principal, *, id: str, at: datetime
) -> Run:
    """A run that waits for a worker; it belongs to whoever asks for it."""
    return Run(
        id=id,
        version=1,
        agent_id=agent.id,
        task_id=command.task_id,
        goal_id=command.goal_id,
        brief=command.brief,
        status="queued",
        result=None,
        error=None,
        steps=0,
        prompt_tokens=0,
        completion_tokens=0,
        owner_id=asker.id,
        created_at=at,
        started_at=None,
        finished_at=None,
        mandate=Mandate.of(asker),
        tokens_max=command.tokens_max,
    )


def rights_of(run: Run, agent: Agent, steps: Sequence[Step]) -> RunRights:
    """What the run may use from now on; it must have started."""
    assert run.started_at is not None
    until = run.started_at + timedelta(seconds=agent.limits.seconds)
    return RunRights(
        run_id=run.id,
        tools=cut(tools_of(run, agent, steps)),
        tokens=tokens_max(run, agent),
        until=math.ceil(until.timestamp()),
    )


def tools_of(run: Run, agent: Agent, steps: Sequence[Step]) -> Sequence[str]:
    """The agent's own tools; without any, those of the brief, or those that were offered."""
    if agent.config.tools:
        return agent.config.tools
    if run.brief.steps:
        return [step.tool for step in run.brief.steps if isinstance(step, ToolStep)]
    turns = [step for step in steps if step.kind == "model"]
    return [str(name) for step in turns for name in step.input.get(OFFERED, ())]


def cut(tools: Sequence[str]) -> tuple[str, ...]:
    """The names without doubles, as many as a signed principal has room for."""
    chosen: list[str] = []
    for name in dict.fromkeys(tools):
        if sum(map(len, chosen)) + len(name) > TOOLS_CHARACTERS_MAX:
            break
        chosen.append(name)
    return tuple(chosen)


def tokens_max(run: Run, agent: Agent) -> int:
    """How many tokens the run may use in all."""
    limits = (agent.limits.tokens, run.tokens_max)
    return min(limit for limit in limits if limit is not None)


def started(run: Run, agent: Agent, at: datetime) -> Run:
    """The run in the hands of a worker, for the first time or again: it keeps how it began."""
    config = run.config or agent.config
    return moved_run(run, "running", started_at=run.started_at or at, config=config)


def as_begun(agent: Agent, run: Run) -> Agent:
    """The agent as it works in this run."""
    return agent.model_copy(update={"config": run.config}) if run.config else agent


def ended(
    run: Run,
    to: RunStatus,
    at: datetime,
    steps: Sequence[Step],
    *,
    result: Any = None,
    error: Mapping[str, Any] | None = None,
) -> Run:
    """The run at its end, with the tokens of all its steps."""
    return moved_run(
        run,
        to,
        finished_at=at,
        result=result,
        error=dict(error) if error else None,
        steps=len(steps),
        prompt_tokens=sum(step.prompt_tokens for step in steps),
        completion_tokens=sum(step.completion_tokens for step in steps),
    )


def moved_run(run: Run, to: RunStatus, **fields: Any) -> Run:
    """The next version of the run.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in RUN_MOVES[run.status]:
        raise IllegalMove(status=run.status, to=to)
    return run.model_copy(update=fields | {"status": to, "version": run.version + 1})


def out_of_time(run: Run, agent: Agent, now: datetime) -> bool:
    """Whether the run has used up its seconds."""
    began = run.started_at or now
    return now > began + timedelta(seconds=agent.limits.seconds)


def resolve(value: Any, scope: Mapping[str, Any]) -> Any:
    """`value` with every `{"$ref": "steps.compare.items"}` replaced by what it points at.

    Raises:
        BadReference: It points at nothing.
    """
    if isinstance(value, Mapping):
        if set(value) == {REFERENCE}:
            return look_up(str(value[REFERENCE]), scope)
        return {key: resolve(item, scope) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(item, scope) for item in value]
    return value


def look_up(path: str, scope: Mapping[str, Any]) -> Any:
    """The value at a dotted path; a number is a place in a list.

    Raises:
        BadReference: There is nothing there.
    """
    found: Any = scope
    for part in path.split("."):
        try:
            found = found[int(part)] if isinstance(found, list) else found[part]
        except (KeyError, IndexError, TypeError, ValueError):
            raise BadReference(path=path) from None
    return found


def scope_of(brief: Brief, steps: Sequence[Step]) -> dict[str, Any]:
    """What `$ref`s can point at: the brief's inputs and documents, and what earlier steps gave."""
    return {
        "inputs": brief.inputs,
        "objective": brief.objective,
        "documents": list(brief.document_ids),
        "steps": {step.name: step.output for step in steps if step.status == "finished"},
    }


def next_prescribed(brief: Brief, steps: Sequence[Step]) -> ToolStep | ModelStep | None:
    """The first prescribed step that is not finished."""
    done = {step.name for step in steps if step.status == "finished"}
    return next((step for step in brief.steps if step.name not in done), None)


def result_of(brief: Brief, steps: Sequence[Step]) -> Any:
    """The result of prescribed steps: what the brief says, or what its last step gave."""
    if brief.result is not None:
        return resolve(brief.result, scope_of(brief, steps))
    return next(step.output for step in steps if step.name == brief.steps[-1].name)
