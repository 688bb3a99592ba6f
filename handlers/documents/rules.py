"""Decisions about documents. Pure: state, command and time in; new state or a problem out.

    received -> parsing -> sectioned -> embedded -> indexed
                           sectioned -> indexed              (no vectors to be had)
    indexed, failed -> parsing                               (read again)
    any -> failed, any -> deleted

Each move is one event. A worker that starts again continues from the state that it finds.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from schemas.contract import Json, Schema
from schemas.documents import (
    INLINE_BYTES_MAX,
    AttachDocument,
    Document,
    Found,
    NotIndexed,
    Status,
    Unreadable,
    UploadMissing,
    WriteArtifact,
)
from schemas.problems import IllegalMove, Malformed, TooLarge

ANSWER_BYTES_MAX = 700 * 1024
PROVENANCE_BYTES_MAX = 256 * 1024
NAME_CHARACTERS_MAX = 200
TITLE_CHARACTERS_MAX = 300
REASON_CHARACTERS_MAX = 500
EMBEDDED_CHARACTERS_MAX = 2_000
FUSION_RANK = 60
ARTIFACT = "artifact"
UNREAD = "file"

MOVES: dict[Status, frozenset[Status]] = {
    "received": frozenset({"parsing", "failed", "deleted"}),
    "parsing": frozenset({"sectioned", "failed", "deleted"}),
    "sectioned": frozenset({"embedded", "indexed", "failed", "deleted"}),
    "embedded": frozenset({"indexed", "failed", "deleted"}),
    "indexed": frozenset({"parsing", "failed", "deleted"}),
    "failed": frozenset({"parsing", "deleted"}),
    "deleted": frozenset(),
}
UNFINISHED: frozenset[Status] = frozenset({"received", "parsing", "sectioned", "embedded"})
SUFFIXES = {
    "text/markdown": ".md",
    "text/html": ".html",
    "text/csv": ".csv",
    "application/json": ".json",
}

S = TypeVar("S", bound=Schema)


def hash_of(content: bytes) -> str:
    """What identifies bytes: SHA-256, hex."""
    return hashlib.sha256(content).hexdigest()


def inline_content(command: AttachDocument) -> bytes | None:
    """The bytes in the command itself; None when they are in the object store.

    Raises:
        Malformed: There is neither or both.
        Unreadable: The file is empty.
        TooLarge: It must be sent as a raw body.
    """
    if (command.content is None) == (command.upload is None):
        raise Malformed("Send the file as the body, or as base64 in `content`.")
    if command.content is None:
        return None
    if not command.content:
        raise Unreadable("The file is empty.")
    if len(command.content) > INLINE_BYTES_MAX:
        raise TooLarge(f"Send files over {INLINE_BYTES_MAX} bytes as the body of the request.")
    return command.content


def require_announced(content: bytes, sha256: str, size_bytes: int) -> bytes:
    """The bytes of an upload, if they are the announced ones.

    Raises:
        UploadMissing: They are not.
    """
    if len(content) != size_bytes or hash_of(content) != sha256:
        raise UploadMissing("The uploaded bytes are not those that were announced.")
    return content


def new_document(
    command: AttachDocument, content: bytes, *, id: str, owner: str, at: datetime
) -> Document:
    """A file that waits to be read."""
    return Document(
        id=id, version=1, title=command.name, source_uri=f"upload:{command.name}",
        doc_type=UNREAD, media_type=command.media_type, content_hash=hash_of(content),
        size_bytes=len(content), language=None, status="received", status_reason=None, sections=0,
        tags=command.tags, metadata={"name": command.name}, created_by=owner, created_at=at,
        updated_at=at, deleted_at=None,
    )  # fmt: skip


def new_artifact(
    command: WriteArtifact, content: bytes, *, id: str, owner: str, at: datetime
) -> Document:
    """A text that was produced here.

    Raises:
        Malformed: Its provenance is too long to be carried by events.
    """
    name = artifact_name(command.title, command.media_type)
    metadata: Json = {"name": name, "provenance": list(command.provenance)}
    if len(json.dumps(metadata)) > PROVENANCE_BYTES_MAX:
        raise Malformed(f"The provenance is larger than {PROVENANCE_BYTES_MAX} bytes.")
    return Document(
        id=id, version=1, title=command.title, source_uri=f"artifact:{id}", doc_type=ARTIFACT,
        media_type=command.media_type, content_hash=hash_of(content), size_bytes=len(content),
        language=None, status="received", status_reason=None, sections=0, tags=command.tags,
        metadata=metadata, created_by=owner, created_at=at, updated_at=at, deleted_at=None,
    )  # fmt: skip


def artifact_name(title: str, media_type: str) -> str:
    """A file name for a text that never was a file."""
    stem = re.sub(r"[\x00-\x1f/\\]+", "-", title)[:NAME_CHARACTERS_MAX]
    return stem + SUFFIXES.get(media_type.partition(";")[0].strip(), ".txt")


def moved(document: Document, to: Status, at: datetime, **changes: Any) -> Document:
    """The document in another state; the reason of the last one is gone unless given.

    Raises:
        IllegalMove: The table of moves does not allow it.
    """
    if to not in MOVES[document.status]:
        raise IllegalMove(status=document.status, to=to)
    return document.model_copy(
        update={"status_reason": None}
        | changes
        | {"status": to, "version": document.version + 1, "updated_at": at}
    )


def failed(document: Document, reason: str, at: datetime) -> Document:
    """The document, not readable, and why."""
    return moved(document, "failed", at, sections=0, status_reason=reason[:REASON_CHARACTERS_MAX])


def sectioned(document: Document, parsed: Mapping[str, Any], at: datetime) -> Document:
    """The document with what its bytes say it is; an artifact keeps its kind and title."""
    changes: Json = {
        "media_type": parsed["media_type"],
        "language": parsed["language"],
        "sections": len(parsed["sections"]),
    }
    if document.doc_type != ARTIFACT:
        changes["doc_type"] = parsed["doc_type"]
        changes["title"] = str(parsed["title"])[:TITLE_CHARACTERS_MAX] or document.title
    return moved(document, "sectioned", at, **changes)


def require_indexed(document: Document) -> None:
    """Refuse a document that cannot be worked with yet.

    Raises:
        NotIndexed: It is not read, or cannot be.
    """
    if document.status == "failed":
        raise NotIndexed(f"It could not be read: {document.status_reason}", id=document.id)
    if document.status != "indexed":
        raise NotIndexed(id=document.id, status=document.status)


def embedded_text(heading: str, body: str) -> str:
    """What of a section is turned into a vector; never empty."""
    return f"{heading}\n{body}".strip()[:EMBEDDED_CHARACTERS_MAX] or "-"


def as_vector(numbers: Iterable[float]) -> str:
    """A vector as Postgres reads it."""
    return f"[{','.join(map(repr, numbers))}]"


def fused(rankings: Iterable[Sequence[Found]], limit: int) -> tuple[Found, ...]:
    """One ranking out of several, by reciprocal rank: what stands high in any, stands high."""
    scores: dict[tuple[str, int], float] = {}
    known: dict[tuple[str, int], Found] = {}
    for ranking in rankings:
        for rank, found in enumerate(ranking, start=1):
            place = (found.document_id, found.ordinal)
            known.setdefault(place, found)
            scores[place] = scores.get(place, 0.0) + 1 / (FUSION_RANK + rank)
    best = sorted(scores, key=lambda place: (-scores[place], place))[:limit]
    return tuple(known[p].model_copy(update={"score": round(scores[p], 6)}) for p in best)


def that_fit(items: Sequence[S] | Sequence[Json]) -> int:
    """How many of the items, from the first, fit one answer on the bus; at least one."""
    room = ANSWER_BYTES_MAX
    for number, item in enumerate(items):
        dumped = item.model_dump_json() if isinstance(item, Schema) else json.dumps(item)
        room -= len(dumped)
        if room < 0:
            return max(number, 1)
    return len(items)


def shares(sentences: int, documents: int) -> list[int]:
    """How many sentences each document gives to a summary; the first give the rest."""
    return [
        sentences // documents + (1 if place < sentences % documents else 0)
        for place in range(documents)
    ]


def pairs(claims: Sequence[Sequence[Any]]) -> int:
    """How many pairs of points a comparison has to weigh, at most."""
    points = [sum(len(claim.points) for claim in each) for each in claims]
    return sum(a * b for place, a in enumerate(points) for b in points[place + 1 :])
