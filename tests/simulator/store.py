"""Postgres in a schedule: what is committed, what is locked, and the statements of the bus.

A transaction keeps its writes to itself until it commits; whoever wants a row that another has
written waits for that one's end. Numbers of the outbox are given when a row is written, not when it
is committed, so that they come out of order as they do in the real one.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bus import boundary, inbox, letters, outbox, recording, work
from bus.recording import PARTITIONS
from schemas.problems import DependencyDown, VersionConflict
from tests.simulator.clockwork import NODE, Node


class Query:
    """A statement of the simulated domain; the bus's own are `Statement`s."""

    def __init__(self, text: str) -> None:
        self.text = text


READ = Query("read a counter")
COUNT = Query("count an event as seen")
STEPS = Query("which steps of a run are done")
STEP_DONE = Query("record a step as done, unless it is")
FIRED = Query("whether a timer has fired")
FIRE = Query("fire a timer, unless it has")
FIRE_BLINDLY = Query("fire a timer")


class Store:
    """The committed state of one schedule."""

    exclusive = True
    """Whether a job that somebody has is nobody else's."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.log: list[dict[str, Any]] = []
        self.counters: dict[str, tuple[int, str]] = {}
        self.outbox: dict[int, dict[str, Any]] = {}
        self.inbox: dict[tuple[str, str], dict[str, Any]] = {}
        self.keys: dict[tuple[str, str], dict[str, Any]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.seen: Counter[tuple[str, str]] = Counter()
        self.steps: dict[str, Counter[str]] = defaultdict(Counter)
        self.fired: Counter[str] = Counter()
        self.lanes: dict[int, Connection] = {}
        self.locks: dict[Any, Transaction] = {}
        self.open: dict[Transaction, None] = {}  # in their order: a seed repeats it
        self.connections: dict[Connection, None] = {}
        self._position = 0

    def position(self) -> int:
        self._position += 1
        return self._position

    def forget(self, node: Node | None) -> None:
        """The sessions of a process, or of all, end: nothing of theirs is left."""
        for transaction in [t for t in self.open if node in (None, t.node)]:
            transaction.end()
        for connection in [c for c in self.connections if node in (None, c.node)]:
            connection.terminate()

    def pending(self, lanes: list[int], limit: int) -> list[dict[str, Any]]:
        now = self.world.clock.now()
        due = [r for r in self.outbox.values() if r["lane"] in lanes and r["available_at"] <= now]
        return sorted(due, key=lambda row: row["position"])[:limit]


class Database:
    """What a process has of it: the methods of `bus.database.Database`."""

    def __init__(self, world: Any) -> None:
        self._world, self.clock = world, world.clock

    async def row(self, statement: Any, *values: Any) -> Any:
        transaction = await self.begin(None)
        try:
            found = await transaction.row(statement, *values)
            await transaction.commit()
        finally:
            await transaction.roll_back()
        return found

    async def connect(self) -> "Connection":
        await self._world.io("database")
        return Connection(self._world)

    async def begin(self, origin: Any) -> "Transaction":
        await self._world.io("database")
        return Transaction(self._world, origin)


class Connection:
    """A relay's own session: it hears of new rows and holds lanes."""

    def __init__(self, world: Any) -> None:
        self.world, self.node = world, NODE.get()
        self.hears: Callable[..., None] = lambda *told: None
        self.closed = False
        world.store.connections[self] = None

    async def add_listener(self, channel: str, hears: Callable[..., None]) -> None:
        await self.world.io("database")
        self.hears = hears

    async def _ask(self) -> None:
        await self.world.io("database")
        if self.closed:
            raise DependencyDown

    async def fetchrow(self, text: str, space: int, lane: int) -> dict[str, bool]:
        await self._ask()
        lanes = self.world.store.lanes
        if text == outbox.GIVE_LANE.text:
            return {"given": lanes.pop(lane, None) is self}
        return {"taken": lanes.setdefault(lane, self) is self}

    async def fetch(self, text: str, lanes: list[int], limit: int) -> list[dict[str, Any]]:
        await self._ask()
        return self.world.store.pending(lanes, limit)

    async def execute(self, text: str, positions: list[int]) -> None:
        await self._ask()
        for position in positions:
            self.world.store.outbox.pop(position, None)

    def terminate(self) -> None:
        self.closed = True
        store = self.world.store
        store.connections.pop(self, None)
        for lane in [lane for lane, holder in store.lanes.items() if holder is self]:
            del store.lanes[lane]


class Transaction:
    """The methods of `bus.database.Transaction`, over the store."""

    def __init__(self, world: Any, origin: Any) -> None:
        self.world, self.store, self.node = world, world.store, NODE.get()
        self.origin = origin
        self.open = True
        self._todo: list[Callable[[], Any]] = []
        self._locks: list[Any] = []
        self._ended = asyncio.Event()
        self.store.open[self] = None

    def end(self) -> None:
        """Whatever it was: its locks are free."""
        self.open = False
        self.store.open.pop(self, None)
        for lock in self._locks:
            del self.store.locks[lock]
        self._locks.clear()
        self._ended.set()

    async def _lock(self, name: Any) -> None:
        while (holder := self.store.locks.get(name)) not in (None, self):
            await holder._ended.wait()
        if not self.open:
            raise DependencyDown
        if name not in self.store.locks:
            self.store.locks[name] = self
            self._locks.append(name)

    async def _statement(self) -> None:
        await self.world.io("database")
        if not self.open:
            raise DependencyDown

    async def commit(self) -> None:
        """As the real one: a commit that has begun goes on when who waits for it is cancelled."""
        committing = asyncio.ensure_future(self._commit())
        committing.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(committing)

    async def _commit(self) -> None:
        await self._statement()
        if self.world.happens("commit lost"):
            self.end()
            raise DependencyDown
        for write in self._todo:
            write()
        self.end()
        for connection in list(self.store.connections):
            connection.hears("outbox", "")
        if self.world.happens("commit unheard"):
            raise DependencyDown
        await self.world.io("network")

    async def roll_back(self) -> None:
        if self.open:
            self.end()

    async def record(self, event: Any) -> None:
        await self._statement()
        _, values = recording.of(event, self.origin, self.world.clock)
        entity, event_id, name = event.entity, values[3], values[5]
        await self._lock(("head", entity.id))
        version, _ = self.store.counters.get(entity.id, (0, ""))
        if entity.version != version + 1:
            raise VersionConflict(id=entity.id)
        row = {"id": event_id, "type": name, "thing": entity.id, "version": entity.version,
               "value": entity.value}  # fmt: skip
        self._todo.append(lambda: self.store.log.append(row))
        now_is = (entity.version, entity.value)
        self._todo.append(lambda: self.store.counters.update({entity.id: now_is}))
        self._send(values[3], values[12], entity.id, values[13], values[14], values[4], 0)

    async def enqueue(self, job: Any, *, job_id: str | None = None, delay_s: float = 0) -> str:
        await self._statement()
        job_id = job_id or self.world.clock.new_id()
        values = recording.of_job(job, job_id, delay_s, self.origin, self.world.clock)
        row = {"status": "queued", "attempts": 0, "worker": None, "lease": None, "kind": job.name,
               "actor": self.origin.actor, "actor_kind": "service", "roles": [], "scopes": [],
               "credential": None, "request_id": "", "correlation_id": None}  # fmt: skip
        self._todo.append(lambda: self.store.jobs.update({job_id: row}))
        self._send(f"job-{job_id}", values[8], job_id, values[9], values[10], values[2], delay_s)
        return job_id

    def _send(self, message_id, lane, aggregate, subject, headers, body, delay_s) -> None:
        position = self.store.position()
        row = {"position": position, "message_id": message_id, "lane": lane % PARTITIONS,
               "aggregate_id": aggregate, "subject": subject, "headers": headers,
               "body": body.encode(),
               "available_at": self.world.clock.now() + timedelta(seconds=delay_s)}  # fmt: skip
        self._todo.append(lambda: self.store.outbox.update({position: row}))

    async def execute(self, statement: Any, *values: Any) -> str:
        await self.row(statement, *values)
        return ""

    async def row(self, statement: Any, *values: Any) -> Any:
        await self._statement()
        return await STATEMENTS[statement](self, *values)

    # --- the statements of the bus -------------------------------------------------------------

    async def _find_answer(self, actor: str, key: str) -> Any:
        return self.store.keys.get((actor, key))

    async def _claim_key(self, actor: str, key: str, fingerprint: str) -> Any:
        await self._lock(("key", actor, key))
        if (actor, key) in self.store.keys:
            return None
        row = {"fingerprint": fingerprint, "reply": None, "version": None}
        self._todo.append(lambda: self.store.keys.update({(actor, key): row}))
        return {"key": key}

    async def _keep_answer(self, actor: str, key: str, reply: str, version: str | None) -> None:
        def keep() -> None:
            self.store.keys[actor, key] |= {"reply": reply, "version": version}

        self._todo.append(keep)

    async def _mark_seen(self, consumer: str, message_id: str, aggregate: str) -> Any:
        await self._lock(("inbox", consumer, message_id))
        before = self.store.inbox.get((consumer, message_id), {"failures": 0, "done": False})
        if before["done"]:
            return None
        row = before | {"done": True}
        self._todo.append(lambda: self.store.inbox.update({(consumer, message_id): row}))
        return {"failures": before["failures"], "blocked": False}

    async def _count_failure(self, consumer: str, message_id: str, error: str) -> Any:
        await self._lock(("inbox", consumer, message_id))
        before = self.store.inbox.get((consumer, message_id), {"failures": 0, "done": False})
        row = before | {"failures": before["failures"] + 1}
        self._todo.append(lambda: self.store.inbox.update({(consumer, message_id): row}))
        return row

    async def _nothing(self, *_: Any) -> None:
        """There are no dead letters: nothing fails that often."""

    async def _claim_job(self, job_id: str, worker: str, lease_s: float) -> Any:
        await self._lock(("job", job_id))
        job, now = self.store.jobs[job_id], self.world.loop.at
        over = job["status"] == "running" and job["lease"] < now
        if self.store.exclusive and job["status"] != "queued" and not over:
            return None
        row = job | {"status": "running", "attempts": job["attempts"] + 1, "worker": worker,
                     "lease": now + lease_s}  # fmt: skip
        self._todo.append(lambda: self.store.jobs.update({job_id: row}))
        return row

    async def _job_state(self, job_id: str) -> Any:
        return self.store.jobs.get(job_id)

    async def _held(self, job_id: str, worker: str, **change: Any) -> Any:
        await self._lock(("job", job_id))
        job = self.store.jobs[job_id]
        if (job["worker"], job["status"]) != (worker, "running"):
            return None
        row = job | change
        self._todo.append(lambda: self.store.jobs.update({job_id: row}))
        return {"id": job_id}

    async def _renew(self, job_id: str, worker: str, lease_s: float) -> Any:
        return await self._held(job_id, worker, lease=self.world.loop.at + lease_s)

    async def _finish(self, job_id: str, worker: str, status: str, *_: Any) -> Any:
        return await self._held(job_id, worker, status=status)

    async def _retry(self, job_id: str, worker: str, error: str, uncounted: int) -> Any:
        attempts = self.store.jobs[job_id]["attempts"] - uncounted
        return await self._held(job_id, worker, status="queued", attempts=attempts)

    # --- the statements of the simulated domain ------------------------------------------------

    async def _read(self, thing: str) -> Any:
        return self.store.counters.get(thing)

    async def _count(self, consumer: str, event_id: str) -> None:
        self._todo.append(lambda: self.store.seen.update([(consumer, event_id)]))

    async def _steps(self, run: str) -> Any:
        return set(self.store.steps[run])

    async def _step_done(self, run: str, step: str) -> None:
        await self._lock(("step", run, step))
        if step not in self.store.steps[run]:
            self._todo.append(lambda: self.store.steps[run].update([step]))

    async def _fired(self, key: str) -> Any:
        return {"key": key} if self.store.fired[key] else None

    async def _fire(self, key: str) -> None:
        await self._lock(("timer", key))
        if not self.store.fired[key]:
            self._todo.append(lambda: self.store.fired.update([key]))

    async def _fire_blindly(self, key: str) -> None:
        self._todo.append(lambda: self.store.fired.update([key]))


STATEMENTS: dict[Any, Callable[..., Any]] = {
    boundary.FIND_ANSWER: Transaction._find_answer,
    boundary.CLAIM_KEY: Transaction._claim_key,
    boundary.KEEP_ANSWER: Transaction._keep_answer,
    inbox.MARK_SEEN: Transaction._mark_seen,
    inbox.COUNT_FAILURE: Transaction._count_failure,
    letters.IN_QUEUE: Transaction._nothing,
    work.CLAIM_JOB: Transaction._claim_job,
    work.JOB_STATE: Transaction._job_state,
    work.RENEW_LEASE: Transaction._renew,
    work.FINISH_JOB: Transaction._finish,
    work.RETRY_JOB: Transaction._retry,
    READ: Transaction._read,
    COUNT: Transaction._count,
    STEPS: Transaction._steps,
    STEP_DONE: Transaction._step_done,
    FIRED: Transaction._fired,
    FIRE: Transaction._fire,
    FIRE_BLINDLY: Transaction._fire_blindly,
}
