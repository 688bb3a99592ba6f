"""`portal prove crash`: kill the workers in the middle of a step and count what happened twice.

    submit a goal ─► a step is finished, another in progress ─► kill -9 ─► the goal ends ─► count

It counts what the platform recorded, not what it says of itself in the end: every event of the
goal, every call of a tool, every billed call of the model, every artifact; and it has the log
replayed. The processes are this machine's, so it runs only there.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rich.table import Table

from edge.cli import exits, output
from edge.cli.derived import items
from edge.cli.door import Door
from edge.cli.feed import Happened, of_log
from edge.cli.place import NotRunning, find, installation
from edge.cli.watching import Watch
from schemas import events, goals, models, tools
from schemas.contract import Json

PARALLELISM = 4
FINISHED_BEFORE_KILL = 2
PATIENCE_S = 30.0
WORDS = {"type": "object", "properties": {"text": {"type": "string", "minLength": 10,
         "maxLength": 160}}, "required": ["text"], "additionalProperties": False}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing that was counted; `ok` when it is as it must be."""

    name: str
    found: str
    wanted: str
    ok: bool


async def run(arguments: argparse.Namespace) -> int:
    """Do it and print the verdict; 1 if anything happened twice or the goal did not complete."""
    if not worker_pids():
        raise NotRunning("no workers of an installation run on this machine")
    async with Door(find()) as door:
        goal = await door.ask(goals.submit, plan_of(arguments.tasks, uuid.uuid4().hex[:8]))
        tell(f"goal {goal['id']}: {arguments.tasks + 1} tasks", quiet=arguments.json)
        watch = Watch(door, goal["id"], as_json=True)
        until = time.monotonic() + arguments.timeout
        recovery_s = await watch_and_kill(watch, until, quiet=arguments.json)
        checks = await examine(watch, recovery_s)
    show(checks, goal["id"], as_json=arguments.json)
    return exits.OK if all(check.ok for check in checks) else exits.PROBLEM


def plan_of(count: int, mark: str) -> Json:
    """A goal whose tasks each ask the model, calculate and write; the last one gathers them."""
    writers = [writer(number, mark) for number in range(1, count + 1)]
    parts = [
        {"heading": f"Part {n}", "kind": "text", "value": {"$ref": f"inputs.part-{n}.text"}}
        for n in range(1, count + 1)
    ]
    last = {
        "key": "gather", "capabilities": ["write"], "title": "Gather the parts",
        "depends_on": [task["key"] for task in writers],
        "brief": {
            "objective": "Gather the parts in one report.",
            "steps": [report(f"Crash proof {mark}: all parts", parts)],
            "result": {
                "answer": f"{count} parts", "artifact_id": {"$ref": "steps.report.document_id"}
            },
        },
    }  # fmt: skip
    title = f"Crash proof {mark}"
    constraints = {"parallelism": PARALLELISM}
    return {"description": title, "title": title, "constraints": constraints,
            "tasks": [*writers, last]}  # fmt: skip


def writer(number: int, mark: str) -> Json:
    """A task with a step of each kind."""
    text = {"heading": "Text", "kind": "text", "value": {"$ref": "steps.draft.text"}}
    return {
        "key": f"part-{number}", "capabilities": ["write"], "title": f"Write part {number}",
        "brief": {
            "objective": f"Write part {number}.",
            "steps": [
                {"name": "figure", "tool": "calculator.evaluate",
                 "arguments": {"expression": f"{number} * 17 + 3"}},
                {"name": "draft", "ask": f"Write a sentence about the number {number}.",
                 "output_schema": WORDS, "tokens_max": 80},
                report(f"Crash proof {mark}: part {number}", [text]),
            ],
            "result": {"text": {"$ref": "steps.draft.text"}},
        },
    }  # fmt: skip


def report(title: str, parts: list[Json]) -> Json:
    """The step that writes an artifact."""
    arguments = {"title": title, "parts": parts}
    return {"name": "report", "tool": "artifact.report", "arguments": arguments}


async def watch_and_kill(watch: Watch, until: float, *, quiet: bool) -> float | None:
    """Watch the goal, kill the workers once; seconds from then to the next event, if any came."""
    killed_at: float | None = None
    recovery_s: float | None = None
    async with contextlib.aclosing(watch.happenings(until)) as happenings:
        async for event in happenings:
            if killed_at is None and in_the_middle(watch):
                killed_at = time.monotonic()
                dead = kill_workers()
                deadline = int(time.time() * 1000)
                tell(f"killed {dead} in the middle of a step", quiet=quiet)
            elif killed_at is not None and recovery_s is None and is_after(event, deadline):
                recovery_s = time.monotonic() - killed_at
                tell(f"progress again after {recovery_s:.1f} s", quiet=quiet)
    return recovery_s


def in_the_middle(watch: Watch) -> bool:
    """Some steps are recorded as finished, and one is being done."""
    states = Counter(step["status"] for step in watch.progress.steps.values())
    return states["finished"] >= FINISHED_BEFORE_KILL and states["started"] > 0


def is_after(event: Happened | None, unix_ms: int) -> bool:
    """The event was recorded after that moment; the clocks are this machine's."""
    from datetime import datetime

    when = (event or {}).get("ts")
    return when is not None and datetime.fromisoformat(when).timestamp() * 1000 > unix_ms


def worker_pids() -> list[int]:
    """Processes of this machine's installation that do the work."""
    processes = installation().get("processes") or []
    return [int(p["pid"]) for p in processes if p["name"].startswith("handlers") and p["pid"]]


def kill_workers() -> list[int]:
    """Kill them all at once, as a power cut would."""
    pids = worker_pids()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return pids


async def examine(watch: Watch, recovery_s: float | None) -> list[Check]:
    """Count everything that the goal left behind."""
    door, goal_id = watch.door, watch.goal_id
    door.patience_s = PATIENCE_S  # the edge asks nobody for a while after so many failures
    log = [of_log(e) async for e in items(door, events.query, {"correlation_id": goal_id})]
    called = [i async for i in items(door, tools.invocations, {"goal_id": goal_id})]
    known = [t async for t in items(door, tools.listing, {})]
    usage, goal, verified = await asyncio.gather(
        door.ask(models.usage, {"goal_id": goal_id}),
        door.ask(goals.get, {"id": goal_id}),
        door.ask(events.verify, {}),
    )
    repeatable = {tool["id"] for tool in known if tool["repeatable"]}
    model_steps = [s for s in watch.progress.steps.values() if s["kind"] == "model"]
    lines = [line for line in usage["lines"] if line["purpose"] != "embedding"]
    billed = sum(line["calls"] for line in lines)
    repeated = sum(line["repeated"] for line in lines)
    fired = fired_twice(called, repeatable) + written_twice(log)
    shown_s = "never" if recovery_s is None else f"{recovery_s:.1f}"
    return [
        Check("goal", goal["status"], "completed", goal["status"] == "completed"),
        none_of("steps re-run after they were recorded", redone(log)),
        Check("model calls billed", f"{billed} for {len(model_steps)} steps", "at most one a step",
              0 < billed <= len(model_steps)),
        Check("model calls billed twice", str(repeated), "0", repeated == 0),
        none_of("tools fired twice", fired),
        Check("seconds from kill to next progress", shown_s, "some", recovery_s is not None),
        Check("events verify", "ok" if verified["ok"] else "differs", "ok", verified["ok"]),
    ]  # fmt: skip


def none_of(name: str, count: int) -> Check:
    """What must not have happened."""
    return Check(name, str(count), "0", count == 0)


def redone(log: Iterable[Happened]) -> int:
    """How many steps were begun or finished again after they had been recorded as finished."""
    finished: set[str] = set()
    again: set[str] = set()
    for event in log:
        if event["type"] in ("agents.step_started", "agents.step_finished"):
            step_id = event["entity_id"]
            if step_id in finished:
                again.add(step_id)
            if event["type"] == "agents.step_finished":
                finished.add(step_id)
    return len(again)


def fired_twice(called: Iterable[Json], repeatable: set[str]) -> int:
    """How many calls took effect twice: recorded as two, or tried again though not repeatable."""
    listed = list(called)
    times = Counter((c["task_id"], c["tool_name"], c["params_hash"]) for c in listed)
    doubles = sum(count - 1 for count in times.values())
    tried_again = [c for c in listed if c["attempts"] > 1 and c["tool_id"] not in repeatable]
    return doubles + len(tried_again)


def written_twice(log: Iterable[Happened]) -> int:
    """How many artifacts were stored more than once; each has a title of its own."""
    titles = Counter(
        event["data"]["document"]["title"] for event in log if event["type"] == "documents.received"
    )
    return sum(count - 1 for count in titles.values())


def tell(text: str, *, quiet: bool) -> None:
    """Progress, on standard error."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def show(checks: list[Check], goal_id: str, *, as_json: bool) -> None:
    """The verdict."""
    ok = all(check.ok for check in checks)
    if as_json:
        output.emit({"ok": ok, "goal_id": goal_id, "checks": [asdict(check) for check in checks]})
        return
    table = Table("check", "found", "wanted", "", box=None)
    for check in checks:
        mark = "[green]✔[/]" if check.ok else "[red]✘[/]"
        table.add_row(check.name, check.found, check.wanted, mark)
    output.console().print(table)
    verdict = "[bold green]nothing happened twice[/]" if ok else "[bold red]the proof failed[/]"
    output.console().print(verdict)
