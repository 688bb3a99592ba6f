"""Sections: the pieces of a document that are stored, searched and cited.

Invariant: a section's body is exactly `text[start:end]` of the extracted text, and headings and
bodies together contain every word of it. Sections do not overlap. A long section is cut at the
best bound near the target length (paragraph, then sentence, then line, then word), and its parts
keep heading and parent.

Readers for each format find the headings; this module only cuts.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

SECTION_CHARACTERS_TARGET = 1_200
SECTION_CHARACTERS_MAX = 8_000
SECTIONS_MAX = 5_000
HEADING_CHARACTERS_MAX = 300

_BOUNDS = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"[.!?…][\"'”’)\]*_]*\s+(?=[A-Z0-9ÀÖØ-Þ\"“‘(*\[#|-])"),
    re.compile(r"\n"),
    re.compile(r"\s"),
)


class TooManySections(ValueError):
    """The document has more sections than can be stored."""


@dataclass(frozen=True)
class Heading:
    """A heading found by a reader; `start` and `end` enclose its lines in the text."""

    level: int
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Section:
    """One piece of a document; `parent_ordinal` is the enclosing section."""

    ordinal: int
    level: int
    heading: str
    parent_ordinal: int | None
    body: str
    start: int
    end: int

    def as_dict(self) -> dict[str, object]:
        """The section as JSON values."""
        return asdict(self)


def cut(text: str, headings: Iterable[Heading] = ()) -> list[Section]:
    """Cut `text` at the headings, in order, and each long piece near the target length."""
    sections: list[Section] = []
    open_parents: list[tuple[int, int]] = []
    for heading, start, end in _pieces(text, list(headings)):
        while open_parents and open_parents[-1][0] >= heading.level:
            open_parents.pop()
        parent = open_parents[-1][1] if open_parents else None
        if heading.level:
            open_parents.append((heading.level, len(sections)))
        for part_start, part_end in _parts(text, start, end):
            body = text[part_start:part_end]
            section = Section(
                len(sections), heading.level, heading.text, parent, body, part_start, part_end
            )
            sections.append(section)
        if len(sections) > SECTIONS_MAX:
            raise TooManySections(f"The document has more than {SECTIONS_MAX:,} sections.")
    return sections


def _pieces(text: str, headings: list[Heading]) -> Iterable[tuple[Heading, int, int]]:
    preamble_end = headings[0].start if headings else len(text)
    if text[:preamble_end].strip() or not headings:
        yield Heading(0, "", 0, 0), 0, preamble_end
    ends = [*(heading.start for heading in headings[1:]), len(text)]
    for heading, end in zip(headings, ends, strict=False):
        yield heading, heading.end, end


def _parts(text: str, start: int, end: int) -> Iterable[tuple[int, int]]:
    start, end = _trimmed(text, start, end)
    while end - start > SECTION_CHARACTERS_TARGET:
        middle = _cut_position(text, start, end)
        yield _trimmed(text, start, middle)
        start, end = _trimmed(text, middle, end)
    yield start, end


def _cut_position(text: str, start: int, end: int) -> int:
    target = min(start + SECTION_CHARACTERS_TARGET, end)
    for bound in _BOUNDS:
        cuts = [
            m.end() for m in bound.finditer(text, start + SECTION_CHARACTERS_TARGET // 2, target)
        ]
        if cuts:
            return cuts[-1]
    gap = re.compile(r"\s").search(text, target, min(start + SECTION_CHARACTERS_MAX, end))
    return gap.end() if gap else min(start + SECTION_CHARACTERS_MAX, end)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    while end > start and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return start, end
