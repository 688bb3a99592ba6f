"""`portal runs states|at|fork|diff|rerun`: runs through time, whatever they are runs of.

A run is one of an agent or one of a workflow; both have the same operations, so here it is looked
up which it is. The same commands stand derived below `portal agents` and `portal workflows`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from rich.markup import escape

from edge.cli import exits, output
from edge.cli.derived import items
from edge.cli.door import Door, Refusal
from edge.cli.place import find
from schemas import agents
from schemas.contract import Json
from schemas.workflows import runs

VALUE_LENGTH_MAX = 100
MARKS = {
    "same": "[green]=[/]", "changed": "[yellow]≠[/]",
    "only_in_first": "[red]-[/]", "only_in_second": "[cyan]+[/]",
}  # fmt: skip
NOT_HERE = (403, 404)


async def kind_of(door: Door, run_id: str) -> ModuleType:
    """The module that declares the operations of this run.

    Raises:
        Refusal: There is none of either kind, or it may not be seen.
    """
    try:
        await door.ask(agents.run, {"id": run_id})
    except Refusal as refusal:
        if refusal.status not in NOT_HERE:
            raise
        await door.ask(runs.run, {"id": run_id})
        return runs
    return agents


async def states(arguments: argparse.Namespace) -> int:
    """Every state of a run and of its steps."""
    async with Door(find()) as door:
        kind = await kind_of(door, arguments.id)
        found = [state async for state in items(door, kind.run_states, {"id": arguments.id})]
    output.show({"items": found}, as_json=arguments.json)
    return exits.OK


async def at(arguments: argparse.Namespace) -> int:
    """A run with its steps as they were."""
    wanted = {name: getattr(arguments, name) for name in ("id", "seq", "at")}
    asked = {name: value for name, value in wanted.items() if value is not None}
    async with Door(find()) as door:
        past = await door.ask((await kind_of(door, arguments.id)).run_at, asked)
    if arguments.json:
        output.emit(past)
    else:
        output.show_one(past["run"])
        output.show_items(past["steps"])
    return exits.OK


async def fork(arguments: argparse.Namespace) -> int:
    """Another run, from a step on."""
    asked = {"id": arguments.id, "from_step": arguments.step, "changes": changes(arguments.set)}
    async with Door(find()) as door:
        forked = await door.ask((await kind_of(door, arguments.id)).fork_run, asked, arguments.key)
    output.show(forked, as_json=arguments.json)
    return exits.OK


async def diff(arguments: argparse.Namespace) -> int:
    """Two runs, step by step; 1 if they differ, as `diff` has it."""
    asked = {"id": arguments.id, "other": arguments.other}
    async with Door(find()) as door:
        compared = await door.ask((await kind_of(door, arguments.id)).compare_runs, asked)
    if arguments.json:
        output.emit(compared)
    else:
        show_lines(compared)
    return exits.OK if compared["same"] else exits.PROBLEM


async def rerun(arguments: argparse.Namespace) -> int:
    """A finished run again, from what was recorded; 1 if it is not as it was."""
    asked = {
        "id": arguments.id, "offline": arguments.offline, "changes": changes(arguments.changes),
    }  # fmt: skip
    async with Door(find()) as door:
        report = await door.ask((await kind_of(door, arguments.id)).rerun, asked, arguments.key)
    if arguments.json:
        output.emit(report)
    else:
        show_lines(report)
        show_end(report)
    return exits.OK if report["ok"] else exits.PROBLEM


def changes(pairs: Sequence[str]) -> Json:
    """`model=small` and `inputs.count=3`: the value is JSON if it can be, else text.

    Raises:
        Refusal: One has no `=`.
    """
    found = Json()
    for pair in pairs:
        name, given, value = pair.partition("=")
        if not given:
            raise Refusal(400, {"code": "USAGE", "message": f"{pair!r} is not NAME=VALUE"})
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def show_lines(report: Mapping[str, Any]) -> None:
    """What the runs and each step have in common and what not."""
    out = output.console()
    for step in report["steps"]:
        out.print(f"{MARKS[step['verdict']]} {escape(step['step'])}")
        show_differences(step["differences"])
    if report["run"]:
        out.print("[yellow]≠[/] [bold]the run itself[/]")
        show_differences(report["run"])
    if report["left_out"]:
        out.print(f"[dim]and {report['left_out']} more differences[/]")


def show_differences(differences: Sequence[Mapping[str, Any]]) -> None:
    """Pointer, what was, what is."""
    out = output.console()
    for one in differences:
        out.print(f"    [bold]{escape(one['path'] or '/')}[/]")
        out.print(f"      [red]- {escape(short(one['first']))}[/]")
        out.print(f"      [green]+ {escape(short(one['second']))}[/]")


def short(value: Any) -> str:
    """The beginning of a value, on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= VALUE_LENGTH_MAX else line[: VALUE_LENGTH_MAX - 1] + "…"


def show_end(report: Mapping[str, Any]) -> None:
    """How a rerun has ended, and where it went another way."""
    out, diverged = output.console(), report["diverged"]
    if diverged is None:
        out.print(f"[bold]{escape(str(report['status']))}[/], as recorded, nobody was asked")
        return
    problem = diverged["problem"]
    out.print(
        f"[red]✘ {escape(diverged['step'])}[/] {problem['code']} {escape(problem['message'])}"
    )
    show_differences(diverged["differences"])
    if report["fork_id"]:
        out.print(f"goes on in the run {report['fork_id']}")
