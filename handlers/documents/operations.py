"""What documents answer."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, TypeVar

from nats.errors import Error as NatsError
from nats.js.errors import APIError, BadObjectMetaError, DigestMismatchError, NotFoundError
from nats.js.errors import Error as JetStreamError

from bus import pages
from bus.context import Context
from bus.database import Row
from bus.topology import UPLOADS
from handlers.documents import indexing, rules, service, store
from handlers.documents.claims import Claim, claims_of, topics
from handlers.documents.comparison import compare as compare_claims
from handlers.documents.summary import Quote
from handlers.documents.summary import summarize as key_sentences
from schemas import documents
from schemas.contract import Id, Job, Json, Page, Problem
from schemas.documents import (
    INLINE_BYTES_MAX,
    AttachDocument,
    Claims,
    CompareDocuments,
    Comparison,
    Content,
    DeleteDocument,
    Document,
    DocumentDeleted,
    DocumentReceived,
    ExtractClaims,
    Findings,
    Found,
    GetContent,
    GetDocument,
    Ingest,
    KeySentences,
    ListDocuments,
    ListSections,
    ReprocessDocument,
    SearchDocuments,
    Section,
    SummarizeDocuments,
    Upload,
    UploadMissing,
    WriteArtifact,
)
from schemas.problems import Malformed, NotFound, TooLarge, Unavailable

DOWNLOAD_S = 10.0
PIECE_BYTES = INLINE_BYTES_MAX
CANDIDATES = 50
QUERY_VECTOR_S = 5.0
CHARACTERS_READ_MAX = 1_000_000
PAIRS_COMPARED_MAX = 8_000_000
TOPICS_EMBEDDED_MAX = 512
TOPIC_CHARACTERS_MAX = 400
TOPICS_BATCH = 64
TOPICS_S = 15.0

T = TypeVar("T")
Sections = list[dict[str, Any]]

_thinking = ThreadPoolExecutor(1, thread_name_prefix="documents")
"""Pure but long work, one piece at a time, so that the event loop always gets its turn."""


async def think(work: Callable[..., T], *arguments: Any) -> T:
    """Do pure work beside the event loop."""
    return await asyncio.get_running_loop().run_in_executor(_thinking, work, *arguments)


async def load(document_id: str, ctx: Context) -> Document:
    """The document, if it is there and the caller may know of it."""
    document = await indexing.find(document_id, ctx)
    ctx.require_owner(document.created_by, document.id)
    if document.status == "deleted":
        raise NotFound
    return document


@service.handles(documents.attach)
async def attach(command: AttachDocument, ctx: Context) -> Document:
    """Store the bytes once and queue the reading; a file that is there already is the answer."""
    content = rules.inline_content(command)
    if content is None:
        assert command.upload is not None
        content = await uploaded(command.upload, ctx)
    owner = ctx.principal.id
    document = await think(fresh, command, content, ctx.new_id(), owner, ctx.now())
    async with ctx.transaction() as tx:
        await tx.row(store.LOCK_CONTENT, document.content_hash)
        if (same := await tx.row(store.SAME, owner, document.content_hash)) is not None:
            return Document.model_validate(dict(same))
        await tx.execute(store.KEEP_BYTES, document.content_hash, content)
        await tx.record(DocumentReceived(document=document))
        await tx.enqueue(Ingest(document_id=document.id))
    return document


def fresh(command: AttachDocument, content: bytes, id: Id, owner: str, at: datetime) -> Document:
    """A new document; hashes megabytes."""
    return rules.new_document(command, content, id=id, owner=owner, at=at)


async def uploaded(upload: Upload, ctx: Context) -> bytes:
    """The bytes that the edge has put into the object store.

    Raises:
        UploadMissing: They are not there, or are others.
        Unavailable: The object store does not answer.
    """
    try:
        async with asyncio.timeout(DOWNLOAD_S):
            bucket = await ctx.platform.connection.jetstream().object_store(UPLOADS)
            found = await bucket.get(upload.object)
    except (NotFoundError, BadObjectMetaError, DigestMismatchError):
        raise UploadMissing(object=upload.object) from None
    except (NatsError, JetStreamError, APIError, OSError, TimeoutError) as broken:
        raise Unavailable("The object store does not give the file now.") from broken
    content = bytes(found.data or b"")
    return await think(rules.require_announced, content, upload.sha256, upload.size_bytes)


@service.handles(documents.write)
async def write(command: WriteArtifact, ctx: Context) -> Document:
    """Store the text as a document and queue the reading."""
    content = command.body.encode()
    document = rules.new_artifact(
        command, content, id=ctx.new_id(), owner=ctx.principal.id, at=ctx.now()
    )
    async with ctx.transaction() as tx:
        await tx.row(store.LOCK_CONTENT, document.content_hash)
        await tx.execute(store.KEEP_BYTES, document.content_hash, content)
        await tx.record(DocumentReceived(document=document))
        await tx.enqueue(Ingest(document_id=document.id))
    return document


@service.handles(documents.get)
async def get(command: GetDocument, ctx: Context) -> Document:
    """One row."""
    return await load(command.id, ctx)


@service.handles(documents.listing)
async def listing(command: ListDocuments, ctx: Context) -> Page[Document]:
    """A page of rows."""
    created_at, document_id = pages.after(command, (datetime, str))
    rows = await ctx.database.rows(
        store.LIST, *ctx.visible, command.status, command.doc_type, command.tag,
        created_at, document_id, command.limit + 1,
    )  # fmt: skip
    shown = rules.that_fit([Document.model_validate(dict(row)) for row in rows[: command.limit]])
    shorter = command.model_copy(update={"limit": shown or command.limit})
    return pages.page(shorter, Document, rows, ("created_at", "id"))


@service.handles(documents.delete)
async def delete(command: DeleteDocument, ctx: Context) -> Document:
    """To deleted: sections go, and the bytes unless another document has the same."""
    async with ctx.transaction() as tx:
        row = await tx.row(store.LOCK, command.id)
        if row is None:
            raise NotFound
        before = Document.model_validate(dict(row))
        ctx.require_owner(before.created_by, before.id)
        at = ctx.now()
        document = rules.moved(before, "deleted", at, deleted_at=at)
        await tx.row(store.LOCK_CONTENT, document.content_hash)
        await tx.execute(store.FORGET_SECTIONS, document.id)
        await tx.record(DocumentDeleted(document=document))
        await tx.execute(store.FORGET_BYTES, document.content_hash)
    return document


@service.handles(documents.reprocess)
async def reprocess(command: ReprocessDocument, ctx: Context) -> Document:
    """Read it again; a job that starts again continues where it was."""
    document = await load(command.id, ctx)
    if document.status in ("indexed", "failed"):
        document = await indexing.start(document, ctx)
    return await indexing.advance(document, ctx, last_try=ctx.attempt >= Job.attempts)


@service.handles(documents.content)
async def content_of(command: GetContent, ctx: Context) -> Content:
    """A piece of the bytes."""
    document = await load(command.id, ctx)
    piece = b""
    if command.offset < document.size_bytes:
        values = (document.content_hash, command.offset, PIECE_BYTES)
        piece = bytes((await ctx.row(store.PIECE, *values))["piece"])  # type: ignore[call-overload]
    return Content(
        name=document.metadata["name"], media_type=document.media_type,
        size_bytes=document.size_bytes, offset=command.offset, content=piece,
    )  # fmt: skip


@service.handles(documents.sections)
async def sections(command: ListSections, ctx: Context) -> Page[Section]:
    """A page of sections, shorter when they are long."""
    document = await load(command.id, ctx)
    (ordinal,) = pages.after(command, (int,))
    rows = await ctx.database.rows(store.LIST_SECTIONS, document.id, ordinal, command.limit + 1)
    shown = rules.that_fit([Section.model_validate(dict(row)) for row in rows[: command.limit]])
    shorter = command.model_copy(update={"limit": shown or command.limit})
    return pages.page(shorter, Section, rows, ("ordinal",))


@service.handles(documents.search)
async def search(command: SearchDocuments, ctx: Context) -> Findings:
    """By words, by meaning, or by both; without vectors, by words."""
    near: list[Found] = []
    if command.mode != "text":
        try:
            near = await by_meaning(command, ctx)
        except indexing.NO_VECTORS as missing:
            if command.mode == "vector":
                raise Unavailable(f"No vectors now: {missing.message}") from missing
    if command.mode == "vector":
        items = tuple(near[: command.limit])
    else:
        said = await by_words(command, ctx, loosely=not near)
        items = rules.fused((said, near), command.limit) if near else tuple(said[: command.limit])
    return Findings(items=items[: rules.that_fit(items)])


async def by_words(command: SearchDocuments, ctx: Context, *, loosely: bool) -> list[Found]:
    """Sections with all the words, or else, when asked for, with any of them."""
    owner, *exceptions = ctx.visible
    named = list(command.document_ids) or None
    values = (command.q, owner, named, CANDIDATES, *exceptions)
    rows = await ctx.database.rows(store.ALL_WORDS, *values)
    if not rows and loosely:
        rows = await ctx.database.rows(store.ANY_WORD, *values)
    return found_in(rows)


async def by_meaning(command: SearchDocuments, ctx: Context) -> list[Found]:
    """Sections whose vectors of the same model lie nearest."""
    query = await indexing.vectors_of([command.q], ctx, QUERY_VECTOR_S)
    owner, *exceptions = ctx.visible
    async with ctx.transaction() as tx:
        await tx.row(store.SCAN_ON)
        rows = await tx.rows(
            store.NEAREST, rules.as_vector(query.vectors[0]), owner,
            list(command.document_ids) or None, CANDIDATES, *exceptions, query.model,
        )  # fmt: skip
    return found_in(rows)


def found_in(rows: Sequence[Row]) -> list[Found]:
    """Rows as findings."""
    return [Found.model_validate(dict(row)) for row in rows]


async def readable(document_id: str, ctx: Context) -> tuple[Document, Sections]:
    """A document that is indexed, with its sections up to a million characters.

    Raises:
        NotIndexed: It is not read yet.
    """
    document = await load(document_id, ctx)
    rules.require_indexed(document)
    rows = await ctx.database.rows(store.READ_SECTIONS, document.id, CHARACTERS_READ_MAX)
    return document, [dict(row) for row in rows]


@service.handles(documents.claims)
async def claims(command: ExtractClaims, ctx: Context) -> Claims:
    """What the document says, sentence by sentence."""
    document, parts = await readable(command.id, ctx)
    found = await think(claims_of, document.id, parts)
    items = tuple(claim.as_dict() for claim in found[: command.limit])
    return Claims(document_id=document.id, total=len(found), items=items[: rules.that_fit(items)])


@service.handles(documents.compare)
async def compare(command: CompareDocuments, ctx: Context) -> Comparison:
    """The claims that cannot all be true, best founded first."""
    document_ids = tuple(dict.fromkeys(command.document_ids))
    if len(document_ids) < len(command.document_ids):
        raise Malformed("A document cannot be compared with itself.")
    read = [await readable(document_id, ctx) for document_id in document_ids]
    found = [await think(claims_of, document.id, parts) for document, parts in read]
    if rules.pairs(found) > PAIRS_COMPARED_MAX:
        raise TooLarge("The documents make too many claims to be compared; attach parts of them.")
    vectors = await topic_vectors(found, ctx)
    compared = await think(compare_claims, found, vectors)
    items = tuple(disagreement.as_dict() for disagreement in compared.disagreements)
    return Comparison(
        document_ids=document_ids, claims=sum(map(len, found)),
        disagreements=items[: rules.that_fit(items)],
    )  # fmt: skip


async def topic_vectors(
    found: Sequence[Sequence[Claim]], ctx: Context
) -> dict[str, Sequence[float]]:
    """Vectors of what the claims are about; none when there are none to be had in time."""
    wanted = topics(claim for claims in found for claim in claims)[:TOPICS_EMBEDDED_MAX]
    vectors: dict[str, Sequence[float]] = {}
    try:
        async with asyncio.timeout(TOPICS_S):
            for first in range(0, len(wanted), TOPICS_BATCH):
                batch = wanted[first : first + TOPICS_BATCH]
                texts = [topic[:TOPIC_CHARACTERS_MAX] for topic in batch]
                answer = await indexing.vectors_of(texts, ctx)
                native = (vector[: answer.dimensions] for vector in answer.vectors)
                vectors |= dict(zip(batch, native, strict=True))
    except (Problem, TimeoutError):
        return {}
    return vectors


@service.handles(documents.summarize)
async def summarize(command: SummarizeDocuments, ctx: Context) -> KeySentences:
    """Central sentences of every document, in reading order."""
    document_ids = tuple(dict.fromkeys(command.document_ids))
    shares = rules.shares(command.sentences, len(document_ids))
    items: list[Json] = []
    for document_id, share in zip(document_ids, shares, strict=True):
        document, parts = await readable(document_id, ctx)
        quotes = await think(key_sentences, parts, share, command.query)
        items += [cited(quote, document) for quote in quotes]
    return KeySentences(items=tuple(items[: rules.that_fit(items)]))


def cited(quote: Quote, document: Document) -> Json:
    """A quote with the document that it stands in."""
    return {"document_id": document.id, "title": document.title, **vars(quote)}
