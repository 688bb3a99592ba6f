"""Plans before and while they are carried out: what they would be, cost, and may."""

from typing import Literal

from pydantic import Field, model_validator

from schemas.contract import Id, Operation, Problem, Schema, Text
from schemas.goals import (
    TASKS_MAX,
    Constraints,
    CyclicPlan,
    DocumentNotReadable,
    Goal,
    GoalChanged,
    Plan,
    PlanApproved,
    PlanChanged,
    PlanMade,
    TaskCreated,
    TaskDraft,
    TaskKept,
)
from schemas.human import ContentChanged, Sha256
from schemas.problems import Denied, IllegalMove, NotFound, Upstream

Strategy = Literal["auto", "cache", "template", "model"]


class DecomposeGoal(Schema):
    """Show what tasks a goal would become, without submitting it."""

    description: Text = Field(min_length=1)
    document_ids: tuple[Id, ...] = Field((), max_length=20)
    strategy: Strategy = Field(
        "auto", description="`auto` takes a template, else a plan made before, else the model."
    )


class Decomposition(Schema):
    """The tasks of a plan, and where they come from."""

    strategy: str
    items: tuple[TaskDraft, ...]


class AboutPlan(Schema):
    """The current plan of a goal, or tasks that are not submitted yet."""

    goal_id: Id | None = None
    tasks: tuple[TaskDraft, ...] = Field((), max_length=TASKS_MAX)
    constraints: Constraints = Constraints()

    @model_validator(mode="after")
    def _one_of_both(self) -> "AboutPlan":
        """A goal has its own tasks and constraints."""
        if (self.goal_id is None) != bool(self.tasks):
            raise ValueError("name a goal, or give tasks")
        return self


class ValidatePlan(AboutPlan):
    """Say what is wrong with a plan before it is carried out."""


class PlanFinding(Schema):
    """One thing that is wrong: `cycle`, `capability`, `tool` or `budget`."""

    kind: Literal["cycle", "capability", "tool", "budget"]
    message: str
    tasks: tuple[str, ...] = ()


class PlanFindings(Schema):
    """What is wrong; nothing when `ok`."""

    ok: bool
    items: tuple[PlanFinding, ...]


class EstimatePlan(AboutPlan):
    """Estimate what a plan uses, from what tasks like its own have used before."""

    price: float = Field(0.0, ge=0, description="What a thousand tokens cost.")


class Spread(Schema):
    """The lowest that is probable, the likely, and the highest that is probable."""

    low: float
    likely: float
    high: float


class PlanEstimate(Schema):
    """What a plan will use; `recorded` of its tasks are estimated from tasks of the past."""

    tokens: Spread
    seconds: Spread
    cost: Spread
    tasks: int
    recorded: int


class ApprovePlan(Schema):
    """Approve the plan of a goal that waits for it; `sha256` is that of the plan, whole."""

    id: Id
    sha256: Sha256


class ExecuteGoal(Schema):
    """Carry out the plan of a goal that is planned."""

    id: Id


class ReplanGoal(Schema):
    """Make a new plan for a failed goal; what has succeeded is kept, with its results."""

    id: Id
    feedback: str = Field("", max_length=2_000, description="What shall be other than before.")
    tasks: tuple[TaskDraft, ...] = Field(
        (), max_length=TASKS_MAX, description="What is still to be done, instead of asking here."
    )


class PauseGoal(Schema):
    """Begin no more tasks; those under way are finished."""

    id: Id


class ResumeGoal(Schema):
    """Go on after a pause."""

    id: Id


class PlanNotApproved(Problem, code="ERR_161", status=409):
    """Nobody has approved the plan as it is."""


class NoPlanOfThisKind(Problem, code="ERR_162", status=404):
    """There is no template that fits, or no plan of such a goal was made before."""


decompose = Operation(
    "goals.decompose", DecomposeGoal, Decomposition, rest="POST /goals/decompose",
    may="goals:create", problems=(DocumentNotReadable, NoPlanOfThisKind, Upstream),
    timeout_s=175, workers=4,
)  # fmt: skip
validate = Operation(
    "goals.validate", ValidatePlan, PlanFindings, rest="POST /plans/validate", may="goals:read",
    problems=(NotFound,), body_bytes_max=512 * 1024,
)  # fmt: skip
estimate = Operation(
    "goals.estimate", EstimatePlan, PlanEstimate, rest="POST /plans/estimate", may="goals:read",
    problems=(NotFound, CyclicPlan), body_bytes_max=512 * 1024,
)  # fmt: skip
approve = Operation(
    "goals.approve", ApprovePlan, Plan, rest="POST /goals/{id}/approve", may="goals:approve",
    problems=(NotFound, IllegalMove, ContentChanged, Denied), emits=(PlanApproved,),
    idempotent=True,
)  # fmt: skip
execute = Operation(
    "goals.execute", ExecuteGoal, Goal, rest="POST /goals/{id}/execute -> 202",
    may="goals:execute", problems=(NotFound, IllegalMove, PlanNotApproved), emits=(GoalChanged,),
    idempotent=True,
)  # fmt: skip
replan = Operation(
    "goals.replan", ReplanGoal, Goal, rest="POST /goals/{id}/replan -> 202", may="goals:control",
    problems=(NotFound, IllegalMove, CyclicPlan),
    emits=(GoalChanged, PlanMade, PlanChanged, TaskCreated, TaskKept), idempotent=True,
    body_bytes_max=512 * 1024,
)  # fmt: skip
pause = Operation(
    "goals.pause", PauseGoal, Goal, rest="POST /goals/{id}/pause", may="goals:control",
    problems=(NotFound, IllegalMove), emits=(GoalChanged,), idempotent=True,
)  # fmt: skip
resume = Operation(
    "goals.resume", ResumeGoal, Goal, rest="POST /goals/{id}/resume", may="goals:control",
    problems=(NotFound, IllegalMove), emits=(GoalChanged,), idempotent=True,
)  # fmt: skip
