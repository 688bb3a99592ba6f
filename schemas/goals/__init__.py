"""Goals: what people want, the plan that was made of it, and its tasks."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from schemas.agents import Brief, RunStarted
from schemas.contract import (
    Entity,
    Event,
    Id,
    Job,
    Json,
    Listing,
    Operation,
    Page,
    Problem,
    Reaction,
    Reason,
    Schema,
    Text,
    Title,
    Token,
)  # fmt: skip
from schemas.human import Sha256
from schemas.principal import Mandate, PersonId, Role
from schemas.problems import IllegalMove, NotFound
from schemas.workflows.document import WAIT_S_MAX
from schemas.workflows.runs import (
    PRIORITY,
    PlanEnded,
    PlanStepFinished,
    PlanStepWaiting,
    RunStatus,
)

TASKS_MAX = 200
GoalStatus = Literal[
    "draft",
    "submitted",
    "planning",
    "planned",
    "executing",
    "paused",
    "completed",
    "failed",
    "cancelled",
]
PlanStatus = Literal[
    "draft", "validated", "approved", "executing", "completed", "failed", "cancelled",
    "superseded", "rejected",
]  # fmt: skip
TaskStatus = Literal[
    "pending", "ready", "assigned", "running", "succeeded", "failed", "timed_out", "skipped",
    "cancelled",
]  # fmt: skip
TaskKind = Literal["agent", "human"]


class Constraints(Schema):
    """What the carrying out of a goal may use."""

    parallelism: int = Field(4, ge=1, le=64, description="Tasks at once.")
    tokens: int = Field(200_000, ge=100, description="Tokens over all tasks.")
    replans: int = Field(
        0, ge=0, le=1, description="How often a failed plan is made anew without being asked."
    )


class PersonAsked(Schema):
    """Whom a task of the kind `human` asks, and for what answer; the brief says what is asked."""

    answer: Json = Field(default_factory=dict, description="JSON Schema of the answer.")
    assignee_id: PersonId | None = Field(None, description="For this person.")
    for_role: Role | None = Field(None, description="For whoever has this role.")
    due_s: float | None = Field(None, gt=0, le=WAIT_S_MAX, description="By when it is wanted.")
    within_s: float | None = Field(None, gt=0, le=WAIT_S_MAX, description="Fails afterwards.")


class Goal(Entity, table="mcp_documents.goals"):
    """What somebody wants, and what came of it."""

    title: str
    description: str
    owner_id: str
    priority: int
    constraints: Constraints
    document_ids: tuple[Id, ...]
    status: GoalStatus
    progress: float
    current_plan_id: Id | None
    result: Json | None
    error: Json | None
    prompt_tokens: int
    completion_tokens: int
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None
    mandate: Mandate | None = Field(None, description="With which rights it was submitted.")
    approve: bool | None = Field(None, description="Whether somebody has to approve its plans.")
    execute: bool | None = Field(None, description="Whether plans are carried out by themselves.")


class Plan(Entity, table="mcp_documents.plans"):
    """One way to reach a goal: a graph of tasks, carried out by a run of a workflow."""

    goal_id: Id
    plan_no: int
    strategy: str
    status: PlanStatus
    levels: tuple[tuple[str, ...], ...]
    findings: tuple[Json, ...]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    run_id: Id | None = Field(None, description="The run of the workflow that carries it out.")
    run_status: RunStatus | None = Field(None, description="How that run has ended, if it has.")
    sha256: Sha256 | None = Field(None, description="Of tasks and constraints; approvals name it.")
    approved_by: str | None = None
    approved_at: datetime | None = None
    supersedes_id: Id | None = Field(None, description="The plan that has failed before it.")


class Task(Entity, table="mcp_documents.tasks"):
    """One node of a plan, carried out by an agent or answered by a person.

    It follows a step of the plan's run, whose id it has: what happens there is told here.
    """

    plan_id: Id
    goal_id: Id
    key: str
    title: str
    kind: TaskKind
    brief: Brief
    depends_on: tuple[str, ...]
    capabilities: tuple[str, ...]
    agent_id: Id | None
    run_id: Id | None
    status: TaskStatus
    attempt: int
    max_attempts: int
    priority: int
    result: Any
    error: Json | None
    prompt_tokens: int
    completion_tokens: int
    created_at: datetime
    ready_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    person: PersonAsked | None = None
    kept_from: Id | None = Field(None, description="The task of the plan before that has done it.")


class TaskDraft(Schema):
    """A task as it is proposed."""

    key: Token
    title: Title
    kind: TaskKind = "agent"
    brief: Brief
    person: PersonAsked | None = Field(None, description="Of a task for people.")
    depends_on: tuple[Token, ...] = Field((), max_length=TASKS_MAX)
    capabilities: tuple[Token, ...] = Field((), max_length=20)
    max_attempts: int = Field(3, ge=1, le=10)


class SubmitGoal(Schema):
    """Submit a goal; it is planned and carried out, and every change is an event."""

    description: Text = Field(min_length=1)
    title: Title | None = None
    document_ids: tuple[Id, ...] = Field((), max_length=20)
    priority: int = Field(PRIORITY, ge=1, le=5, description="1 is first, 5 is last.")
    constraints: Constraints = Constraints()
    tasks: tuple[TaskDraft, ...] = Field(
        (), max_length=TASKS_MAX, description="A plan of your own, instead of one made here."
    )
    approve: bool = Field(False, description="Stop when planned until somebody has approved it.")
    execute: bool = Field(True, description="If not, it stops when planned until it is executed.")


class GetGoal(Schema):
    """Show one goal."""

    id: Id


class ListGoals(Listing):
    """List goals, newest first."""

    status: GoalStatus | None = None


class CancelGoal(Schema):
    """Cancel a goal with all its open tasks; what is done stays."""

    id: Id
    reason: Reason = ""


class RetryGoal(Schema):
    """Carry out the failed and skipped tasks of a failed goal again."""

    id: Id


class GetPlan(Schema):
    """Show the current plan of a goal."""

    id: Id


class ListTasks(Schema):
    """List the tasks of a goal's current plan, in order of creation."""

    id: Id


class Tasks(Schema):
    """Tasks of one plan."""

    items: tuple[Task, ...]


class GetTask(Schema):
    """Show one task."""

    id: Id


class CyclicPlan(Problem, code="ERR_102", status=400):
    """The tasks depend on each other in a circle, or on a task that is not there."""


class DocumentNotReadable(Problem, code="ERR_160", status=400):
    """An attached document is missing or could not be read."""


class GoalSubmitted(Event, name="goals.submitted"):
    """Somebody wants something."""

    goal: Goal


class GoalChanged(Event, name="goals.changed"):
    """A goal is being planned, is planned, is carried out, or has progressed."""

    goal: Goal


class GoalCompleted(Event, name="goals.completed"):
    """A goal was reached; the result is in it."""

    goal: Goal


class GoalFailed(Event, name="goals.failed"):
    """A goal could not be reached."""

    goal: Goal


class GoalCancelled(Event, name="goals.cancelled"):
    """A goal was given up by somebody."""

    goal: Goal


class PlanMade(Event, name="goals.plan_made"):
    """A plan was made and checked."""

    plan: Plan


class PlanApproved(Event, name="goals.plan_approved"):
    """Somebody has approved exactly this plan."""

    plan: Plan


class PlanChanged(Event, name="goals.plan_changed"):
    """A plan is carried out, or has ended."""

    plan: Plan


class TaskCreated(Event, name="goals.task_created"):
    """A task waits for the tasks that it depends on."""

    task: Task


class TaskReady(Event, name="goals.task_ready"):
    """A task can be carried out."""

    task: Task


class TaskKept(Event, name="goals.task_kept"):
    """A plan made anew has a task that the plan before has done."""

    task: Task


class TaskAssigned(Event, name="goals.task_assigned"):
    """An agent has the task."""

    task: Task


class TaskStarted(Event, name="goals.task_started"):
    """The agent has begun with the task."""

    task: Task


class TaskSucceeded(Event, name="goals.task_succeeded"):
    """A task has its result."""

    task: Task


class TaskFailed(Event, name="goals.task_failed"):
    """A task has failed for good, timed out, was skipped or cancelled."""

    task: Task


class MakePlan(Job, name="goals.plan", workers=3, attempts=8, timeout_s=300):
    """Make a plan for a goal, anew if the one before has failed, and start it."""

    goal_id: Id
    feedback: str = Field("", description="What shall be other than before.")


class Steer(Job, name="goals.steer", workers=8, attempts=30, timeout_s=60):
    """Bring the run of a goal's plan to what the goal says: under way, gone on with, cancelled."""

    goal_id: Id
    again: int | None = Field(None, description="The plan's version at which it goes on.")


class Finish(Job, name="goals.finish", workers=4, attempts=20, timeout_s=120):
    """Judge the result of a goal whose tasks are all done, and complete it."""

    goal_id: Id


submit = Operation(
    "goals.submit", SubmitGoal, Goal, rest="POST /goals -> 201", may="goals:create",
    problems=(CyclicPlan, DocumentNotReadable),
    emits=(GoalSubmitted, PlanMade, TaskCreated), idempotent=True, body_bytes_max=512 * 1024,
)  # fmt: skip
get = Operation(
    "goals.get", GetGoal, Goal, rest="GET /goals/{id}", may="goals:read", problems=(NotFound,)
)
listing = Operation("goals.list", ListGoals, Page[Goal], rest="GET /goals", may="goals:read")
cancel = Operation(
    "goals.cancel", CancelGoal, Goal, rest="POST /goals/{id}/cancel", may="goals:control",
    problems=(NotFound, IllegalMove), emits=(GoalCancelled, TaskFailed, PlanChanged),
    idempotent=True,
)  # fmt: skip
retry = Operation(
    "goals.retry", RetryGoal, Goal, rest="POST /goals/{id}/retry", may="goals:control",
    problems=(NotFound, IllegalMove), emits=(GoalChanged, TaskReady, PlanChanged),
    idempotent=True,
)  # fmt: skip
plan = Operation(
    "goals.plan", GetPlan, Plan, rest="GET /goals/{id}/plan", may="goals:read",
    problems=(NotFound,),
)  # fmt: skip
tasks = Operation(
    "goals.tasks", ListTasks, Tasks, rest="GET /goals/{id}/tasks", may="goals:read",
    problems=(NotFound,),
)  # fmt: skip
task = Operation(
    "goals.task", GetTask, Task, rest="GET /tasks/{id}", may="goals:read", problems=(NotFound,)
)

on_run_started = Reaction("goals-note-run", RunStarted, workers=8)
on_step_waiting = Reaction("goals-note-step", PlanStepWaiting, workers=8)
on_step_finished = Reaction("goals-follow-step", PlanStepFinished, workers=8)
on_run_ended = Reaction("goals-end-run", PlanEnded, workers=8)
