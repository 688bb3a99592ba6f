"""Human: the inbox of questions and approvals that wait for people."""

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from schemas.contract import (
    Entity,
    Event,
    Id,
    Json,
    Listing,
    Operation,
    Page,
    Problem,
    Schema,
    Title,
)
from schemas.principal import PersonId, Role
from schemas.problems import IllegalMove, NotFound, OutsideSchema

TaskKind = Literal["question", "approval"]
TaskStatus = Literal["open", "answered", "expired", "withdrawn"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
VERDICT: Json = {
    "type": "object", "required": ["approved"], "additionalProperties": False,
    "properties": {"approved": {"type": "boolean"}, "note": {"type": "string", "maxLength": 1_000}},
}  # fmt: skip
"""The JSON Schema of every approval's answer."""


def canonical(content: Any) -> str:
    """JSON of one form only: keys in order, no spaces, whole numbers without a fraction."""
    return json.dumps(plain(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def plain(value: Any) -> Any:
    """The value with 1 for 1.0: what has been stored and read is the same as before."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def sha256_of(content: Any) -> str:
    """What an approval is bound to: SHA-256 over the canonical JSON, in UTF-8."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


class HumanTask(Entity, table="human.tasks", read="inbox:read"):
    """Something that waits for a person: a question, or an approval of exactly one content."""

    owner_id: str
    kind: TaskKind
    status: TaskStatus
    title: str
    question: Any
    answer_schema: Json
    content: Any = Field(description="What is approved, as it will be done.")
    sha256: str | None = Field(description="Of the content; the answer must name it.")
    run_id: Id | None
    path: str | None
    assignee_id: str | None
    for_role: Role | None
    claimed_by: str | None
    answer: Any
    answered_by: str | None
    answered_at: datetime | None
    due_at: datetime | None
    expires_at: datetime | None
    created_at: datetime
    updated_at: datetime


class AskPerson(Schema):
    """Put something into the inbox; asked again it is the same, unless it asks something else."""

    id: Id
    owner_id: str = Field(max_length=64)
    title: Title
    question: Any = None
    answer_schema: Json = Field(default_factory=dict)
    content: Any = Field(None, description="Makes it an approval of this.")
    run_id: Id | None = None
    path: str | None = Field(None, max_length=300)
    assignee_id: PersonId | None = None
    for_role: Role | None = None
    due_at: AwareDatetime | None = None
    expires_at: AwareDatetime | None = None


class SettleTask(Schema):
    """Show a task to the one who asked; it has expired if its time is over."""

    id: Id


class WithdrawTask(Schema):
    """Ask no more."""

    id: Id


class GetTask(Schema):
    """Show one task, with what is asked or approved."""

    id: Id


class ListTasks(Listing):
    """List the inbox, newest first."""

    mine: bool = Field(
        False, description="Only what you own, are named for, have claimed, or your role is for."
    )
    status: TaskStatus | None = None
    kind: TaskKind | None = None
    for_role: Role | None = None
    due_before: AwareDatetime | None = None


class ClaimTask(Schema):
    """Take a task, so that nobody else answers it meanwhile."""

    id: Id


class ReleaseTask(Schema):
    """Give a claimed task back."""

    id: Id


class DelegateTask(Schema):
    """Give a task to somebody else."""

    id: Id
    assignee_id: PersonId


class AnswerTask(Schema):
    """Answer a question, or approve or refuse exactly the content that has this hash."""

    id: Id
    answer: Any = None
    sha256: Sha256 | None = Field(None, description="Of the content; needed for an approval.")


class ContentChanged(Problem, code="ERR_197", status=409):
    """The answer does not name what is asked about now; look at it again."""


class NobodyThere(Problem, code="ERR_199", status=400):
    """The one whom the task is for is no active user, nor the owner of a good API key."""


class TaskAsked(Event, name="human.task_asked"):
    """Something waits for a person, or asks something else than before."""

    task: HumanTask


class TaskMoved(Event, name="human.task_moved"):
    """It was claimed, given back, or given to somebody else."""

    task: HumanTask


class TaskAnswered(Event, name="human.task_answered"):
    """Somebody has answered; of an approval, the content and its hash are in it."""

    task: HumanTask


class TaskExpired(Event, name="human.task_expired"):
    """Nobody has answered in time."""

    task: HumanTask


class TaskWithdrawn(Event, name="human.task_withdrawn"):
    """Nobody waits for it any more."""

    task: HumanTask


ask = Operation(
    "human.ask", AskPerson, HumanTask, internal=True, problems=(NobodyThere,), emits=(TaskAsked,),
    idempotent=True,
)  # fmt: skip
settle = Operation(
    "human.settle", SettleTask, HumanTask, internal=True, problems=(NotFound,),
    emits=(TaskExpired,), idempotent=True,
)  # fmt: skip
withdraw = Operation(
    "human.withdraw", WithdrawTask, HumanTask, internal=True, problems=(NotFound,),
    emits=(TaskWithdrawn,), idempotent=True,
)  # fmt: skip
listing = Operation("human.list", ListTasks, Page[HumanTask], rest="GET /inbox", may="inbox:read")
get = Operation(
    "human.get", GetTask, HumanTask, rest="GET /inbox/{id}", may="inbox:read", problems=(NotFound,)
)
claim = Operation(
    "human.claim", ClaimTask, HumanTask, rest="POST /inbox/{id}/claim", may="inbox:update",
    problems=(NotFound, IllegalMove), emits=(TaskMoved,), idempotent=True,
)  # fmt: skip
release = Operation(
    "human.release", ReleaseTask, HumanTask, rest="POST /inbox/{id}/release", may="inbox:update",
    problems=(NotFound, IllegalMove), emits=(TaskMoved,), idempotent=True,
)  # fmt: skip
delegate = Operation(
    "human.delegate", DelegateTask, HumanTask, rest="POST /inbox/{id}/delegate",
    may="inbox:update", problems=(NotFound, IllegalMove, NobodyThere), emits=(TaskMoved,),
    idempotent=True,
)  # fmt: skip
answer = Operation(
    "human.answer", AnswerTask, HumanTask, rest="POST /inbox/{id}/answer", may="inbox:approve",
    problems=(NotFound, IllegalMove, OutsideSchema, ContentChanged), emits=(TaskAnswered,),
    idempotent=True,
)  # fmt: skip
