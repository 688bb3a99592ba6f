"""The one place where subjects are built from parts that came from outside.

A token of a subject is checked here, because a dot, a wildcard or a space in an id would address
somebody else's subject.
"""

import re
from uuid import uuid4

from schemas.contract import SUBJECT_PART, Event
from schemas.problems import Malformed

INBOX = "_INBOX"
REPLAY = "replay"
OUTSIDE = f"{INBOX}.from-outside"
"""Where programs answer that are no part of the platform: no other reply comes there."""
_TOKEN = re.compile(SUBJECT_PART)
_SUBJECT = re.compile(rf"{SUBJECT_PART}(\.{SUBJECT_PART}){{0,15}}")


def token(text: str) -> str:
    """`text` itself, if it can stand as one token of a subject.

    Raises:
        Malformed: It holds a dot, a wildcard, white space or a control character.
    """
    if not _TOKEN.fullmatch(text):
        raise Malformed("An id may hold only letters, digits, '_' and '-'.", value=text[:80])
    return text


def plain(subject: str) -> str:
    """`subject` itself, if it is a complete subject without wildcards.

    Raises:
        Malformed: It is not.
    """
    if not _SUBJECT.fullmatch(subject):
        raise Malformed("Not a subject.", value=subject[:80])
    return subject


def of_event(event: Event) -> str:
    """`evt.<domain>.<past>.<entity id>`."""
    return f"{event.subject_root()}.{token(event.entity.id)}"


def live(domain: str, stream_id: str) -> str:
    """Where the tokens of one stream operation go."""
    return f"live.{token(domain)}.{token(stream_id)}"


def stop(domain: str) -> str:
    """Where a domain hears which of its calls nobody wants any more."""
    return f"stop.{token(domain)}"


def look(domain: str) -> str:
    """Where a domain is asked whether it is still at a call."""
    return f"look.{token(domain)}"


def replay(job_id: str, event_name: str) -> str:
    """Where a replay sends the events of one type: `replay.<job id>.<domain>.<past>`."""
    return f"{REPLAY}.{token(job_id)}.{plain(event_name)}"


def dead(stream: str, consumer: str) -> str:
    """Where messages go that a consumer gave up."""
    return f"dead.{token(stream.lower())}.{token(consumer)}"


def inbox_of(role: str | None) -> str:
    """Below what a credential gets its replies; without accounts everybody shares one root."""
    return f"{INBOX}.{role}" if role else INBOX


def outside_inbox() -> str:
    """A fresh subject for one answer from outside; it cannot be guessed."""
    return f"{OUTSIDE}.{uuid4().hex}"
