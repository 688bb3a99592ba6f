"""Watching a goal until it ends: its events as they happen, and a look at it now and then.

The look is the safety net: should no event come through, the goal's end is still noticed.
Watching never changes anything; leaving, by Ctrl-C or a timeout, cancels nothing.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator
from typing import Any

from edge.cli import output
from edge.cli.door import Door, Refusal
from edge.cli.feed import Feed, Happened
from edge.cli.place import NotRunning
from edge.cli.progress import ENDED, Progress
from edge.cli.tree import Shown
from schemas import agents, goals

POLL_S = 3.0
SETTLE_S = 0.3
ENDS = tuple(f"goals.{status}" for status in ENDED)
QUEUE_MAX = 10_000
LISTEN_AGAIN_S = 0.3
LISTEN_S_MAX = 30.0


class Watch:
    """One goal being watched."""

    def __init__(self, door: Door, goal_id: str, *, as_json: bool) -> None:
        self.door = door
        self.goal_id = goal_id
        self.progress = Progress()
        self._as_json = as_json
        self._feed = Feed(
            door, {"goal_id": goal_id}, from_log={"correlation_id": goal_id, "limit": 200}
        )
        self._lost = ""
        self._told_end = False

    async def until_end(self, timeout_s: float | None = None) -> bool:
        """Show everything until the goal ends; False when the time was up before.

        Raises:
            Refusal: There is no such goal, or it may not be seen.
            NotRunning: Nobody answers at the beginning.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        self.progress.take("goal", await self.door.ask(goals.get, {"id": self.goal_id}))
        with Shown(self.progress, quiet=self._as_json, notice=lambda: self._lost) as shown:
            listening = asyncio.create_task(listen(self.door, self.progress, shown.drawn))
            try:
                async with contextlib.aclosing(self.happenings(until)) as happenings:
                    async for event in happenings:
                        if event is not None and self._as_json:
                            output.emit(event)
                        shown.changed()
            finally:
                listening.cancel()
            await self._look()
            shown.changed()
        return self.progress.ended

    async def happenings(self, until: float | None = None) -> AsyncGenerator[Happened | None, None]:
        """Events until the goal has ended or `until`; None where only time has passed."""
        arriving: asyncio.Queue[Happened] = asyncio.Queue(QUEUE_MAX)
        reading = asyncio.create_task(self._pump(arriving))
        looked = time.monotonic()
        try:
            while until is None or time.monotonic() < until:
                if reading.done():
                    reading.result()  # only a refusal ends it
                event = await soon(arriving, SETTLE_S if self._told_end else POLL_S)
                if event is not None:
                    self._take(event)
                elif self.progress.ended:
                    return  # told of the end, or silent for so long after it
                yield event
                if time.monotonic() - looked > POLL_S:
                    await self._look()
                    looked = time.monotonic()
        finally:
            reading.cancel()

    def _take(self, event: Happened) -> None:
        self.progress.apply(event["data"])
        if event["type"] in ENDS and self.progress.ended:
            self._told_end = True

    async def _pump(self, arriving: asyncio.Queue[Happened]) -> None:
        async for event in self._feed.events():
            await arriving.put(event)

    async def _look(self) -> None:
        """Read goal, plan and tasks; an edge that is away is tried again later."""
        try:
            self.progress.take("goal", await self.door.ask(goals.get, {"id": self.goal_id}))
            if self.progress.goal["current_plan_id"]:
                self.progress.take("plan", await self.door.ask(goals.plan, {"id": self.goal_id}))
                for task in (await self.door.ask(goals.tasks, {"id": self.goal_id}))["items"]:
                    self.progress.take("task", task)
            await self._name_agents()
            self._lost = ""
        except NotRunning as away:
            self._lost = f"{away}; trying again"
        except Refusal as refusal:
            if not refusal.retryable:
                raise
            self._lost = str(refusal)

    async def _name_agents(self) -> None:
        """Learn the names of agents that no event has named."""
        ids = {task["agent_id"] for task in self.progress.tasks.values() if task["agent_id"]}
        for agent_id in ids - self.progress.agents.keys():
            agent = await self.door.ask(agents.get, {"id": agent_id})
            self.progress.take("agent", agent)


async def soon(queue: asyncio.Queue[Any], timeout_s: float) -> Any:
    """The next of a queue, or None if there is none for so long."""
    try:
        async with asyncio.timeout(timeout_s):
            return await queue.get()
    except TimeoutError:
        return None


async def listen(door: Door, progress: Progress, drawn: bool) -> None:
    """What the model says now, for the eye only; nothing depends on it."""
    while drawn:
        step = progress.thinking()
        if step is None or not await hear(door, progress, step["id"]):
            await asyncio.sleep(LISTEN_AGAIN_S)


async def hear(door: Door, progress: Progress, step_id: str) -> bool:
    """The tokens of one step to their end; False if they cannot be heard, or not yet."""
    progress.last_text = ""
    try:
        async for event in door.sse("GET", f"/streams/models/{step_id}", silence_s=LISTEN_S_MAX):
            if event.event == "chunk":
                progress.last_text += str(json.loads(event.data).get("text", ""))
    except (NotRunning, Refusal):
        return False
    return True
