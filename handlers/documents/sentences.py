"""Sentences: the smallest pieces of a section that can be quoted.

Prose is split at sentence ends, a list item or a `Label: value` line stands for itself, and a
table row is read with its header: a row of many columns gives one sentence for each cell, because
each cell says something of its own. `text` is always the exact slice of the body; `plain` is the
same without markup, and is what values and keys are read from.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SENTENCE_CHARACTERS_MAX = 1_500
TABLE_COLUMNS_READ_MAX = 20
PAIR_CELLS = 2
TAIL_CHARACTERS = 16

_ITEM = re.compile(r"\s*(?:>\s*)*(?:[-*+•–]\s+(?:\[[ xX]\]\s+)?|\(?\d{1,3}[.)]\s+)")
_LABELLED = re.compile(r"\s*(?:>\s*)*(?:\*\*|__)?[A-ZÀ-Þ][^\n.:|]{1,40}:(?:\*\*|__)?\s+\S")
_SEPARATOR = re.compile(r"\s*\|?(?:\s*:?-{2,}:?\s*\|)*\s*:?-{2,}:?\s*\|?\s*$")
_END = re.compile(r"(?<![.!?…])[.!?…]++[\"'”’)\]*_]*+(?=\s+[\"'“‘(\[*_]*[A-ZÀ-Þ0-9€$£])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|Prof|St|Sr|Jr|No|Nos|approx|ca|vs|etc|Inc|Ltd|Co|Fig|e\.g|i\.e|resp|"
    r"Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)|^\s*\d{1,2}"
    r"|(?<!°)(?<!block )(?<!team )(?<!type )(?<!group )(?<!class )(?<!gate )(?<!site )(?<!unit )"
    r"(?<!wing )(?<!building )(?<!plan )(?<!line )(?<!hall )(?<!zone )\b[A-Z])\.$"
)
_YES_MARK, _NO_MARK = re.compile(r"[✓✔✅☑]\ufe0f?"), re.compile(r"[✗✘❌☒]\ufe0f?")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*(?:\s+\"[^\"]*\")?\)")
_EMPHASIS = re.compile(r"\*\*|__|`|(?<!\w)[*_](?=\S)|(?<=\S)[*_](?!\w)")


@dataclass(frozen=True)
class Sentence:
    """A quotable piece of a body: `text == body[start:end]`; `kind` is prose, item or row."""

    start: int
    end: int
    text: str
    plain: str
    kind: str


@dataclass(frozen=True)
class _Line:
    start: int
    end: int
    text: str


def split(body: str, header: tuple[str, ...] = ()) -> list[Sentence]:
    """The sentences of a section's body; `header` continues a table cut by a section bound."""
    found: list[Sentence] = []
    for kind, lines in _blocks(body):
        if kind == "table":
            found.extend(_table(body, lines, header))
        elif kind == "item":
            found.extend(_prose(body, lines[0].start, lines[-1].end, "item"))
        else:
            found.extend(_prose(body, lines[0].start, lines[-1].end, "prose"))
    return found


def last_header(body: str) -> tuple[str, ...]:
    """The header of the table that a body ends with, if it ends with one."""
    blocks = list(_blocks(body))
    if not blocks or blocks[-1][0] != "table":
        return ()
    return _header(blocks[-1][1])[0]


def plain_of(text: str) -> str:
    """A text without Markdown marks, on one line."""
    text = _ITEM.sub("", text, count=1) if _ITEM.match(text) else text
    text = re.sub(r"(?m)^\s*>+\s?", "", text)
    return " ".join(_EMPHASIS.sub("", _LINK.sub(r"\1", text)).split())


def _blocks(body: str) -> Iterator[tuple[str, list[_Line]]]:
    """Groups of lines that belong together: a paragraph, an item, a table."""
    kind, group = "", list[_Line]()
    for line in _lines(body):
        line_kind = _kind(line.text)
        joins = line_kind == kind == "table" or (line_kind == "more" and kind in {"prose", "item"})
        if not joins:
            if group:
                yield kind, group
            kind, group = ("prose" if line_kind == "more" else line_kind), []
        if line_kind != "blank":
            group.append(line)
    if group:
        yield kind, group


def _lines(body: str) -> Iterator[_Line]:
    start = 0
    for text in body.split("\n"):
        yield _Line(start, start + len(text), text)
        start += len(text) + 1


def _kind(line: str) -> str:
    stripped = line.strip().lstrip("> ")
    if not stripped or stripped.startswith(("```", "~~~")):
        return "blank"
    if stripped.startswith("|") or (stripped.count("|") >= 1 and _SEPARATOR.match(stripped)):
        return "table"
    if _SEPARATOR.match(stripped) or set(stripped) <= set("=-*_ "):
        return "blank"
    return "item" if _ITEM.match(line) or _LABELLED.match(line) else "more"


def _prose(body: str, start: int, end: int, kind: str) -> Iterator[Sentence]:
    position = start
    item = _ITEM.match(body, start, end)
    for match in _END.finditer(body, item.end() if item else start, end):
        if not _ABBREVIATION.search(_tail(body, position, match.end())):
            yield from _bounded(body, position, match.end(), kind)
            position = match.end()
    yield from _bounded(body, position, end, kind)


def _tail(body: str, start: int, end: int) -> str:
    """The end of a possible sentence; short, because it is looked at for each full stop."""
    if end - start > TAIL_CHARACTERS:
        return "…" + body[end - TAIL_CHARACTERS : end].rstrip("\"'”’)]*_")
    return body[start:end].rstrip("\"'”’)]*_")


def _bounded(body: str, start: int, end: int, kind: str) -> Iterator[Sentence]:
    """One sentence, or several if it is longer than anyone would quote."""
    while start < end:
        while start < end and body[start].isspace():
            start += 1
        stop = end
        if end - start > SENTENCE_CHARACTERS_MAX:
            space = body.rfind(" ", start, start + SENTENCE_CHARACTERS_MAX)
            stop = space if space > start else start + SENTENCE_CHARACTERS_MAX
        text = body[start:stop].rstrip()
        if plain := plain_of(text):
            yield Sentence(start, start + len(text), text, plain, kind)
        start = stop


def _table(body: str, lines: list[_Line], header: tuple[str, ...]) -> Iterator[Sentence]:
    own_header, rows = _header(lines)
    header = own_header or header
    for line in rows:
        start = line.start + len(line.text) - len(line.text.lstrip())
        text = body[start : line.end].rstrip()
        for plain in _row_readings(header, _cells(line.text)):
            yield Sentence(start, start + len(text), text, plain, "row")


def _header(lines: list[_Line]) -> tuple[tuple[str, ...], list[_Line]]:
    """The header cells (those above a separator, or a first row without digits) and the rows."""
    if len(lines) > 1 and _SEPARATOR.match(lines[1].text):
        return tuple(_cells(lines[0].text)), [x for x in lines[2:] if not _SEPARATOR.match(x.text)]
    rows = [line for line in lines if not _SEPARATOR.match(line.text)]
    if len(rows) > 1 and not any(ch.isdigit() for ch in rows[0].text):
        return tuple(_cells(rows[0].text)), rows[1:]
    return (), rows


def _cells(line: str) -> list[str]:
    inner = re.sub(r"^\s*(?:>\s*)*\|?|\|?\s*$", "", line)
    inner = _NO_MARK.sub("no", _YES_MARK.sub("yes", inner))
    return [plain_of(cell.replace("\\|", "|")) for cell in re.split(r"(?<!\\)\|", inner)]


def _row_readings(header: tuple[str, ...], cells: list[str]) -> Iterable[str]:
    """What a row says: one reading for a log line or a pair, one a cell for a wide table."""
    cells = cells[:TABLE_COLUMNS_READ_MAX]
    first, rest = cells[0], [cell for cell in cells[1:] if cell]
    if not rest:
        return [first] if first else []
    if any(ch.isdigit() for ch in first) or len(cells) == PAIR_CELLS or len(header) < len(cells):
        return [f"{first}: {', '.join(rest)}"]
    return [
        f"{first} {head}: {cell}" for head, cell in zip(header[1:], cells[1:], strict=False) if cell
    ]
