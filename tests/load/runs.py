"""Durable runs: a workflow of three steps that do nothing, started over the bus, to its end."""

import asyncio
import secrets
import time
from pathlib import Path

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
from tests.load.cases import Row, bus_url, seed_of, with_cpu
from tests.load.keepalive import Measured
from tests.load.machine import Machine

SECONDS = 6.0
ENDED = f"{RunEnded.subject_root()}.*"
NO_OPS = Document.model_validate(
    {"steps": [{"key": key, "type": "set", "value": {"n": "$.inputs.n"}} for key in "abc"]}
)


class Runs:
    """Starts runs, and hears how they end as any watcher of the bus does."""

    def __init__(self, client: Client, signer: Signer) -> None:
        self._client, self._signer, self._clock = client, signer, Clock()
        self._ended: dict[str, asyncio.Future[None]] = {}
        self._early = set[str]()
        self.workflow_id = ""

    async def heard(self, message: Msg) -> None:
        """A run has ended, perhaps before its start was answered."""
        run_id = message.subject.rpartition(".")[2]
        future = self._ended.pop(run_id, None)
        if future is None:
            self._early.add(run_id)
        elif not future.done():
            future.set_result(None)

    def _how(self, key: str) -> Ask:
        principal = Principal(id="admin", kind="key", roles=("admin",))
        return Ask(self._signer.sign(principal), Origin("admin", self._clock.new_id()), key=key)

    async def create(self) -> None:
        """The workflow of this measurement."""
        command = CreateWorkflow(name=f"bench-{secrets.token_hex(5)}", document=NO_OPS)
        made = await self._client.ask(definitions.create, command, self._how(secrets.token_hex(8)))
        self.workflow_id = made.id

    async def one(self) -> None:
        """From the request to the event of its end."""
        command = StartWorkflow(id=self.workflow_id, inputs={"n": 1})
        run = await self._client.ask(runs.start, command, self._how(secrets.token_hex(8)))
        if run.id in self._early:
            self._early.discard(run.id)
            return
        future = self._ended[run.id] = asyncio.get_running_loop().create_future()
        await asyncio.wait_for(future, 30)


async def durable_runs(machine: Machine, at_once: int) -> Row:
    """Runs of three no-op steps, so many in flight; CPU over all processes but the client."""
    asking = await nats.connect(
        bus_url(machine), nkeys_seed=seed_of(machine, "edge"), inbox_prefix="_INBOX.edge"
    )
    watching = await nats.connect(
        bus_url(machine), nkeys_seed=seed_of(machine, "watcher"), inbox_prefix="_INBOX.watcher"
    )
    signer = Signer("edge", Path(machine.status["data"]) / "secrets")
    all_runs = Runs(Client(asking, Clock()), signer)
    await watching.subscribe(ENDED, cb=all_runs.heard)
    await watching.flush()
    await all_runs.create()
    try:
        return await with_cpu(
            f"durable run of 3 steps, {at_once} at once", machine.pids(),
            lambda: over_and_over(all_runs, at_once),
        )  # fmt: skip
    finally:
        await asking.close()
        await watching.close()


async def over_and_over(all_runs: Runs, at_once: int) -> Measured:
    """One run after another, in so many lines."""
    measured, started = Measured(), time.perf_counter()

    async def line() -> None:
        while time.perf_counter() - started < SECONDS:
            began = time.perf_counter()
            await all_runs.one()
            measured.latencies_s.append(time.perf_counter() - began)

    await asyncio.gather(*(line() for _ in range(at_once)))
    measured.seconds = time.perf_counter() - started
    return measured
