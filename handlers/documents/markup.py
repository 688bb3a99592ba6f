"""Readers of marked-up text: Markdown, plain text and HTML become text with headings.

Markdown and plain text stay as they are, so that quotes are exact; only the headings are found.
HTML is rendered to plain lines: one block a line, `- ` before list items, `| a | b |` for table
rows. What a browser does not show (scripts, styles, comments) is left out.
"""

import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from itertools import pairwise

from bs4 import BeautifulSoup
from bs4.element import NavigableString, PreformattedString, Tag
from markdown_it import MarkdownIt

from handlers.documents.recognition import UnreadableDocument
from handlers.documents.sections import HEADING_CHARACTERS_MAX, Heading

HTML_NESTING_MAX = 500
HTML_ELEMENTS_MAX = 300_000
PLAIN_HEADING_WORDS_MAX = 8

_NUMBERED = re.compile(r"(?P<number>\d{1,2}(?:\.\d{1,2}){0,3})\.?\s+[A-ZÀ-Þ]")
_UNDERLINE = re.compile(r"(=|-|~){3,}\s*$")
_BLOCK_TAGS = frozenset(
    (
        "address article aside blockquote body caption center dd details dialog div dl dt "
        "fieldset figcaption figure footer form h1 h2 h3 h4 h5 h6 header hr html li main nav ol "
        "option p pre section summary table tbody tfoot thead title tr ul"
    ).split()
)
HEADING_WORD_MIN = 3
_HIDDEN_TAGS = frozenset({"script", "style", "template", "noscript", "head", "svg", "math"})
_VOID_TAGS = frozenset(
    "area base br col embed hr img input link meta param source track wbr".split()
)
_OPTIONAL_END_TAGS = frozenset("p li td th tr dt dd option thead tbody tfoot colgroup".split())


def markdown_headings(text: str) -> list[Heading]:
    """The headings of a Markdown text, with their offsets."""
    reader = MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])
    starts = _line_starts(text)
    tokens = reader.parse(text)
    headings = []
    for token, content in pairwise(tokens):
        if token.type == "heading_open" and token.map and token.level == 0:
            first, after = token.map
            level = int(token.tag[1])
            title = " ".join(word.strip("*`") for word in content.content.split())
            headings.append(_heading(level, title, starts[first], starts[after]))
    return headings


def plain_headings(text: str) -> list[Heading]:
    """Lines of plain text that stand as headings: underlined, numbered, or short and alone."""
    lines, starts = text.split("\n"), _line_starts(text)
    headings = []
    for index, line in enumerate(lines):
        before = lines[index - 1] if index else ""
        after = lines[index + 1] if index + 1 < len(lines) else ""
        if before.strip() or not line.strip():
            continue
        if _UNDERLINE.match(after) and 2 * len(after.strip()) >= len(line.strip()):
            level = 1 if after[0] == "=" else 2
            headings.append(_heading(level, line.strip(), starts[index], starts[index + 2]))
        elif not after.strip() and (level := _plain_level(line.strip())):
            headings.append(_heading(level, line.strip(), starts[index], starts[index + 1]))
    return headings


def html_text(source: str) -> tuple[str, list[Heading], str | None]:
    """The visible text of an HTML page, its headings and its title."""
    _refuse_deep(source)
    soup = BeautifulSoup(source, "html.parser")
    rendering = _Rendering()
    rendering.walk(soup)
    title = soup.title.get_text(" ", strip=True) if soup.title else None
    return (*rendering.finish(), title or None)


def _heading(level: int, title: str, start: int, end: int) -> Heading:
    # A longer "heading" is a paragraph in disguise: keep all words, in the body.
    if len(title) > HEADING_CHARACTERS_MAX:
        return Heading(level, title[:HEADING_CHARACTERS_MAX].rsplit(" ", 1)[0], start, start)
    return Heading(level, title, start, end)


def _plain_level(line: str) -> int:
    """The heading level of a line that stands alone, or 0."""
    words = line.split()
    if len(words) > PLAIN_HEADING_WORDS_MAX or line[-1] in ".,;!?|" or line[0] in "-*+•|>":
        return 0
    if numbered := _NUMBERED.match(line):
        return 1 + numbered["number"].count(".")
    if line.isupper() and any(len(word) >= HEADING_WORD_MIN for word in words):
        return 1
    return 2 if line[0].isupper() and not re.search(r"\d:\d|: ", line) else 0


def _line_starts(text: str) -> list[int]:
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    return [*starts, len(text), len(text)]


@dataclass(frozen=True)
class _Place:
    """Where a text node stands: the nearest enclosing element of each kind that matters."""

    block: Tag | None = None
    row: Tag | None = None
    cell: Tag | None = None
    heading: Tag | None = None
    preformatted: bool = False

    def inside(self, tag: Tag) -> "_Place":
        """The place of the children of `tag`."""
        name = tag.name
        if name == "tr":
            return replace(self, row=tag, cell=None)
        if name in {"td", "th"}:
            return replace(self, cell=tag)
        if name not in _BLOCK_TAGS:
            return self
        heading = tag if re.fullmatch("h[1-6]", name) else self.heading
        return replace(
            self, block=tag, heading=heading, preformatted=self.preformatted or name == "pre"
        )


class _Rendering:
    """Turns the nodes of a page, in document order, into lines and headings.

    The walk keeps its own stack, so nesting costs no recursion.
    """

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self._headings: list[tuple[int, Tag, int, int]] = []
        self._block: Tag | None = None
        self._cell: Tag | None = None

    def walk(self, root: Tag) -> None:
        """Render every visible text under `root`."""
        waiting: list[tuple[object, _Place]] = [(root, _Place())]
        while waiting:
            node, place = waiting.pop()
            if isinstance(node, Tag):
                if node.name == "br":
                    self._write("\n" if self._cell is None else " ")
                if node.name not in _HIDDEN_TAGS:
                    inside = place.inside(node)
                    waiting.extend((child, inside) for child in reversed(node.contents))
            elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):
                self._text(str(node), place)

    def _text(self, text: str, place: _Place) -> None:
        if not text.strip():
            self._space()
            return
        self._open(place)
        self._write(_spaced(text, preformatted=place.preformatted))
        if place.heading is not None:
            self._extend_heading(place.heading)

    def finish(self) -> tuple[str, list[Heading]]:
        """The text, and the headings at their offsets in it."""
        self._end_line()
        text = "".join(self._pieces)
        found = [
            _heading(level, " ".join(text[start:end].split()), start, end)
            for level, _, start, end in self._headings
        ]
        return text, found

    def _open(self, place: _Place) -> None:
        block = place.row if place.cell is not None and place.row is not None else place.block
        if block is not self._block:
            self._end_line()
            self._write(self._gap(block))
            self._write("- " if block is not None and block.name == "li" else "")
        if place.cell is not None and place.cell is not self._cell:
            self._write("| " if self._cell is None else " | ")
        self._block, self._cell = block, place.cell

    def _gap(self, block: Tag | None) -> str:
        same = {block.name if block else "", self._block.name if self._block else ""}
        return "\n" if same <= {"li"} or same <= {"tr"} or not self._length else "\n\n"

    def _end_line(self) -> None:
        if self._pieces:
            last = self._pieces.pop()
            self._length -= len(last)
            self._write(last.rstrip())
        if self._cell is not None:
            self._write(" |")
        self._cell = None

    def _extend_heading(self, tag: Tag) -> None:
        start = self._length - len(self._pieces[-1])
        if self._headings and self._headings[-1][1] is tag:
            start = self._headings.pop()[2]
        self._headings.append((int(tag.name[1]), tag, start, self._length))

    def _space(self) -> None:
        if self._pieces and not self._pieces[-1][-1:].isspace():
            self._write(" ")

    def _write(self, piece: str) -> None:
        if piece:
            self._pieces.append(piece)
            self._length += len(piece)


def _spaced(text: str, *, preformatted: bool) -> str:
    return text.strip("\n") if preformatted else re.sub(r"\s+", " ", text)


def _refuse_deep(source: str) -> None:
    depth = _Depth()
    depth.feed(source)
    depth.close()


class _Depth(HTMLParser):
    """Refuses a page that is nested or long beyond reason, before any tree is built."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0
        self._elements = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._elements += 1
        if tag not in _VOID_TAGS and tag not in _OPTIONAL_END_TAGS:
            self._depth += 1
        if self._depth > HTML_NESTING_MAX:
            raise UnreadableDocument(f"The page nests more than {HTML_NESTING_MAX} elements.")
        if self._elements > HTML_ELEMENTS_MAX:
            raise UnreadableDocument(f"The page has more than {HTML_ELEMENTS_MAX:,} elements.")

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID_TAGS and tag not in _OPTIONAL_END_TAGS:
            self._depth = max(0, self._depth - 1)
