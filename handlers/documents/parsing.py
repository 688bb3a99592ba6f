"""Parsing: from the bytes of an attached file to its sections.

`parse` runs in a confined child process, because readers of foreign files may be made to burn
time or memory: it takes plain values and a path and gives plain values back. Everything that a
file can do wrong ends as `UnreadableDocument` with a sentence for the person who attached it.

It stores nothing and makes no claims; see `claims` for what sections say.
"""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from handlers.documents import markup, paged, tabular
from handlers.documents.recognition import (
    DOCUMENT_BYTES_MAX,
    Recognised,
    UnreadableDocument,
    recognise,
    refuse_long_lines,
)
from handlers.documents.sections import Heading, Section, TooManySections, cut

__all__ = ["TEXT_CHARACTERS_MAX", "UnreadableDocument", "parse", "parse_bytes"]

TEXT_CHARACTERS_MAX = 4_000_000
TITLE_CHARACTERS_MAX = 200
LANGUAGE_WORDS_READ = 2_000
LANGUAGE_HITS_MIN = 3

_FRONT_MATTER_TITLE = re.compile(r"\A---\n(?:[^\n]*\n){0,40}?title:\s*[\"']?([^\n\"']+)")
_DESCRIBED = {
    "csv": tabular.csv_description,
    "json": tabular.json_description,
    "jsonl": tabular.jsonl_description,
}
_COMMON_WORDS = {
    "en": frozenset("the of and to in is was that for were with at by from this not".split()),
    "de": frozenset("der die das und ist war nicht mit von auf ein eine wurde für zu den".split()),
    "fr": frozenset("le la les et des est une dans pour que qui sur pas été du au".split()),
    "es": frozenset("el la los las y de que en una por con para se fue del al".split()),
    "it": frozenset("il la di che e un una per non sono con del della è stato gli".split()),
    "nl": frozenset("de het een en van is dat niet op te voor met zijn werd er aan".split()),
}


def parse(argument: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """Parse `files["document"]`; `argument` holds its `name` and declared `media_type`.

    Raises:
        UnreadableDocument: the file is empty, too large, damaged, hostile, of an unsupported
            kind, or not what its name or declared type says.
    """
    path = files["document"]
    if path.stat().st_size > DOCUMENT_BYTES_MAX:
        raise UnreadableDocument(f"The file is larger than {DOCUMENT_BYTES_MAX:,} bytes.")
    return parse_bytes(path.read_bytes(), str(argument["name"]), argument.get("media_type"))


def parse_bytes(data: bytes, name: str, media_type: str | None = None) -> dict[str, Any]:
    """Parse a file held in memory; see `parse` for result and errors."""
    recognised = recognise(data, name, media_type)
    text, headings, title = _read(data, recognised)
    if len(text) > TEXT_CHARACTERS_MAX:
        raise UnreadableDocument(
            f"The text has {len(text):,} characters; the limit is {TEXT_CHARACTERS_MAX:,}."
        )
    if not text.strip():
        raise UnreadableDocument("The file holds no text.")
    try:
        sections = cut(text, headings)
    except TooManySections as failure:
        raise UnreadableDocument(str(failure)) from failure
    return {
        "media_type": recognised.media_type,
        "doc_type": recognised.kind,
        "title": _title(title, text, sections, name, recognised.kind),
        "language": language_of(text),
        "sections": [section.as_dict() for section in sections],
    }


def language_of(text: str) -> str:
    """The language code with most common words in the beginning of the text, or `und`."""
    words = re.findall(r"[^\W\d_]+", text[: LANGUAGE_WORDS_READ * 8].lower())
    hits = {code: sum(w in common for w in words) for code, common in _COMMON_WORDS.items()}
    best = max(hits, key=lambda code: hits[code])
    return best if hits[best] >= LANGUAGE_HITS_MIN else "und"


def _read(data: bytes, recognised: Recognised) -> tuple[str, list[Heading], str | None]:
    if recognised.kind == "pdf":
        return paged.pdf_text(data)
    if recognised.kind in _DESCRIBED:
        return _DESCRIBED[recognised.kind](recognised.text), [], None
    if recognised.kind == "html":
        return markup.html_text(recognised.text)
    refuse_long_lines(recognised.text)
    if recognised.kind == "markdown":
        return recognised.text, markup.markdown_headings(recognised.text), None
    return recognised.text, markup.plain_headings(recognised.text), None


def _title(found: str | None, text: str, sections: list[Section], name: str, kind: str) -> str:
    stem = PurePosixPath(name.replace("\\", "/")).stem
    headings = [section for section in sections if section.heading and kind != "pdf"]
    top = min(headings, key=lambda section: section.level, default=None)
    front = _FRONT_MATTER_TITLE.match(text)
    candidates = (found, front[1] if front else None, top.heading if top else None, stem)
    title = next((candidate.strip() for candidate in candidates if candidate), "untitled")
    return title[:TITLE_CHARACTERS_MAX]
