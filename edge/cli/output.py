"""What is printed: tables and panels for people, one JSON object a line for programs.

Results go to standard output; problems, hints and progress to standard error. Columns of a table
are chosen from the items themselves: what names a thing first, times last, nothing that is empty
in every row.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from edge.cli.door import Refusal

COLUMNS_MAX = 8
CELL_LENGTH_MAX = 60
PIPE_WIDTH = 200
FIRST = ("seq", "id", "event_id", "key", "name", "title", "type", "kind", "status", "ok")
LAST = ("created_at", "started_at", "requested_at", "occurred_at", "finished_at", "last_seen_at")
HIDDEN = {
    "version", "updated_at", "recorded_at", "hash", "content_hash", "params_hash", "request_id",
    "owner_id", "created_by", "source_uri", "causation_id", "correlation_id", "config", "limits",
    "brief", "payload", "input_schema", "output_schema", "metadata", "embedding", "digest",
}  # fmt: skip
COLOURS = {
    "succeeded": "green", "completed": "green", "indexed": "green", "ready": "green",
    "active": "green", "idle": "green", "finished": "green", "validated": "green",
    "running": "cyan", "executing": "cyan", "busy": "cyan", "planning": "cyan",
    "assigned": "cyan", "started": "cyan", "parsing": "cyan",
    "failed": "red", "timed_out": "red", "lost": "red", "needs_attention": "red",
    "rejected": "red", "cancelled": "yellow", "skipped": "yellow", "suspended": "yellow",
    "terminated": "dim", "deprecated": "dim", "deleted": "dim", "pending": "dim",
}  # fmt: skip


def console(*, error: bool = False) -> Console:
    """Where people read; wide when it is piped, because nothing wraps there."""
    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False)


def emit(value: Any) -> None:
    """One JSON object on a line of its own."""
    print(json.dumps(value, ensure_ascii=False, separators=(",", ":")), flush=True)


def show(reply: Any, *, as_json: bool) -> None:
    """A reply: a list as rows, anything else as one thing."""
    if isinstance(reply, bytes):
        sys.stdout.buffer.write(reply)
    elif as_json:
        for item in items_of(reply) if is_list(reply) else [reply]:
            emit(item)
    elif is_list(reply):
        show_items(items_of(reply))
    else:
        show_one(reply)


def is_list(reply: Any) -> bool:
    """A page, or hits: nothing but items and where to go on."""
    return isinstance(reply, dict) and "items" in reply and set(reply) <= {"items", "next"}


def items_of(reply: Mapping[str, Any]) -> list[Any]:
    """The items of a list."""
    return list(reply["items"])


def show_items(items: Sequence[Any]) -> None:
    """A table, or that there is nothing."""
    if items:
        console().print(table(items))
    else:
        console(error=True).print("[dim]nothing found[/]")


def table(items: Sequence[Any]) -> Table:
    """Items with their most telling columns."""
    rows = [flattened(item) for item in items]
    names = columns(rows)
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        is_id = name in ("id", "event_id")
        made.add_column(name.replace("_", " "), no_wrap=is_id)
    for row in rows:
        made.add_row(*(cell(name, row.get(name)) for name in names))
    return made


def flattened(item: Any) -> dict[str, Any]:
    """A hit `{"tool": {…}, "score": 1}` shows the tool's columns."""
    if not isinstance(item, dict):
        return {"value": item}
    inner = [v for v in item.values() if isinstance(v, dict) and "id" in v]
    return {**inner[0], **item} if len(inner) == 1 and "id" not in item else item


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """At most eight, the naming ones first and times last."""
    names = dict.fromkeys(name for row in rows for name in row)
    shown = [n for n in names if n not in HIDDEN and any(is_shown(row.get(n)) for row in rows)]
    times = [n for n in LAST if n in shown][:1]
    head = [n for n in FIRST if n in shown]
    rest = [n for n in shown if n not in (*head, *LAST)]
    return [*head, *rest][: COLUMNS_MAX - len(times)] + times


def is_shown(value: Any) -> bool:
    """Worth a column: there, and no object."""
    return value not in (None, "", [], {}) and not isinstance(value, dict)


def cell(name: str, value: Any) -> Text:
    """One value of a table."""
    if value is None:
        return Text("-", style="dim")
    if name.endswith("_at") and isinstance(value, str):
        return Text(ago(value), style="dim")
    if isinstance(value, list):
        value = ", ".join(v if isinstance(v, str) else short_json(v) for v in value)
    text = value if isinstance(value, str) else short_json(value)
    limit = None if name in ("id", "event_id") else CELL_LENGTH_MAX
    line = " ".join(text.split())
    clipped = line if limit is None or len(line) <= limit else line[: limit - 1] + "…"
    return Text(clipped, style=COLOURS.get(text, "") if name in ("status", "state") else "")


def short_json(value: Any) -> str:
    """A number, a flag, or compact JSON."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)


def ago(text: str, now: datetime | None = None) -> str:
    """A time as the distance from now."""
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return text
    seconds = ((now or datetime.now(UTC)) - then).total_seconds()
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if abs(seconds) >= size:
            distance = f"{abs(seconds) // size:.0f} {unit}"
            return f"{distance} ago" if seconds > 0 else f"in {distance}"
    return f"{max(seconds, 0):.0f} s ago"  # clocks differ by a moment


def show_one(thing: Any) -> None:
    """A thing as a panel of its fields; lists of objects inside it as tables below."""
    if not isinstance(thing, dict):
        console().print(thing if isinstance(thing, str) else short_json(thing))
        return
    lists = {name: value for name, value in thing.items() if isinstance(value, list) and value}
    tables = {name: value for name, value in lists.items() if isinstance(value[0], dict)}
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in thing.items():
        if name not in tables:
            grid.add_row(name.replace("_", " "), full(name, value))
    title = str(thing.get("title") or thing.get("name") or thing.get("id") or "")
    console().print(
        Panel(grid, title=escape(title[:CELL_LENGTH_MAX]) or None, title_align="left", expand=False)
    )
    for name, value in tables.items():
        console().print(f"[bold]{escape(name)}[/]", table(value), sep="\n")


def full(name: str, value: Any) -> Text:
    """One value of a panel, whole."""
    if name.endswith("_at") and isinstance(value, str):
        return Text(f"{value} ({ago(value)})")
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return Text(", ".join(value))
    if isinstance(value, dict | list):
        return Text(json.dumps(value, indent=2, ensure_ascii=False) if value else "-")
    if isinstance(value, str):
        return Text(value, style=COLOURS.get(value, "") if name == "status" else "")
    return cell(name, value)


HINTS = {
    401: "Set PORTAL_API_KEY, or run this on the machine and as the user of the installation.",
    403: "Ask an administrator for a role that allows it; `portal identity me` shows yours.",
    404: "The `list` command of the same domain shows what there is.",
    412: "Somebody changed it; read it again and send its new version.",
}


def hint_of(refusal: Refusal) -> str | None:
    """What to do about a problem."""
    if refusal.body.get("code") == "ERR_111":
        return HINTS[412]
    if refusal.retryable:
        return "The same command may succeed later."
    return HINTS.get(refusal.status)


def say_refusal(refusal: Refusal, *, as_json: bool) -> None:
    """A problem on standard error, with its code and what to do."""
    hint = hint_of(refusal)
    if as_json:
        body = refusal.body | ({"hint": hint} if hint else {})
        print(json.dumps({"error": body}, ensure_ascii=False), file=sys.stderr)
        return
    err = console(error=True)
    code, message = refusal.body.get("code"), refusal.body.get("message")
    err.print(f"[bold red]{escape(str(code))}[/] {escape(str(message))}")
    for name, value in (refusal.body.get("details") or {}).items():
        text = value if isinstance(value, str) else short_json(value)
        err.print(f"  {escape(name)}: {escape(text)}")
    if hint:
        err.print(f"[dim]hint: {escape(hint)}[/]")


def say_not_running(reason: Exception, *, as_json: bool) -> None:
    """That nobody answers, and how to change that."""
    hint = "Start it with `make run` or `portal up`, or set PORTAL_URL."
    if as_json:
        body = {"code": "NOT_RUNNING", "message": str(reason), "hint": hint}
        print(json.dumps({"error": body}), file=sys.stderr)
    else:
        err = console(error=True)
        err.print(f"[bold red]not running[/] {escape(str(reason))}")
        err.print(f"[dim]hint: {hint}[/]")
