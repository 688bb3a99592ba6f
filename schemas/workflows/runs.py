"""Runs of workflows: what is going on, what was done, and what it waits for."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from schemas import travel
from schemas.agents import RunFinished as AgentRunFinished
from schemas.contract import (
    Entity,
    Event,
    Id,
    Job,
    Json,
    Listing,
    Name,
    Operation,
    Page,
    Problem,
    Reaction,
    Reason,
    Schema,
)
from schemas.human import ContentChanged, Sha256, TaskAnswered
from schemas.principal import Mandate
from schemas.problems import IllegalMove, NotFound, OutsideSchema
from schemas.travel import Asked
from schemas.workflows.definitions import BadDocument
from schemas.workflows.document import Document

PRIORITY = 3
"""Of what nobody has said otherwise of."""
RunStatus = Literal[
    "queued", "running", "paused", "undoing", "succeeded", "failed", "undone", "cancelled"
]
OPEN: tuple[RunStatus, ...] = ("queued", "running", "paused", "undoing")
"""What a run is before its end."""
StepStatus = Literal["started", "waiting", "retrying", "done", "failed"]
Path = str
"""A step's place in its run: `review`, or `each[3].review` inside a map."""


class WorkflowRun(Entity, table="flow.runs"):
    """One run of a workflow, from its inputs to its result."""

    workflow_id: Id
    workflow_name: str
    workflow_version: int
    owner_id: str
    status: RunStatus
    inputs: Json
    result: Any
    error: Json | None
    parent_id: Id | None
    parent_path: str | None
    started_at: datetime
    finished_at: datetime | None
    deadline: datetime | None
    mandate: Mandate | None = Field(None, description="With which rights it was asked for.")
    forked_from: Id | None = Field(None, description="The run whose first steps it has.")
    fork_step: str | None = Field(None, description="The first step that it does itself.")
    changes: Json | None = Field(None, description="What is other than in the workflow.")
    goal_id: Id | None = Field(None, description="The goal whose plan it carries out.")
    priority: int | None = Field(None, description="From 1, which is first, to 5.")
    queue: str | None = Field(None, description="The queue of its owner that it has a place in.")
    runs_at_once: int | None = Field(None, description="It begins only as one of so many.")


class AgentWork(Schema):
    """What agents have done for one step, in all its attempts."""

    runs: int = Field(0, description="Runs of agents that have ended.")
    run_id: Id | None = Field(None, description="The last run.")
    agent_id: Id | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class RunStep(Entity, table="flow.steps"):
    """One step of a run. What is recorded here as done is never done again."""

    run_id: Id
    path: Path
    kind: str
    status: StepStatus
    attempt: int
    output: Any
    error: Json | None
    awaits: str | None = Field(description="A signal, question, run or event that it waits for.")
    due_at: datetime | None
    started_at: datetime
    finished_at: datetime | None
    asked: Asked | None = None
    taken_from: Id | None = Field(None, description="The step of another run that did it.")
    work: AgentWork | None = None
    goal_id: Id | None = None


class StartWorkflow(Schema):
    """Start a run; it goes on by itself until it ends or waits for something that it names."""

    id: Id
    inputs: Json = Field(default_factory=dict)
    priority: int = Field(PRIORITY, ge=1, le=5, description="1 is first, 5 is last.")


class GetWorkflowRun(Schema):
    """Show one run."""

    id: Id


class ListWorkflowRuns(Listing):
    """List runs, newest first."""

    workflow_id: Id | None = None
    status: RunStatus | None = None


class ListRunSteps(Listing):
    """List what a run has done and waits for, oldest first."""

    id: Id


class CancelWorkflowRun(Schema):
    """End a run, with what it is doing; `undo` takes back what it has done."""

    id: Id
    reason: Reason | None = None
    undo: bool = False


class PauseRun(Schema):
    """Begin no more steps; those under way are finished."""

    id: Id


class ResumeRun(Schema):
    """Go on after a pause."""

    id: Id


class RetryRun(Schema):
    """Go on with a failed run: what failed is tried again, what is done is kept."""

    id: Id


class LeadRun(Schema):
    """Bring the run of a plan to what its goal says; it is started if it is not there."""

    id: Id
    goal_id: Id
    to: Literal["running", "paused", "cancelled"]
    name: str = Field(max_length=300)
    version: int = Field(ge=1, description="Of the plan; the document is kept under it.")
    document: Document
    inputs: Json = Field(default_factory=dict)
    owner_id: str = Field(max_length=64)
    mandate: Mandate | None = None
    priority: int = Field(PRIORITY, ge=1, le=5)
    again: bool = Field(False, description="Try again what has failed, if the run has.")


class SendSignal(Schema):
    """Tell a run something that it waits for, or will."""

    id: Id
    name: Name
    data: Any = None


class AnswerQuestion(Schema):
    """Answer what a run asks a person."""

    id: Id
    path: str = Field(max_length=300)
    answer: Any = None
    sha256: Sha256 | None = Field(None, description="Of what is approved, if it is an approval.")


class NothingAsked(Problem, code="ERR_192", status=409):
    """No question is open there, or it was answered already."""


class EndedBadly(Problem, code="ERR_194", status=409):
    """What a step has waited for has ended, but not well."""


class NotApproved(Problem, code="ERR_198", status=409):
    """What the step would ask is not what was approved, or nobody has approved it."""


class AgentFailed(Problem, code="ERR_172", status=409, retryable=True):
    """The run of an agent has failed, and another one may not."""


class TokensSpent(Problem, code="ERR_410", status=429):
    """The agents of this run have used up its tokens."""


class OutcomeUnknown(Problem, code="ERR_193", status=409):
    """A step that must not be done twice was begun, and it is not known whether it was done."""


class Drive(Job, name="workflows.drive", workers=64, attempts=100_000):
    """Find a driver for a run, or tell the driver that it has to look again."""

    run_id: Id


class RunStarted(Event, name="workflows.run_started"):
    """A run has begun."""

    run: WorkflowRun


class RunMoved(Event, name="workflows.run_moved"):
    """It was paused, goes on, takes back what it did, is queued again, or has its turn."""

    run: WorkflowRun


class RunTold(Event, name="workflows.run_told"):
    """Something came that it may wait for."""

    run: WorkflowRun


class RunEnded(Event, name="workflows.run_ended"):
    """It has come to an end, good or bad."""

    run: WorkflowRun


class StepStarted(Event, name="workflows.step_started"):
    """Something is begun that must not be begun twice."""

    step: RunStep


class StepWaiting(Event, name="workflows.step_waiting"):
    """A step waits for what it names."""

    step: RunStep


class StepFinished(Event, name="workflows.step_finished"):
    """A step is done, has failed, or will be tried again."""

    step: RunStep


class PlanStepWaiting(StepWaiting, name="workflows.plan_step_waiting"):
    """The same, of a run that carries out a goal's plan: only these concern goals."""


class PlanStepFinished(StepFinished, name="workflows.plan_step_finished"):
    """The same, of a run that carries out a goal's plan."""


class PlanEnded(RunEnded, name="workflows.plan_ended"):
    """A run that carries out a goal's plan has come to an end."""


class StepTaken(Event, name="workflows.step_taken"):
    """A run that was forked has a step that it does not do itself."""

    step: RunStep


start = Operation(
    "workflows.start", StartWorkflow, WorkflowRun, rest="POST /workflows/{id}/runs -> 202",
    may="workflows:execute", problems=(NotFound, OutsideSchema),
    emits=(RunStarted, StepFinished, RunEnded, RunMoved), idempotent=True,
)  # fmt: skip
run = Operation(
    "workflows.run", GetWorkflowRun, WorkflowRun, rest="GET /workflow-runs/{id}",
    may="workflows:read", problems=(NotFound,),
)  # fmt: skip
runs = Operation(
    "workflows.runs", ListWorkflowRuns, Page[WorkflowRun], rest="GET /workflow-runs",
    may="workflows:read",
)  # fmt: skip
steps = Operation(
    "workflows.steps", ListRunSteps, Page[RunStep], rest="GET /workflow-runs/{id}/steps",
    may="workflows:read", problems=(NotFound,),
)  # fmt: skip
cancel = Operation(
    "workflows.cancel", CancelWorkflowRun, WorkflowRun, rest="POST /workflow-runs/{id}/cancel",
    may="workflows:control", problems=(NotFound, IllegalMove), emits=(RunEnded, RunMoved),
    idempotent=True,
)  # fmt: skip
pause = Operation(
    "workflows.pause", PauseRun, WorkflowRun, rest="POST /workflow-runs/{id}/pause",
    may="workflows:control", problems=(NotFound, IllegalMove), emits=(RunMoved,), idempotent=True,
)  # fmt: skip
resume = Operation(
    "workflows.resume", ResumeRun, WorkflowRun, rest="POST /workflow-runs/{id}/resume",
    may="workflows:control", problems=(NotFound, IllegalMove), emits=(RunMoved,), idempotent=True,
)  # fmt: skip
retry = Operation(
    "workflows.retry", RetryRun, WorkflowRun, rest="POST /workflow-runs/{id}/retry",
    may="workflows:execute", problems=(NotFound, IllegalMove), emits=(RunMoved, StepFinished),
    idempotent=True,
)  # fmt: skip
lead = Operation(
    "workflows.lead", LeadRun, WorkflowRun, internal=True, problems=(NotFound, BadDocument),
    emits=(RunStarted, RunMoved, PlanEnded, PlanStepFinished), idempotent=True,
)  # fmt: skip
signal = Operation(
    "workflows.signal", SendSignal, WorkflowRun, rest="POST /workflow-runs/{id}/signals",
    may="workflows:control", problems=(NotFound, IllegalMove), emits=(RunTold, StepFinished),
    idempotent=True,
)  # fmt: skip
answer = Operation(
    "workflows.answer", AnswerQuestion, RunStep, rest="POST /workflow-runs/{id}/answers",
    may="workflows:control",
    problems=(NotFound, NothingAsked, IllegalMove, OutsideSchema, ContentChanged),
    emits=(StepFinished, RunTold), idempotent=True,
)  # fmt: skip
run_states, run_at, fork_run, compare_runs, rerun = travel.operations(
    "workflows", "/workflow-runs", WorkflowRun, (RunStarted, StepTaken), (OutsideSchema,)
)

on_answered = Reaction("workflows-follow-answer", TaskAnswered)
on_agent_finished = Reaction("workflows-follow-agent", AgentRunFinished)
