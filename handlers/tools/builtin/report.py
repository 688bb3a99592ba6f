"""A Markdown report out of parts, with a citation behind every quoted line. Pure.

Parts come from other tools and from models, so their values are taken as they come: a list, an
object with `items` or `disagreements`, a text. What is composed here adds no statement of its own;
the same parts always give the same report, so that writing it again changes nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.contract import Json

MARKDOWN_CHARACTERS_MAX = 60_000
LINES_MAX = 300
QUOTES_KEPT_MAX = 60
QUOTE_CHARACTERS_MAX = 1_000
CELL_CHARACTERS_MAX = 300
COLUMNS_MAX = 30
NOTHING = "Nothing was found."
NO_DISAGREEMENT = "No claims were found on which the documents disagree."


@dataclass
class Composed:
    """The lines of one part, and what they quote."""

    lines: list[str] = field(default_factory=list)
    quotes: list[Json] = field(default_factory=list)


class Report:
    """Composes parts; `titles` gives the titles of the documents that they quote."""

    def __init__(self, titles: Mapping[str, str]) -> None:
        self._titles = titles
        self._kinds = {
            "text": self.text,
            "bullets": self.bullets,
            "table": self.table,
            "disagreements": self.disagreements,
            "quotes": self.quotations,
            "figures": self.figures,
        }

    def part(self, kind: str, value: Any) -> Composed:
        """One part."""
        composed = self._kinds[kind](value)
        if not composed.lines:
            composed.lines = [NO_DISAGREEMENT if kind == "disagreements" else NOTHING]
        return composed

    def text(self, value: Any) -> Composed:
        """Paragraphs as they are."""
        return Composed([value.strip()] if isinstance(value, str) and value.strip() else [])

    def bullets(self, value: Any) -> Composed:
        """One line each; a line that quotes a document is cited."""
        composed = Composed()
        for item in listed(value):
            if isinstance(item, Mapping) and document_of(item):
                self._quote(item, composed, "- ")
            else:
                composed.lines.append(f"- {one_line(said(item))}")
        return composed

    def quotations(self, value: Any) -> Composed:
        """Exact sentences, each with its place."""
        composed = Composed()
        for item in listed(value):
            about = item if isinstance(item, Mapping) else {"quote": item}
            self._quote(about, composed, "- ")
        return composed

    def disagreements(self, value: Any) -> Composed:
        """Each topic with what every document says on it."""
        composed = Composed()
        for number, item in enumerate(listed(value), start=1):
            if not isinstance(item, Mapping):
                continue
            kind = f" ({item['kind']})" if item.get("kind") else ""
            composed.lines += [
                "",
                f"### {number}. {one_line(str(item.get('topic', '')))}{kind}",
                "",
            ]
            for position in listed(item.get("positions")):
                self._quote(position, composed, "- ")
        composed.lines = composed.lines[1:]
        return composed

    def table(self, value: Any) -> Composed:
        """Rows under columns."""
        names, rows = columns_and_rows(value)
        if not names or not rows:
            return Composed()
        lines = [row_of(names), row_of(["---"] * len(names))]
        return Composed(lines + [row_of(row) for row in rows[:LINES_MAX]])

    def figures(self, value: Any) -> Composed:
        """Names with their values."""
        if isinstance(value, Mapping) and "items" not in value:
            return Composed([f"- {one_line(str(k))}: {said(v)}" for k, v in value.items()])
        lines = []
        for item in listed(value):
            about = item if isinstance(item, Mapping) else {"value": item}
            name = about.get("label") or about.get("name") or ""
            unit = f" {about['unit']}" if about.get("unit") else ""
            lines.append(f"- {name}{': ' if name else ''}{said(about.get('value'))}{unit}")
        return Composed(lines)

    def _quote(self, item: Any, composed: Composed, lead: str) -> None:
        if not isinstance(item, Mapping):
            return
        quote = one_line(quote_of(item))[:QUOTE_CHARACTERS_MAX]
        if not quote:
            return
        composed.lines.append(f"{lead}“{quote}”{self._citation(item)}")
        composed.quotes.append(
            {
                "document_id": document_of(item),
                "section": section_of(item),
                "heading": str(item.get("heading", "")),
                "quote": quote,
            }
        )

    def _citation(self, item: Mapping[str, Any]) -> str:
        document = document_of(item)
        if not document:
            return ""
        title = self._titles.get(document) or str(item.get("title") or document)
        section = section_of(item)
        place = f" §{section}" if section is not None else " §"
        heading = one_line(str(item.get("heading", "")))
        return f" [{bracketless(title)}{place}{' ' if heading else ''}{bracketless(heading)}]"


def documents_in(value: Any) -> list[str]:
    """Ids of the documents that a value quotes, in order."""
    found: dict[str, None] = {}
    for item in listed(value):
        if isinstance(item, Mapping):
            for about in [item, *(p for p in listed(item.get("positions")))]:
                if isinstance(about, Mapping) and (document := document_of(about)):
                    found[document] = None
    return list(found)


def compose(title: str, parts: Iterable[tuple[str, Sequence[str]]]) -> str:
    """The whole report from headings and lines; a part that does not fit is cut, and says so."""
    blocks = [f"# {one_line(title)}"]
    room = MARKDOWN_CHARACTERS_MAX
    for heading, lines in parts:
        body = "\n".join(lines)
        if len(body) > room:
            body = body[:room].rpartition("\n")[0] + "\n\n(cut here: the report is too long)"
        room -= len(body)
        blocks.append(f"## {one_line(heading)}\n\n{body}" if heading else body)
        if room <= 0:
            break
    return "\n\n".join(blocks) + "\n"


def listed(value: Any) -> list[Any]:
    """The items of a value: of a list, of an object's `items` or `disagreements`, or itself."""
    if isinstance(value, Mapping):
        for name in ("items", "disagreements"):
            if isinstance(value.get(name), list | tuple):
                return list(value[name])[:LINES_MAX]
        return [value]
    if value is None or value == "":
        return []
    return list(value)[:LINES_MAX] if isinstance(value, list | tuple) else [value]


def columns_and_rows(value: Any) -> tuple[list[str], list[list[Any]]]:
    """A table out of `{columns, rows}` or a list of objects."""
    if isinstance(value, Mapping) and isinstance(value.get("rows"), list | tuple):
        columns = [
            column.get("name", "") if isinstance(column, Mapping) else column
            for column in listed(value.get("columns"))
        ]
        rows = [list(row) if isinstance(row, list | tuple) else [row] for row in value["rows"]]
        return [said(column) for column in columns][:COLUMNS_MAX], rows
    items = [item for item in listed(value) if isinstance(item, Mapping)]
    names = list(dict.fromkeys(str(name) for item in items for name in item))[:COLUMNS_MAX]
    return names, [[item.get(name, "") for name in names] for item in items]


def row_of(cells: Sequence[Any]) -> str:
    """One row of a Markdown table."""
    shown = (
        one_line(said(c))[:CELL_CHARACTERS_MAX].replace("|", "\\|") for c in cells[:COLUMNS_MAX]
    )
    return f"| {' | '.join(shown)} |"


def document_of(item: Mapping[str, Any]) -> str:
    """The document that an item quotes."""
    return str(item.get("document_id") or item.get("document") or "")


def section_of(item: Mapping[str, Any]) -> int | None:
    """The section that an item quotes."""
    section = item.get("section_ordinal", item.get("ordinal", item.get("section")))
    return section if isinstance(section, int) else None


def quote_of(item: Mapping[str, Any]) -> str:
    """The quoted words of an item."""
    for name in ("quote", "text", "sentence", "body", "plain"):
        if isinstance(item.get(name), str) and item[name].strip():
            return str(item[name])
    return ""


def said(item: Any) -> str:
    """A value in words."""
    if item is None:
        return ""
    if isinstance(item, Mapping):
        return quote_of(item) or ", ".join(f"{k}: {said(v)}" for k, v in item.items())
    if isinstance(item, list | tuple):
        return ", ".join(said(each) for each in item)
    return str(item)


def one_line(text: str) -> str:
    """Without line breaks."""
    return " ".join(text.split())


def bracketless(text: str) -> str:
    """Without the brackets that would end a citation."""
    return text.replace("[", "(").replace("]", ")")
