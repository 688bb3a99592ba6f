"""Exact counts and places in a text, or in a document as it was read."""

import re

from pydantic import Field

from handlers.tools.builtin.declaration import Call, builtin
from handlers.tools.builtin.documents import sections_of
from schemas.contract import Schema, Text
from schemas.problems import OutsideSchema

CONTEXT_CHARACTERS = 80
PLACES_MAX = 200
ID_OR_NOTHING = r"^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})?$"


class Count(Schema):
    """Count the words, sentences, lines and characters of a text or of a document."""

    text: Text = ""
    document_id: str = Field("", pattern=ID_OR_NOTHING)


class Counts(Schema):
    """Exact counts; a sentence ends with a full stop, question or exclamation mark."""

    characters: int
    words: int
    sentences: int
    lines: int
    paragraphs: int


class Find(Schema):
    """Count and show every place where a word or phrase occurs in a text or a document."""

    term: str = Field(min_length=1, max_length=200)
    text: Text = ""
    document_id: str = Field("", pattern=ID_OR_NOTHING)
    whole_words: bool = True
    match_case: bool = False


class Place(Schema):
    """One occurrence with what stands around it; `ordinal` is the document's section."""

    ordinal: int
    heading: str
    start: int
    around: str


class Places(Schema):
    """All occurrences; at most 200 are shown."""

    term: str
    count: int
    items: tuple[Place, ...]


Part = tuple[int, str, str]


@builtin("text.count", Count, Counts)
async def count(wanted: Count, call: Call) -> Counts:
    """Counted, never estimated."""
    parts = await parts_of(wanted, call)
    return counts_of("\n\n".join(f"{heading}\n\n{body}".strip() for _, heading, body in parts))


@builtin("text.find", Find, Places)
async def find(wanted: Find, call: Call) -> Places:
    """Every occurrence, in order."""
    pattern = pattern_of(wanted)
    places = [
        Place(ordinal=ordinal, heading=heading, start=match.start(),
              around=around(content, match.start(), match.end()))
        for ordinal, heading, body in await parts_of(wanted, call)
        for content in (heading, body)
        for match in pattern.finditer(content)
    ]  # fmt: skip
    return Places(term=wanted.term, count=len(places), items=tuple(places[:PLACES_MAX]))


async def parts_of(wanted: Count | Find, call: Call) -> list[Part]:
    """The text itself as one part, or the document's sections.

    Raises:
        OutsideSchema: Neither or both are given.
    """
    if bool(wanted.text) == bool(wanted.document_id):
        raise OutsideSchema("Give either a text or a document_id.", path="text")
    if wanted.text:
        return [(0, "", wanted.text)]
    sections = await sections_of(wanted.document_id, call.ctx)
    parts: list[Part] = []
    for section in sections:
        repeated = bool(parts) and parts[-1][1] == section.heading
        parts.append((section.ordinal, "" if repeated else section.heading, section.body))
    return parts


def counts_of(text: str) -> Counts:
    """The counts of one text."""
    return Counts(
        characters=len(text),
        words=len(re.findall(r"\w+(?:['\u2019.,-]\w+)*", text)),
        sentences=len(re.findall(r"[^\s.!?…][.!?…]+(?=[\"'\u201d\u2019)\]]*(?:\s|$))", text)),
        lines=len(text.splitlines()),
        paragraphs=len([block for block in re.split(r"\n\s*\n", text) if block.strip()]),
    )


def pattern_of(wanted: Find) -> re.Pattern[str]:
    """The term as a pattern: white space of any kind, word bounds if asked for."""
    words = r"\s+".join(re.escape(word) for word in wanted.term.split()) or re.escape(wanted.term)
    bounded = rf"(?<!\w){words}(?!\w)" if wanted.whole_words else words
    return re.compile(bounded, 0 if wanted.match_case else re.IGNORECASE)


def around(text: str, start: int, end: int) -> str:
    """What stands around a place, on one line."""
    piece = text[max(start - CONTEXT_CHARACTERS, 0) : end + CONTEXT_CHARACTERS]
    return " ".join(piece.split())
