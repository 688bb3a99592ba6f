"""What a workflow document may say.

    steps:
      - {key: read, type: call, operation: documents.get, input: {id: $.inputs.document}}
      - {key: each, type: map, items: $.steps.read.output.tags, at_once: 4, steps: […]}

A step begins when those in `after` are done; without `after` it follows the step before it.
A text that begins with `$.` is an RFC 9535 JSONPath over `inputs`, `steps.<key>.output`, `item`,
`index` and `run`; `$$` begins a plain text with one `$`. An object of one `$operator` is
computed (`OPERATORS`); there is no other expression.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.agents import Brief
from schemas.contract import SUBJECT_PART, Id, Json, ModelName, Name, Schema, Title, Token
from schemas.principal import PersonId, Role

STEPS_MAX = 1_000
ITEMS_MAX = 10_000
AT_ONCE_MAX = 64
WAIT_S_MAX = 366 * 86_400.0
RUNS_AT_ONCE_MAX = 1_000

Mapping = Any
"""JSON with paths and operators in it."""


class Retry(Schema):
    """How often a failed step is tried, and how long it waits in between, doubling and spread."""

    attempts: int = Field(3, ge=1, le=100)
    first_s: float = Field(1.0, gt=0, le=3_600)
    most_s: float = Field(60.0, gt=0, le=86_400)
    never: tuple[str, ...] = Field((), max_length=50, description="Codes that end it at once.")


class Undo(Schema):
    """What takes a finished step back when the run fails later; must bear being repeated."""

    operation: str = Field(max_length=120)
    input: Mapping = Field(default_factory=dict)
    retry: Retry = Retry(attempts=8)


class StepFields(Schema):
    """What every step may say."""

    key: Token
    title: Title | None = None
    after: tuple[Token, ...] | None = Field(None, max_length=STEPS_MAX)
    when: Mapping = Field(None, description="Skipped unless this is true.")
    on_error: Literal["fail", "continue", "skip"] = Field(
        "fail",
        description="After its failure nothing more begins; or all goes on as if it had been done; "
        "or what comes after it is left out, the rest is done, and then its list has failed.",
    )


class Attempted(StepFields):
    """A step that asks somebody, and may have to ask again."""

    timeout_s: float = Field(30.0, gt=0, le=86_400)
    retry: Retry = Retry()
    undo: Undo | None = None


class CallStep(Attempted):
    """Asks any operation that the owner may ask."""

    type: Literal["call"]
    operation: str = Field(max_length=120)
    input: Mapping = Field(default_factory=dict)


class JobStep(Attempted):
    """Asks a task operation and waits for the end of its job."""

    type: Literal["job"]
    operation: str = Field(max_length=120)
    input: Mapping = Field(default_factory=dict)


class InvokeStep(Attempted):
    """Invokes a tool, of the platform's own or of a program that has joined."""

    type: Literal["tool"]
    tool: str = Field(max_length=200)
    input: Mapping = Field(default_factory=dict)


class PromptStep(Attempted):
    """Asks a model."""

    type: Literal["model"]
    prompt: Mapping
    system: Mapping = None
    model: ModelName | None = None
    tokens_max: int = Field(1_000, ge=1, le=100_000)
    timeout_s: float = Field(120.0, gt=0, le=86_400)


class AgentStep(Attempted):
    """Gives work to an agent and waits for the end of its run; a failed run may be tried again."""

    type: Literal["agent"]
    agent_id: Id | None = None
    capabilities: tuple[Token, ...] = Field((), max_length=20)
    objective: Mapping = None
    inputs: Mapping = Field(default_factory=dict)
    brief: Brief | None = Field(
        None, description="Instead of an objective, taken as it stands; `inputs` are put into it."
    )
    timeout_s: float = Field(3_600.0, gt=0, le=86_400)
    free_within_s: float = Field(
        0.0, ge=0, le=WAIT_S_MAX, description="How long it waits until an agent has room."
    )

    @model_validator(mode="after")
    def _one_task(self) -> "AgentStep":
        """An agent is told one thing to do."""
        if (self.objective is None) == (self.brief is None):
            raise ValueError("a step of an agent has an objective or a brief")
        return self


class SetStep(StepFields):
    """Computes something from what is known."""

    type: Literal["set"]
    value: Mapping


class HumanStep(StepFields):
    """Asks a person and waits for the answer."""

    type: Literal["human"]
    question: Mapping = None
    answer: Json = Field(default_factory=dict, description="JSON Schema of the answer.")
    approves: Token | None = Field(
        None, description="The step that is not done unless exactly what it will ask is approved."
    )
    assignee_id: PersonId | None = Field(None, description="For this person.")
    for_role: Role | None = Field(None, description="For whoever has this role.")
    due_s: float | None = Field(None, gt=0, le=WAIT_S_MAX, description="By when it is wanted.")
    within_s: float | None = Field(None, gt=0, le=WAIT_S_MAX, description="Expires afterwards.")
    otherwise: Mapping = Field(None, description="The answer when nobody gives one in time.")

    @model_validator(mode="after")
    def _something(self) -> "HumanStep":
        """An approval has its own form of answer; anything else has a question."""
        if self.approves is None and self.question is None:
            raise ValueError("a human step asks a question, or approves a step")
        if self.approves is not None and (self.answer or self.otherwise is not None):
            raise ValueError("a step is approved by yes or no, and never by silence")
        return self


class WaitStep(StepFields):
    """Waits: a while, until a moment, for a signal, or for an event."""

    type: Literal["wait"]
    for_s: float | None = Field(None, ge=0, le=WAIT_S_MAX)
    until: Mapping = Field(None, description="A moment, RFC 3339.")
    signal: Name | None = None
    event: str | None = Field(None, max_length=120, description="A type of event.")
    match: dict[str, Mapping] = Field(
        default_factory=dict, max_length=20, description="Paths into the event and their values."
    )
    within_s: float | None = Field(None, gt=0, le=WAIT_S_MAX, description="Fails afterwards.")

    @model_validator(mode="after")
    def _one_thing(self) -> "WaitStep":
        """A wait that names two things would end at either."""
        named = (self.for_s, self.until, self.signal, self.event)
        if sum(thing is not None for thing in named) != 1:
            raise ValueError("a wait names one of for_s, until, signal and event")
        return self


class BranchCase(Schema):
    """Steps that are taken when a condition holds."""

    when: Mapping
    steps: tuple["Step", ...] = Field(min_length=1, max_length=STEPS_MAX)


class BranchStep(StepFields):
    """Takes the first case that holds."""

    type: Literal["branch"]
    cases: tuple[BranchCase, ...] = Field(min_length=1, max_length=50)
    otherwise: tuple["Step", ...] = Field((), max_length=STEPS_MAX)
    output: Mapping = None


class MapStep(StepFields):
    """Does the same steps for every item of a list; inside, `$.item` and `$.index`."""

    type: Literal["map"]
    items: Mapping
    at_once: int = Field(8, ge=1, le=AT_ONCE_MAX)
    steps: tuple["Step", ...] = Field(min_length=1, max_length=STEPS_MAX)
    output: Mapping = None


class ParallelStep(StepFields):
    """Does several lists of steps beside each other."""

    type: Literal["parallel"]
    branches: dict[str, tuple["Step", ...]] = Field(min_length=1, max_length=AT_ONCE_MAX)

    @field_validator("branches")
    @classmethod
    def _named(cls, branches: dict[str, Any]) -> dict[str, Any]:
        """Names stand in paths."""
        if not all(re.fullmatch(SUBJECT_PART, name) for name in branches):
            raise ValueError("a branch is named by letters, digits, '_' and '-'")
        return branches


class WorkflowStep(StepFields):
    """Starts a run of another workflow and waits for its end."""

    type: Literal["workflow"]
    workflow: Name
    input: Mapping = Field(default_factory=dict)


Step = Annotated[
    CallStep | JobStep | InvokeStep | PromptStep | AgentStep | SetStep | HumanStep | WaitStep
    | BranchStep | MapStep | ParallelStep | WorkflowStep,
    Field(discriminator="type"),
]  # fmt: skip


class Queue(Schema):
    """Where runs wait for each other; all workflows of an owner that name it share it."""

    name: Name
    runs_at_once: int = Field(1, ge=1, le=RUNS_AT_ONCE_MAX, description="The others are queued.")


class Document(Schema):
    """A workflow, as people write it in JSON, YAML or Python."""

    description: str = Field("", max_length=2_000)
    inputs: Json = Field(default_factory=dict, description="JSON Schema of a run's inputs.")
    steps: tuple[Step, ...] = Field(min_length=1, max_length=STEPS_MAX)
    output: Mapping = Field(None, description="The run's result; the last step's without it.")
    at_once: int = Field(
        16, ge=1, le=AT_ONCE_MAX,
        description="Steps of a run at once; what waits counts if an agent is at work for it.",
    )  # fmt: skip
    tokens_max: int | None = Field(None, ge=1, description="Tokens of all its agents together.")
    within_s: float | None = Field(None, gt=0, le=WAIT_S_MAX, description="Fails afterwards.")
    queue: Queue | None = Field(
        None, description="Runs wait here for a place; one inside another run has that run's."
    )


for recursive in (BranchCase, BranchStep, MapStep, ParallelStep):
    recursive.model_rebuild()
