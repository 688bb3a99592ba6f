"""Agents: what one is, what may be asked of it, and what it does step by step."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from schemas import travel
from schemas.contract import (
    Entity,
    Event,
    Id,
    Job,
    Json,
    Listing,
    ModelName,
    Name,
    Operation,
    Page,
    Problem,
    Reaction,
    Reason,
    Schema,
    Text,
    Token,
)  # fmt: skip
from schemas.identity.keys import KeyRevoked
from schemas.identity.users import UserChanged
from schemas.principal import Mandate
from schemas.problems import IllegalMove, NotFound, VersionConflict
from schemas.tools import ToolName
from schemas.travel import Asked

AgentStatus = Literal["created", "idle", "busy", "suspended", "failed", "terminated"]
RunStatus = Literal["queued", "running", "succeeded", "failed", "timed_out", "cancelled"]
StepKind = Literal["model", "tool"]


class AgentConfig(Schema):
    """How an agent works."""

    instructions: str = Field("You are a careful assistant.", max_length=8_000)
    model: ModelName | None = None
    tools: tuple[ToolName, ...] = Field((), max_length=50)
    temperature: float = Field(0.2, ge=0, le=2)


class AgentLimits(Schema):
    """What an agent may use."""

    parallel: int = Field(2, ge=1, le=64, description="Runs at once.")
    steps: int = Field(12, ge=1, le=100, description="Steps of one run.")
    tokens: int = Field(50_000, ge=100, description="Tokens of one run.")
    seconds: int = Field(600, ge=1, le=86_400, description="Duration of one run.")


class Agent(Entity, table="mcp_documents.agents"):
    """An agent: a model with instructions, tools and limits."""

    name: str
    agent_type: str
    capabilities: tuple[str, ...]
    config: AgentConfig
    limits: AgentLimits
    status: AgentStatus
    status_reason: str | None
    running: int
    owner_id: str
    created_at: datetime
    updated_at: datetime
    terminated_at: datetime | None


class ToolStep(Schema):
    """A prescribed call of a tool; `{"$ref": "inputs.compare.result"}` stands for a value."""

    name: Token
    tool: ToolName
    arguments: Json = Field(default_factory=dict)


class ModelStep(Schema):
    """A prescribed question to the model, answered as JSON of `output_schema`."""

    name: Token
    ask: Text
    output_schema: Json
    tokens_max: int = Field(256, ge=1, le=4096)


class Brief(Schema):
    """What an agent is asked to do.

    With prescribed steps the agent does exactly those, in order, and the result is `result`, or
    what the last step gave. Without, the model decides step by step between a tool and an answer.
    """

    objective: Text
    inputs: Json = Field(default_factory=dict, description="Results of the tasks it depends on.")
    document_ids: tuple[Id, ...] = Field((), max_length=50)
    steps: tuple[ToolStep | ModelStep, ...] = Field((), max_length=50)
    result: Json | None = Field(None, description="The result, with `$ref`s to steps.")


class Run(Entity, table="runtime.runs"):
    """One piece of work of one agent, from the request to the result."""

    agent_id: Id
    task_id: Id | None
    goal_id: Id | None
    brief: Brief
    status: RunStatus
    result: Any
    error: Json | None
    steps: int
    prompt_tokens: int
    completion_tokens: int
    owner_id: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    mandate: Mandate | None = Field(None, description="With which rights it was asked for.")
    tokens_max: int | None = Field(None, description="A limit besides that of the agent.")
    config: AgentConfig | None = Field(None, description="How its agent worked when it began.")
    forked_from: Id | None = Field(None, description="The run whose first steps it has.")
    fork_step: str | None = Field(None, description="The first step that it does itself.")
    root_id: Id | None = Field(None, description="The run at the beginning of all these forks.")
    changes: Json | None = Field(None, description="What is other than in the run before.")


class Step(Entity, table="runtime.steps"):
    """One step of a run: a checkpoint. What is recorded here is never done again."""

    run_id: Id
    goal_id: Id | None
    task_id: Id | None
    ordinal: int
    kind: StepKind
    name: str
    target: str
    status: Literal["started", "finished", "failed"]
    input: Json
    output: Any
    error: Json | None
    prompt_tokens: int
    completion_tokens: int
    reference: str | None
    attempts: int
    started_at: datetime
    finished_at: datetime | None
    asked: Asked | None = None
    taken_from: Id | None = Field(None, description="The step of another run that did it.")


class CreateAgent(Schema):
    """Create an agent; its name is unique among its owner's agents."""

    name: Name
    agent_type: Token = "general"
    capabilities: tuple[Token, ...] = Field((), max_length=50)
    config: AgentConfig = AgentConfig()
    limits: AgentLimits = AgentLimits()


class GetAgent(Schema):
    """Show one agent."""

    id: Id


class ListAgents(Listing):
    """List agents, newest first."""

    status: AgentStatus | None = None
    capability: Token | None = None


class ConfigureAgent(Schema):
    """Change how an agent works; runs that have begun keep what they began with."""

    id: Id
    version: int = Field(ge=1)
    capabilities: tuple[Token, ...] | None = Field(None, max_length=50)
    config: AgentConfig | None = None
    limits: AgentLimits | None = None


class MoveAgent(Schema):
    """Suspend, resume or terminate an agent."""

    id: Id
    reason: Reason = ""


class SuspendAgent(MoveAgent):
    """Give an agent no more work; runs that have begun go on."""


class ResumeAgent(MoveAgent):
    """Give a suspended agent work again."""


class TerminateAgent(MoveAgent):
    """Take an agent out of service for good; its open runs are cancelled."""


class WorkOrder(Schema):
    """What an agent is asked, and on whose behalf."""

    brief: Brief
    task_id: Id | None = None
    goal_id: Id | None = None
    tokens_max: int | None = Field(None, ge=0, description="A limit besides that of the agent.")


class StartRun(WorkOrder):
    """Ask an agent to do something; the answer comes as events and in the run."""

    agent_id: Id


class AssignWork(WorkOrder):
    """Choose the agent that fits best and has room, and ask it."""

    capabilities: tuple[Token, ...] = ()


class GetRun(Schema):
    """Show one run."""

    id: Id


class ListRuns(Listing):
    """List runs, newest first."""

    agent_id: Id | None = None
    goal_id: Id | None = None
    status: RunStatus | None = None


class CancelRun(Schema):
    """Stop a run; steps that are recorded stay."""

    id: Id
    reason: Reason = ""


class FindRun(Schema):
    """Show a run to the layer that has asked for it: by its id, or the newest of a task."""

    id: Id | None = None
    task_id: Id | None = None


class ListSteps(Listing):
    """List the steps of a run, in order."""

    run_id: Id


class AgentNameTaken(Problem, code="ERR_112", status=409, constraint="agents_owner_name_key"):
    """The owner already has an agent of this name."""


class NoAgentFree(Problem, code="ERR_411", status=409, retryable=True):
    """No agent with these capabilities has room now."""


class BadReference(Problem, code="ERR_150", status=400):
    """A `$ref` points at nothing."""


class RunTooLong(Problem, code="ERR_151", status=409):
    """The run used up its steps, tokens or time before it had a result."""


class AgentCreated(Event, name="agents.created"):
    """An agent was created."""

    agent: Agent


class AgentConfigured(Event, name="agents.configured"):
    """An agent works differently from now on."""

    agent: Agent


class AgentMoved(Event, name="agents.moved"):
    """An agent became idle, busy, suspended or terminated."""

    agent: Agent


class RunQueued(Event, name="agents.run_queued"):
    """An agent was asked to do something."""

    run: Run


class RunStarted(Event, name="agents.run_started"):
    """A worker has begun, or taken up again, a run."""

    run: Run


class RunFinished(Event, name="agents.run_finished"):
    """A run has ended: succeeded, failed, timed out or cancelled."""

    run: Run


class StepStarted(Event, name="agents.step_started"):
    """A step is about to be done."""

    step: Step


class StepFinished(Event, name="agents.step_finished"):
    """A step is done and will not be done again."""

    step: Step


class StepTaken(Event, name="agents.step_taken"):
    """A run that was forked has a step of the run before, which it does not do itself."""

    step: Step


class Work(Job, name="agents.work", workers=6, attempts=8, timeout_s=3600):
    """Do a run, from its last recorded step on."""

    run_id: Id


create = Operation(
    "agents.create", CreateAgent, Agent, rest="POST /agents -> 201", may="agents:create",
    problems=(AgentNameTaken,), emits=(AgentCreated,), idempotent=True, timeout_s=2,
)  # fmt: skip
get = Operation(
    "agents.get", GetAgent, Agent, rest="GET /agents/{id}", may="agents:read",
    problems=(NotFound,), timeout_s=2, workers=64,
)  # fmt: skip
listing = Operation("agents.list", ListAgents, Page[Agent], rest="GET /agents", may="agents:read")
configure = Operation(
    "agents.configure", ConfigureAgent, Agent, rest="PUT /agents/{id}", may="agents:update",
    problems=(NotFound, VersionConflict, IllegalMove), emits=(AgentConfigured,), idempotent=True,
)  # fmt: skip
suspend = Operation(
    "agents.suspend", SuspendAgent, Agent, rest="POST /agents/{id}/suspend",
    may="agents:control", problems=(NotFound, IllegalMove), emits=(AgentMoved,), idempotent=True,
)  # fmt: skip
resume = Operation(
    "agents.resume", ResumeAgent, Agent, rest="POST /agents/{id}/resume", may="agents:control",
    problems=(NotFound, IllegalMove), emits=(AgentMoved,), idempotent=True,
)  # fmt: skip
terminate = Operation(
    "agents.terminate", TerminateAgent, Agent, rest="POST /agents/{id}/terminate",
    may="agents:control", problems=(NotFound, IllegalMove), emits=(AgentMoved, RunFinished),
    idempotent=True,
)  # fmt: skip
start_run = Operation(
    "agents.run", StartRun, Run, rest="POST /agents/{agent_id}/runs -> 202",
    may="agents:execute", problems=(NotFound, NoAgentFree, IllegalMove),
    emits=(RunQueued, AgentMoved), idempotent=True,
)  # fmt: skip
assign = Operation(
    "agents.assign", AssignWork, Run, may="agents:execute", problems=(NoAgentFree,),
    emits=(RunQueued, AgentMoved), idempotent=True,
)  # fmt: skip
run = Operation(
    "agents.get-run", GetRun, Run, rest="GET /runs/{id}", may="agents:read", problems=(NotFound,)
)
runs = Operation("agents.runs", ListRuns, Page[Run], rest="GET /runs", may="agents:read")
cancel_run = Operation(
    "agents.cancel-run", CancelRun, Run, rest="POST /runs/{id}/cancel", may="agents:control",
    problems=(NotFound, IllegalMove), emits=(RunFinished, AgentMoved), idempotent=True,
)  # fmt: skip
find_run = Operation("agents.find-run", FindRun, Run, internal=True, problems=(NotFound,))
stop_run = Operation(
    "agents.stop-run", CancelRun, Run, internal=True, problems=(NotFound,),
    emits=(RunFinished, AgentMoved), idempotent=True,
)  # fmt: skip
steps = Operation(
    "agents.steps", ListSteps, Page[Step], rest="GET /runs/{run_id}/steps", may="agents:read",
    problems=(NotFound,),
)  # fmt: skip
run_states, run_at, fork_run, compare_runs, rerun = travel.operations(
    "agents", "/runs", Run, (RunQueued, StepTaken, AgentMoved), (NoAgentFree,)
)

on_user_changed = Reaction("agents-stop-user", UserChanged)
on_key_revoked = Reaction("agents-stop-key", KeyRevoked)
