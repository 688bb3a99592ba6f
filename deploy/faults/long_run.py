"""A run of some two hundred steps, while one process after another is killed.

    each    a list in parts, an effect outside for each
    both    side by side: an effect and a wait; a question to a person and an effect
    back    a run of another workflow that fails, and takes its effect back

Every effect is counted outside, and has to be had once.
"""

import asyncio
import contextlib
import time
from typing import Any

from deploy.faults.fault import NotProvoked, World
from deploy.faults.rig import BUSES, EDGES, LAYERS
from deploy.faults.workload import TOOL, effect, note
from schemas.workflows.runs import OPEN

ITEMS = 64
KILL_EVERY_S = 2.0
RUN_S_MAX = 240.0


async def outlives_everybody(world: World) -> None:
    """Start the run, and kill a process every two seconds until it has ended.

    Raises:
        NotProvoked: It does not end.
    """
    key = f"{world.load.mark}-long"
    run = await begin(world, key)
    until = time.monotonic() + RUN_S_MAX
    while not await is_over(world, run):
        if time.monotonic() > until:
            raise NotProvoked(f"the run {run} did not end within {RUN_S_MAX:.0f} s")
        await kill_one(world)
        await asyncio.sleep(KILL_EVERY_S)
    await world.rig.healthy()


async def begin(world: World, key: str) -> str:
    """Make both workflows and start the run; its id."""
    first = world.load.first
    await first.ask("POST", "/workflows", taken_back(key), f"{key}-back")
    _, flow = await first.ask("POST", "/workflows", long(key), f"{key}-flow")
    effects = [*(f"each/{n}" for n in range(ITEMS)), "left", "right", "there", "back"]
    world.load.wants(key, [f"{key}/{name}" for name in effects])
    run = await first.start(flow["id"], key)
    world.load.runs[run] = "/workflow-runs"
    return run


async def is_over(world: World, run: str) -> bool:
    """Whether it has ended; answers its question when it asks."""
    first, path = world.load.first, f"/workflow-runs/{run}"
    _, found = await first.ask("GET", path)
    if found["status"] in OPEN:
        answer = {"path": "both:right.may", "answer": "yes"}
        await first.ask("POST", f"{path}/answers", answer, f"{run}-may")  # refused until it asks
    return found["status"] not in OPEN


async def kill_one(world: World) -> None:
    """Any of all processes, by kill -9; one that is just coming back is let be."""
    rig = world.rig
    with contextlib.suppress(ProcessLookupError):
        rig.kill(world.draw.choice((*LAYERS, *EDGES, *BUSES, rig.primary, "valkey")))


def long(key: str) -> dict[str, Any]:
    """The workflow."""
    steps: list[dict[str, Any]] = [
        {"key": "each", "type": "map", "items": {"$range": ITEMS}, "at_once": 6, "steps": [
            note("do", "each/", "$.index"),
            {"key": "double", "type": "set", "value": {"$mul": ["$.index", 2]}},
            {"key": "more", "type": "set", "value": {"$add": ["$.steps.double.output", 1]}},
        ]},
        {"key": "both", "type": "parallel", "branches": {
            "left": [note("left"), {"key": "pause", "type": "wait", "for_s": 5}],
            "right": [{"key": "may", "type": "human", "question": "May it?"}, note("right")],
        }},
        {"key": "back", "type": "workflow", "workflow": f"back-{key}", "on_error": "continue",
         "input": {"run": "$.inputs.run"}},
    ]  # fmt: skip
    return {"name": f"long-{key}", "document": {"at_once": 8, "steps": steps}}


def taken_back(key: str) -> dict[str, Any]:
    """What fails in its second step, and takes the first one back."""
    undo = {"operation": "tools.invoke", "input": {"name": TOOL, "arguments": effect("back")}}
    steps = [
        note("there") | {"undo": undo},
        {"key": "broken", "type": "call", "operation": "agents.get", "input": {"id": "none"}},
    ]
    return {"name": f"back-{key}", "document": {"steps": steps}}
