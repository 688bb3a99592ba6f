"""Integration: messages that could not be handled, and what is done about them."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.contract import Entity, Event, Id, Listing, Operation, Page, Reason, Schema, Token
from schemas.problems import IllegalMove, NotFound, VersionConflict

LetterState = Literal["dead", "parked", "requeued", "done", "dropped"]


class DeadLetter(Schema):
    """A message that its consumer gave up (dead), or that waits behind such a one (parked)."""

    id: Id
    state: LetterState
    stream: str
    consumer: str
    subject: str
    message_id: str
    error_type: str | None
    error: str | None
    deliveries: int = Field(description="How often it was handed to a worker.")
    failures: int = Field(description="How often the work itself failed.")
    handler_version: str = Field(description="Version of the code that failed last.")
    aggregate_type: str | None
    aggregate_id: str | None
    aggregate_version: int | None
    job_id: Id | None
    requeues: int
    created_at: datetime
    failed_at: datetime | None
    settled_at: datetime | None


class OpenedLetter(DeadLetter):
    """A dead letter with what is in it."""

    headers: dict[str, str]
    body: str
    encoding: Literal["text", "base64"] = Field(description="How the body is written here.")
    behind: int = Field(description="How many wait behind it.")
    reason: str | None = Field(description="Why it was dropped.")


class ListDeadLetters(Listing):
    """List dead letters, newest first."""

    stream: Token | None = Field(None, description="EVENTS or JOBS.")
    consumer: Token | None = None
    state: LetterState | None = None


class GetDeadLetter(Schema):
    """Show a dead letter: why it failed, its headers and its body."""

    id: Id


class RequeueLetter(Schema):
    """Send a dead letter again; what is parked behind it follows, one after the other."""

    id: Id


class DropLetter(Schema):
    """Give a dead letter up for good; what is parked behind it goes on."""

    id: Id
    reason: Reason = Field(min_length=1)


class LetterDecision(Entity, table="integration.letter_decisions", read="dead-letters:read"):
    """What was decided last about a dead letter; its id is the letter's."""

    decision: Literal["requeued", "dropped"]
    consumer: str
    subject: str
    reason: str | None
    decided_by: str
    decided_at: datetime


class LetterRequeued(Event, name="integration.letter_requeued"):
    """A dead letter was sent again."""

    decision: LetterDecision


class LetterDropped(Event, name="integration.letter_dropped"):
    """A dead letter was given up for good."""

    decision: LetterDecision


dead_letters = Operation(
    "integration.dead-letters", ListDeadLetters, Page[DeadLetter], rest="GET /dead-letters",
    may="dead-letters:read",
)  # fmt: skip
dead_letter = Operation(
    "integration.dead-letter", GetDeadLetter, OpenedLetter, rest="GET /dead-letters/{id}",
    may="dead-letters:read", problems=(NotFound,),
)  # fmt: skip
requeue_letter = Operation(
    "integration.requeue-letter", RequeueLetter, DeadLetter,
    rest="POST /dead-letters/{id}/requeue", may="dead-letters:control",
    problems=(NotFound, IllegalMove, VersionConflict), emits=(LetterRequeued,), idempotent=True,
)  # fmt: skip
drop_letter = Operation(
    "integration.drop-letter", DropLetter, DeadLetter, rest="POST /dead-letters/{id}/drop",
    may="dead-letters:control", problems=(NotFound, IllegalMove, VersionConflict),
    emits=(LetterDropped,), idempotent=True,
)  # fmt: skip
