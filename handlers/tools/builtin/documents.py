"""Tools over attached documents. Each asks the documents domain on the caller's behalf."""

from typing import Any

from pydantic import Field

from bus.context import Context
from handlers.tools.builtin.declaration import Call, builtin
from schemas import documents
from schemas.contract import Id, Json, Schema
from schemas.documents import (
    CompareDocuments,
    Comparison,
    ExtractClaims,
    Findings,
    GetDocument,
    KeySentences,
    ListSections,
    SearchDocuments,
    Section,
    SummarizeDocuments,
)

SECTIONS_READ_MAX = 50
CHARACTERS_READ_MAX = 60_000
SECTIONS_KNOWN_MAX = 5_000
OUTLINE_MAX = 500
PAGE_ITEMS = 200


class Search(Schema):
    """Find the sections of documents that fit a question, by words and by meaning."""

    query: str = Field(min_length=1, max_length=2_000)
    document_ids: tuple[Id, ...] = Field((), max_length=50)
    limit: int = Field(6, ge=1, le=20)


class Read(Schema):
    """Read sections `first` to `last` of a document, in order."""

    document_id: Id
    first: int = Field(0, ge=0)
    last: int = Field(4, ge=0)


class SectionText(Schema):
    """One section."""

    ordinal: int
    heading: str
    body: str


class Passage(Schema):
    """What was read; `more` says that it was cut off or that sections follow."""

    document_id: str
    title: str
    items: tuple[SectionText, ...]
    more: bool


class Outline(Schema):
    """List the headings of a document with the number of words below each."""

    document_id: Id


class OutlineEntry(Schema):
    """One heading."""

    ordinal: int
    level: int
    heading: str
    words: int


class OutlineOf(Schema):
    """The headings of a document."""

    document_id: str
    title: str
    sections: int
    words: int
    items: tuple[OutlineEntry, ...]


class Claims(Schema):
    """List what a document claims, with exact sentences and the values in them."""

    document_id: Id
    limit: int = Field(60, ge=1, le=150)


class ClaimsOf(Schema):
    """Claims of a document, each with its exact sentence."""

    document_id: str
    title: str
    total: int
    items: tuple[Json, ...]


class Compare(Schema):
    """List the claims on which two or more documents disagree, with exact quotes."""

    document_ids: tuple[Id, ...] = Field(min_length=2, max_length=6)


class Disagreements(Schema):
    """Where documents disagree."""

    document_ids: tuple[str, ...]
    claims: int
    disagreements: tuple[Json, ...]


class Summarize(Schema):
    """Pick the exact sentences that say most of what documents say."""

    document_ids: tuple[Id, ...] = Field(min_length=1, max_length=6)
    sentences: int = Field(8, ge=1, le=40)
    query: str = Field("", max_length=2_000)


@builtin("documents.search", Search, Findings)
async def search(wanted: Search, call: Call) -> Findings:
    """Ask the index."""
    command = SearchDocuments(q=wanted.query, document_ids=wanted.document_ids, limit=wanted.limit)
    return await call.ctx.call(documents.search, command)


@builtin("documents.read", Read, Passage)
async def read(wanted: Read, call: Call) -> Passage:
    """Sections in a range, up to limits of number and length."""
    document = await call.ctx.call(documents.get, GetDocument(id=wanted.document_id))
    sections = await sections_of(wanted.document_id, call.ctx, until=wanted.last)
    inside = [s for s in sections if wanted.first <= s.ordinal <= wanted.last]
    items: list[SectionText] = []
    room = CHARACTERS_READ_MAX
    for section in inside[:SECTIONS_READ_MAX]:
        room -= len(section.body)
        if room < 0:
            break
        items.append(SectionText(ordinal=section.ordinal, heading=section.heading,
                                 body=section.body))  # fmt: skip
    behind = document.sections > (items[-1].ordinal + 1 if items else 0)
    return Passage(document_id=document.id, title=document.title, items=tuple(items), more=behind)


@builtin("documents.outline", Outline, OutlineOf)
async def outline(wanted: Outline, call: Call) -> OutlineOf:
    """Every heading."""
    document = await call.ctx.call(documents.get, GetDocument(id=wanted.document_id))
    sections = await sections_of(wanted.document_id, call.ctx)
    entries = [
        OutlineEntry(ordinal=s.ordinal, level=s.level, heading=s.heading,
                     words=len(s.body.split()))
        for s in sections
    ]  # fmt: skip
    return OutlineOf(
        document_id=document.id,
        title=document.title,
        sections=len(sections),
        words=sum(entry.words for entry in entries),
        items=tuple(entries[:OUTLINE_MAX]),
    )


@builtin("documents.claims", Claims, ClaimsOf, timeout_ms=20_000)
async def claims(wanted: Claims, call: Call) -> ClaimsOf:
    """Ask for the claims."""
    document = await call.ctx.call(documents.get, GetDocument(id=wanted.document_id))
    command = ExtractClaims(id=wanted.document_id, limit=wanted.limit)
    found = await call.ctx.call(documents.claims, command)
    return ClaimsOf(
        document_id=document.id, title=document.title, total=found.total, items=found.items
    )


@builtin("documents.compare", Compare, Disagreements, timeout_ms=60_000)
async def compare(wanted: Compare, call: Call) -> Disagreements:
    """Ask for the comparison."""
    command = CompareDocuments(document_ids=wanted.document_ids)
    found: Comparison = await call.ctx.call(documents.compare, command)
    return Disagreements.model_validate(found.model_dump())


@builtin("documents.summarize", Summarize, KeySentences, timeout_ms=20_000)
async def summarize(wanted: Summarize, call: Call) -> KeySentences:
    """Ask for the key sentences."""
    command = SummarizeDocuments(
        document_ids=wanted.document_ids, sentences=wanted.sentences, query=wanted.query or None
    )
    return await call.ctx.call(documents.summarize, command)


async def sections_of(
    document_id: str, ctx: Context, *, until: int = SECTIONS_KNOWN_MAX
) -> list[Section]:
    """Sections of a document in order, page by page, up to ordinal `until`."""
    found: list[Section] = []
    cursor: str | None = None
    while len(found) < SECTIONS_KNOWN_MAX:
        command = ListSections(id=document_id, limit=PAGE_ITEMS, cursor=cursor)
        page: Any = await ctx.call(documents.sections, command)
        found.extend(page.items)
        cursor = page.next
        if cursor is None or found[-1].ordinal >= until:
            break
    return found
