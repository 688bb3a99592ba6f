"""Durable runs of workflows that do nothing, to their ends as any watcher of the bus hears them.

A step that only computes is done in the transaction that starts its run. A step that asks has a
request on the bus and a commit of its own: that is what engines call a step, so both are measured.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import nats
from nats.aio.msg import Msg

from bus.client import Ask, Client
from bus.clock import Clock
from bus.credentials import Signer
from bus.envelope import Origin
from schemas.principal import Principal
from schemas.workflows import definitions, runs
from schemas.workflows.definitions import CreateWorkflow
from schemas.workflows.document import Document
from schemas.workflows.runs import RunEnded, StartWorkflow
from tests.load.keepalive import Doors, Measured
from tests.load.machine import Machine
from tests.load.rows import Row, with_cpu

SECONDS = 6.0
END_S = 30
MANY, MANY_STEPS, DOORS, MANY_S = 1_000, 10, 32, 180.0
ENDED = f"{RunEnded.subject_root()}.*"
COMPUTES: dict[str, Any] = {"type": "set", "value": {"n": "$.inputs.n"}}
ASKS: dict[str, Any] = {"type": "call", "operation": "identity.me", "input": {}}


def document(step: dict[str, Any], count: int) -> Document:
    """So many of the step, one after another."""
    steps = [{"key": f"step-{number}"} | step for number in range(count)]
    return Document.model_validate({"steps": steps})


class Ends:
    """When runs ended and how, heard perhaps before their start was answered."""

    def __init__(self) -> None:
        self._known: dict[str, asyncio.Future[tuple[float, str]]] = {}

    def of(self, run_id: str) -> asyncio.Future[tuple[float, str]]:
        """The time and the status."""
        if run_id not in self._known:
            self._known[run_id] = asyncio.get_running_loop().create_future()
        return self._known[run_id]

    async def heard(self, message: Msg) -> None:
        """A run has ended."""
        future = self.of(message.subject.rpartition(".")[2])
        if not future.done():
            run = json.loads(message.data)["run"]
            future.set_result((time.perf_counter(), run["status"]))


@asynccontextmanager
async def heard_ends(machine: Machine) -> AsyncIterator[Ends]:
    """What a watcher hears meanwhile."""
    connection = await nats.connect(
        machine.bus_url, nkeys_seed=machine.seed("watcher"), inbox_prefix="_INBOX.watcher"
    )
    ends = Ends()
    try:
        await connection.subscribe(ENDED, cb=ends.heard)
        await connection.flush()
        yield ends
    finally:
        await connection.close()


class Runs:
    """Starts runs over the bus."""

    def __init__(self, client: Client, signer: Signer, ends: Ends) -> None:
        self._client, self._signer, self._ends, self._clock = client, signer, ends, Clock()
        self.workflow_id = ""

    def _how(self, key: str) -> Ask:
        principal = Principal(id="admin", kind="key", roles=("admin",))
        return Ask(self._signer.sign(principal), Origin("admin", self._clock.new_id()), key=key)

    async def create(self, what: Document) -> None:
        """The workflow of this measurement."""
        command = CreateWorkflow(name=f"bench-{secrets.token_hex(5)}", document=what)
        made = await self._client.ask(definitions.create, command, self._how(secrets.token_hex(8)))
        self.workflow_id = made.id

    async def one(self) -> bool:
        """From the request to the event of its end; whether that is a good one."""
        command = StartWorkflow(id=self.workflow_id, inputs={"n": 1})
        run = await self._client.ask(runs.start, command, self._how(secrets.token_hex(8)))
        _, status = await asyncio.wait_for(self._ends.of(run.id), END_S)
        return status == "succeeded"


async def durable_runs(machine: Machine, step: dict[str, Any], at_once: int) -> Row:
    """Runs of three such steps, so many in flight; CPU over all processes but the client."""
    asking = await nats.connect(
        machine.bus_url, nkeys_seed=machine.seed("edge"), inbox_prefix="_INBOX.edge"
    )
    try:
        async with heard_ends(machine) as ends:
            all_runs = Runs(Client(asking, Clock()), Signer("edge", machine.data / "secrets"), ends)
            await all_runs.create(document(step, 3))
            return await with_cpu(machine.pids(), lambda: over_and_over(all_runs, at_once))
    finally:
        await asking.close()


async def over_and_over(all_runs: Runs, at_once: int) -> Measured:
    """One run after another, in so many lines."""
    measured, started = Measured(), time.perf_counter()

    async def line() -> None:
        while time.perf_counter() - started < SECONDS:
            began = time.perf_counter()
            if await all_runs.one():
                measured.latencies_s.append(time.perf_counter() - began)
            else:
                measured.failed += 1

    await asyncio.gather(*(line() for _ in range(at_once)))
    measured.seconds = time.perf_counter() - started
    return measured


async def many_runs(machine: Machine, step: dict[str, Any]) -> Row:
    """A thousand runs of ten steps, all started over HTTP as fast as that takes them."""
    name = f"bench-{secrets.token_hex(5)}"
    what = document(step, MANY_STEPS).model_dump(mode="json", exclude_unset=True)
    async with Doors(*machine.place, machine.key, DOORS) as doors, heard_ends(machine) as ends:
        made = await doors.post("/api/v1/workflows", {"name": name, "document": what})
        batch = Batch(doors, f"/api/v1/workflows/{made['id']}/runs", ends)
        row = await with_cpu(machine.pids(), batch.all)
    row.note = f"all started after {batch.started_s:.1f} s"
    return row


class Batch:
    """Many runs; each is timed from its own request."""

    def __init__(self, doors: Doors, place: str, ends: Ends) -> None:
        self._doors, self._place, self._ends = doors, place, ends
        self._turn = asyncio.Semaphore(DOORS)
        self._measured = Measured()
        self.started_s = 0.0

    async def all(self) -> Measured:
        """To the last end."""
        began = time.perf_counter()
        ended = await asyncio.gather(
            *(self._one(began) for _ in range(MANY)), return_exceptions=True
        )
        ends = [end for end in ended if not isinstance(end, BaseException)]
        self._measured.failed += len(ended) - len(ends)
        self._measured.seconds = max(ends, default=began) - began
        return self._measured

    async def _one(self, began: float) -> float:
        async with self._turn:
            sent = time.perf_counter()
            run = await self._doors.post(self._place, {"inputs": {"n": 1}})
            self.started_s = time.perf_counter() - began
        ended, status = await asyncio.wait_for(self._ends.of(run["id"]), MANY_S)
        if status == "succeeded":
            self._measured.latencies_s.append(ended - sent)
        else:
            self._measured.failed += 1
        return ended
