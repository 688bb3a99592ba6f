"""`portal goals run|watch|result`: a goal from its words to its result.

The exit status is the goal's: 0 completed, 1 failed, 4 cancelled. Ctrl-C and `--timeout` stop the
watching and nothing else; `portal goals watch ID` takes it up again.
"""

import argparse
import sys
from typing import Any

from rich.markdown import Markdown
from rich.markup import escape

from edge.cli import exits, output
from edge.cli.derived import written
from edge.cli.documents import fetch
from edge.cli.door import Door, Refusal
from edge.cli.place import find
from edge.cli.progress import Thing
from edge.cli.upload import send_file
from edge.cli.watching import Watch
from schemas import documents, goals

STATUSES = {"completed": exits.OK, "failed": exits.PROBLEM, "cancelled": exits.CANCELLED}
TEXTS = ("text/markdown", "text/plain")


async def run(arguments: argparse.Namespace) -> int:
    """Send the files, submit the goal, watch it."""
    async with Door(find()) as door:
        attached = [await attach(door, file, arguments.json) for file in arguments.attach]
        constraints = {"parallelism": arguments.parallelism} if arguments.parallelism else None
        given = {
            "description": " ".join(arguments.description), "document_ids": attached,
            "title": arguments.title, "priority": arguments.priority, "constraints": constraints,
        }  # fmt: skip
        command = {name: value for name, value in given.items() if value not in (None, [])}
        goal = await door.ask(goals.submit, command, arguments.key)
        if not arguments.json:
            output.console(error=True).print(f"[dim]goal {goal['id']}[/]")
        return await watched(door, goal["id"], arguments)


async def attach(door: Door, file: str, as_json: bool) -> str:
    """Send one file and return its document's id."""
    document = await send_file(door, documents.attach, file, {})
    if not as_json:
        name, size = escape(document["title"]), document["size_bytes"]
        output.console(error=True).print(f"[dim]attached {name} ({size:,} bytes)[/]")
    return str(document["id"])


async def watch(arguments: argparse.Namespace) -> int:
    """Watch a goal that was submitted before."""
    async with Door(find()) as door:
        return await watched(door, arguments.id, arguments)


async def watched(door: Door, goal_id: str, arguments: argparse.Namespace) -> int:
    """Watch to the end and show the result; the exit status is the goal's."""
    watching = Watch(door, goal_id, as_json=arguments.json)
    ended = False
    try:
        ended = await watching.until_end(arguments.timeout)
    finally:
        if not ended and sys.exc_info()[0] is not Refusal:
            print(f"The goal goes on. Watch it: portal goals watch {goal_id}", file=sys.stderr)
    if not ended:
        return exits.STILL_RUNNING
    goal = watching.progress.goal
    if arguments.json:
        output.emit(goal)
    else:
        await show_result(door, goal)
    return STATUSES[goal["status"]]


async def result(arguments: argparse.Namespace) -> int:
    """Show, or write to a file, what a goal has given."""
    async with Door(find()) as door:
        goal = await door.ask(goals.get, {"id": arguments.id})
        artifact_id = (goal["result"] or {}).get("artifact_id")
        if arguments.output:
            if artifact_id is None:
                raise Refusal(404, {"code": "ERR_001", "message": "The goal has no artifact."})
            written(arguments.output, await fetch(door, artifact_id))
        elif arguments.json:
            output.emit(goal["result"])
        else:
            await show_result(door, goal)
    return STATUSES.get(goal["status"], exits.STILL_RUNNING)


async def show_result(door: Door, goal: Thing) -> None:
    """Answer, artifact, quality, or why there is none; results on standard output."""
    out = output.console()
    if goal["status"] != "completed":
        error: dict[str, Any] = goal["error"] or {}
        text = f"{goal['status']}: {error.get('code', '')} {error.get('message', '')}"
        output.console(error=True).print(f"[bold red]{escape(text.strip())}[/]")
        return
    given = goal["result"] or {}
    answer, artifact = str(given.get("answer") or ""), given.get("artifact_id")
    written = (await fetch(door, artifact)).decode(errors="replace") if artifact else ""
    if answer.strip() != written.strip():
        out.print(answer, markup=False, style="bold")
    for rows in given.get("tables") or ():
        show_table(rows)
    if artifact:
        await show_artifact(door, artifact, written)
    show_quality(given.get("quality") or {}, goal)


def show_table(rows: Any) -> None:
    """One table of a result, `{"columns": […], "rows": [[…]]}` or a list of objects."""
    if isinstance(rows, dict) and "columns" in rows:
        names = [c if isinstance(c, str) else str(c.get("name")) for c in rows["columns"]]
        rows = [dict(zip(names, row, strict=False)) for row in rows.get("rows", ())]
    if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
        output.console().print(output.table(rows))


async def show_artifact(door: Door, document_id: str, content: str) -> None:
    """The artifact as Markdown, where its parts came from, and how to fetch it."""
    document = await door.ask(documents.get, {"id": document_id})
    out, err = output.console(), output.console(error=True)
    rendered = (document["media_type"] or "").startswith(TEXTS) and sys.stdout.isatty()
    out.rule(style="dim") if rendered else None
    out.print(Markdown(content) if rendered else content, markup=False)
    sources = document["metadata"].get("provenance")
    count = len(sources) if isinstance(sources, list) else sources
    if count:
        err.print(f"[dim]{count} parts with their sources: portal documents get {document_id}[/]")
    err.print(f"[dim]artifact: portal documents content {document_id}[/]")


def show_quality(quality: Thing, goal: Thing) -> None:
    """Score and findings, tokens and time."""
    err = output.console(error=True)
    if quality:
        score = quality.get("score")
        shown = f"{score:.2f}" if isinstance(score, float) else score
        err.print(f"quality: [bold]{quality.get('grade')}[/] ({shown})")
        for finding in quality.get("findings") or ():
            err.print(f"  [yellow]-[/] {escape(str(finding))}")
    used = goal["prompt_tokens"] + goal["completion_tokens"]
    err.print(f"[dim]{used:,} tokens[/]")
