"""Reading a document: bytes -> sections -> vectors -> index, one recorded state after another.

`advance` continues from whatever state it finds, so it may be run twice and after a crash. What a
file does wrong is no failure of the job: the document is then `failed` and says why. Vectors are
worth some waiting but are not needed: without them a document is found by its words.
"""

import time
from collections.abc import Mapping
from typing import Any

from bus import confined
from bus.context import Context
from bus.database import Transaction
from handlers.documents import rules, store
from schemas import models
from schemas.contract import Event, Json, Problem
from schemas.documents import (
    Document,
    DocumentEmbedded,
    DocumentFailed,
    DocumentIndexed,
    DocumentParsing,
    DocumentSectioned,
    Ingest,
)
from schemas.models import EmbedTexts, ModelUnknown, Vectors
from schemas.principal import Principal
from schemas.problems import BreakerOpen, Internal, TimedOut, Unavailable, Upstream, VersionConflict

PARSE = "handlers.documents.parsing:parse"
PARSE_WALL_S = 60.0
PARSE_CPU_S = 20
PARSE_MEMORY_MB = 1024
PARSED_BYTES_MAX = 48 * 1024 * 1024
VECTORS_BATCH = 32
VECTORS_S = 90.0
SECTIONS_BATCH = 200
SERVICE = Principal(id="documents", kind="service", roles=("admin",), via="bus")
NO_VECTORS: tuple[type[Problem], ...] = (Unavailable, BreakerOpen, Upstream, TimedOut, ModelUnknown)


async def find(document_id: str, ctx: Context) -> Document:
    """The document as it is, deleted or not.

    Raises:
        NotFound: There never was one.
    """
    return Document.model_validate(await ctx.row(store.GET, document_id))


async def advance(document: Document, ctx: Context, *, last_try: bool) -> Document:
    """Bring a document as far as it gets: indexed, or failed with a reason.

    Raises:
        Upstream: There are no vectors now, and this is not the last try.
        VersionConflict: Somebody else works on it.
    """
    if document.status == "received":
        document = await start(document, ctx)
    if document.status == "parsing":
        document = await cut(document, ctx)
    if document.status == "sectioned":
        document = await embed(document, ctx, last_try=last_try)
    if document.status == "embedded":
        indexed = rules.moved(document, "indexed", ctx.now())
        document = await record(document, DocumentIndexed(document=indexed), ctx)
    return document


async def start(document: Document, ctx: Context) -> Document:
    """To parsing."""
    parsing = rules.moved(document, "parsing", ctx.now())
    return await record(document, DocumentParsing(document=parsing), ctx)


async def record(before: Document, event: Event, ctx: Context) -> Document:
    """Record the move, if nobody made another one."""
    async with ctx.transaction() as tx:
        await require_unchanged(tx, before)
        await tx.record(event)
    return Document.model_validate(event.entity)


async def require_unchanged(tx: Transaction, document: Document) -> None:
    """Hold the document as it was read until the transaction ends.

    Raises:
        VersionConflict: It was changed since.
    """
    row = await tx.row(store.LOCK, document.id)
    if row is None or row["version"] != document.version:
        raise VersionConflict(id=document.id)


async def cut(document: Document, ctx: Context) -> Document:
    """Replace the sections by those that are in the bytes now."""
    parsed = await parsed_or_reason(document, ctx)
    if isinstance(parsed, str):
        return await give_up(document, parsed, ctx)
    done = rules.sectioned(document, parsed, ctx.now())
    sections = parsed["sections"]
    async with ctx.transaction() as tx:
        await require_unchanged(tx, document)
        await tx.execute(store.FORGET_SECTIONS, document.id)
        for first in range(0, len(sections), SECTIONS_BATCH):
            batch = sections[first : first + SECTIONS_BATCH]
            rows = [section_row(ctx.new_id(), document.id, section) for section in batch]
            await tx.execute_many(store.ADD_SECTION, rows)
        await tx.record(DocumentSectioned(document=done))
    return done


async def give_up(document: Document, reason: str, ctx: Context) -> Document:
    """To failed, without sections."""
    done = rules.failed(document, reason, ctx.now())
    async with ctx.transaction() as tx:
        await require_unchanged(tx, document)
        await tx.execute(store.FORGET_SECTIONS, document.id)
        await tx.record(DocumentFailed(document=done))
    return done


async def parsed_or_reason(document: Document, ctx: Context) -> Json | str:
    """What the confined reader found in the bytes, or a sentence on why it found nothing."""
    row = await ctx.database.row(store.BYTES, document.content_hash)
    if row is None:
        return "The bytes of the document are gone."
    argument = {"name": document.metadata["name"], "media_type": document.media_type}
    try:
        parsed = await confined.run(
            PARSE, argument, attachments={"document": row["bytes"]}, wall_s=PARSE_WALL_S,
            cpu_s=PARSE_CPU_S, memory_mb=PARSE_MEMORY_MB, output_bytes_max=PARSED_BYTES_MAX,
        )  # fmt: skip
    except confined.Busy:
        raise Unavailable("All places for reading documents are taken.") from None
    except confined.Confined as failure:
        return reason_of(failure)
    if not isinstance(parsed, dict):
        raise Internal
    return parsed


def reason_of(failure: confined.Confined) -> str:
    """Why a file could not be read, for the person who attached it."""
    if isinstance(failure, confined.TimedOut):
        return f"Reading the file takes more than {PARSE_CPU_S} s."
    if isinstance(failure, confined.OutOfMemory):
        return f"Reading the file takes more than {PARSE_MEMORY_MB} MB of memory."
    if isinstance(failure, confined.TooMuchOutput):
        return "The file holds more text than can be indexed."
    if isinstance(failure, confined.Failed) and failure.kind == "invalid":
        return failure.message
    return "The file is damaged: its reader broke down."


def section_row(id: str, document_id: str, section: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of `ADD_SECTION`."""
    names = ("parent_ordinal", "ordinal", "level", "heading", "body", "start", "end")
    return (id, document_id, *(section[name] for name in names))


async def embed(document: Document, ctx: Context, *, last_try: bool) -> Document:
    """Give every section a vector; on the last try go on without.

    A long document takes longer than one job may: another job then goes on with the rest.
    """
    until = time.monotonic() + VECTORS_S
    try:
        while rows := await ctx.database.rows(store.WITHOUT_VECTOR, document.id, VECTORS_BATCH):
            if time.monotonic() > until:
                async with ctx.transaction() as tx:
                    await tx.enqueue(Ingest(document_id=document.id))
                return document
            texts = [rules.embedded_text(row["heading"], row["body"]) for row in rows]
            await keep_vectors([row["id"] for row in rows], await vectors_of(texts, ctx), ctx)
    except NO_VECTORS as missing:
        if missing.retryable and not last_try:
            # Unavailable would be waited for without end.
            raise Upstream(f"No vectors now: {missing.message}") from missing
        reason = f"Found by words only, it has no vectors: {missing.message}"
        indexed = rules.moved(document, "indexed", ctx.now(), status_reason=reason)
        return await record(document, DocumentIndexed(document=indexed), ctx)
    embedded = rules.moved(document, "embedded", ctx.now())
    return await record(document, DocumentEmbedded(document=embedded), ctx)


async def keep_vectors(section_ids: list[str], vectors: Vectors, ctx: Context) -> None:
    """Write one batch; sections that are gone meanwhile are not missed."""
    rows = [
        (section_id, rules.as_vector(vector), vectors.model)
        for section_id, vector in zip(section_ids, vectors.vectors, strict=True)
    ]
    async with ctx.transaction() as tx:
        await tx.execute_many(store.SET_VECTOR, rows)


async def vectors_of(texts: list[str], ctx: Context, timeout_s: float | None = None) -> Vectors:
    """Vectors from the models domain; asked by this service, whatever the caller may ask for."""
    command = EmbedTexts(texts=tuple(texts))
    return await ctx.as_principal(SERVICE).call(models.embed, command, timeout_s=timeout_s)
