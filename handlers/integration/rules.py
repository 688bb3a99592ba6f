"""Decisions about dead letters: which may be sent again or dropped, and how one is shown."""

import base64
from datetime import datetime
from typing import Literal

from schemas.contract import Json
from schemas.integration import DeadLetter, LetterDecision
from schemas.problems import IllegalMove

Decision = Literal["requeued", "dropped"]


def requires_requeue(letter: DeadLetter) -> bool:
    """Whether it is to be sent again; one that was is not, however often it is asked for.

    Raises:
        IllegalMove: It was dropped, or waits behind another.
    """
    if letter.state == "dropped":
        raise IllegalMove("The letter was dropped.", state=letter.state)
    if letter.state == "parked":
        raise IllegalMove("The letter waits behind another: send that one.", state=letter.state)
    return letter.state == "dead"


def requires_drop(letter: DeadLetter) -> bool:
    """Whether it is to be dropped; one that was is not, however often it is asked for.

    Raises:
        IllegalMove: It is done, or is a job that was made ready again.
    """
    if letter.state == "done":
        raise IllegalMove("The letter was sent again and is done.", state=letter.state)
    if letter.state == "requeued" and letter.job_id is not None:
        raise IllegalMove("The job is ready again: cancel that.", state=letter.state)
    return letter.state != "dropped"


def decided(
    letter: DeadLetter, before: int, decision: Decision, reason: str | None, by: str, at: datetime
) -> LetterDecision:
    """What is decided now, after `before` earlier decisions."""
    return LetterDecision(
        id=letter.id, version=before + 1, decision=decision, consumer=letter.consumer,
        subject=letter.subject, reason=reason, decided_by=by, decided_at=at,
    )  # fmt: skip


def opened(body: bytes) -> Json:
    """A body as it can be shown, whatever it is."""
    try:
        return {"body": body.decode(), "encoding": "text"}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "encoding": "base64"}
