"""One schedule: clients, two processes, the servers, and what a seed does to them."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import bus.outbox
from bus import envelope, faults, telemetry
from bus.boundary import Endpoint
from bus.client import read
from bus.outbox import Relay
from bus.work import Follower, Worker
from deploy.faults.checker import Final, Logged, Ran, Violation, violations
from deploy.faults.history import Line, Operation, operations
from schemas.contract import Problem
from schemas.policy import ALL
from schemas.principal import Principal
from schemas.problems import DependencyDown, VersionConflict
from tests.simulator import domain
from tests.simulator.clockwork import LATENCY_S, NODE, Clockwork, Dead, Node, SimulatedClock
from tests.simulator.store import Database, Store
from tests.simulator.stream import Bus, Stream

PROCESSES = 2
CLIENTS = 3
CALLS = 4
STORM_S = 8.0
WAITS = 0.6
REST_S = 600.0
PATIENCE_S = 400.0
TIMEOUT_S = 2.0
CHANCES = {
    "crash": 0.004, "crash at a point": 0.05, "commit lost": 0.01, "commit unheard": 0.02,
    "ack lost": 0.1, "reply lost": 0.1, "request lost": 0.05, "asked twice": 0.1,
    "publish lost": 0.05, "acknowledgement lost": 0.1, "delivered twice": 0.15,
    "reaction fails": 0.15,
}  # fmt: skip
BLOWS = ("database away", "bus away", "power lost", "asleep", "cache lost")


@dataclass
class Bugs:
    """What is planted: everything as it is shipped unless a test says otherwise."""

    follower: type[Follower] = Follower
    relay: type[Relay] = Relay
    worker: type[Worker] = Worker
    store: type[Store] = Store
    endpoint: type[Endpoint] = Endpoint
    fire: Any = domain.fire
    unsynced: bool = False
    fresh_keys: bool = False


@dataclass
class World:
    """Everything of one schedule."""

    draw: random.Random
    bugs: Bugs = field(default_factory=Bugs)
    chances: dict[str, float] = field(default_factory=dict)
    blows: list[tuple[float, str]] | None = None

    def __post_init__(self) -> None:
        self.loop = Clockwork()
        self.clock = SimulatedClock(self.loop, self.draw)
        self.store = self.bugs.store(self)
        self.cache: dict[Any, Any] = {}
        self.nodes: list[Node] = []
        self.waiting: dict[str, asyncio.Future[Any]] = {}
        self.lines: list[Line] = []
        self.effects: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self.gave_up: list[str] = []
        self.made: list[str] = []
        self._outside: set[tuple[str, str]] = set()
        self._away_until = 0.0
        self._numbers: Counter[str] = Counter()
        self.chances = {
            name: chance * self.draw.choice((0, 1, 1, 3)) for name, chance in CHANCES.items()
        } | self.chances
        if self.blows is None:
            self.blows = [
                (self.draw.uniform(0, STORM_S), self.draw.choice(BLOWS))
                for _ in range(self.draw.randint(0, 3))
            ]
        self.streams = {
            "evt": Stream(self, "EVENTS", {
                domain.on_made.durable: "evt.simulated.made.",
                domain.on_changed.durable: "evt.simulated.changed.",
            }),
            "job": Stream(self, "JOBS", {
                domain.Do.durable(): "job.simulated.do", domain.Fire.durable(): "job.simulated.fire",
            }),
        }  # fmt: skip

    # --- what may happen ------------------------------------------------------------------------

    @property
    def storm(self) -> bool:
        return self.loop.at < STORM_S

    def happens(self, what: str) -> bool:
        """Whether this goes wrong now."""
        if self.storm and self.draw.random() < self.chances[what]:
            self.happened[what] += 1
            return True
        return False

    async def io(self, where: str) -> None:
        """What every step to a server costs; a process may be killed before it or behind it."""
        node = NODE.get()
        if self.draw.random() < WAITS:
            await asyncio.sleep(self.draw.uniform(0, LATENCY_S))
        if node is not None:
            if node.asleep_until > self.loop.at:
                await asyncio.sleep(node.asleep_until - self.loop.at)
            if not node.alive:
                raise Dead
            if self.happens("crash"):
                self.kill(node)
                raise Dead
        if where == "database" and self.loop.at < self._away_until:
            raise DependencyDown

    def point(self, name: str) -> None:
        """A fault point of the real code."""
        node = NODE.get()
        if node is not None and self.happens("crash at a point"):
            self.happened[name] += 1
            self.kill(node)
            raise Dead

    def kill(self, node: Node) -> None:
        """kill -9: its sessions end, what it was doing is forgotten, and it is started again."""
        node.alive = False
        self.nodes.remove(node)
        self.store.forget(node)
        for task in list(node.tasks):
            task.cancel()
        self.loop.call_later(self.draw.uniform(0.2, 3), self.begin, node.name)

    def blow(self, what: str) -> None:
        """Something larger goes wrong."""
        self.happened[what] += 1
        if what == "database away":
            self._away_until = self.loop.at + self.draw.uniform(0.1, 5)
            self.store.forget(None)
        elif what == "cache lost":
            self.cache.clear()
        elif what == "asleep" and self.nodes:
            self.draw.choice(self.nodes).asleep_until = self.loop.at + self.draw.uniform(1, 20)
        else:
            for stream in self.streams.values():
                stream.lose_power() if what == "power lost" else setattr(
                    stream, "away_until", self.loop.at + self.draw.uniform(0.1, 5)
                )

    # --- processes ------------------------------------------------------------------------------

    def begin(self, name: str) -> None:
        """Start a process with everything that a handlers process has."""
        node = Node(name)
        platform = SimpleNamespace(
            settings=None, clock=self.clock, database=Database(self),
            client=SimpleNamespace(connection=Bus(self)), connection=Bus(self),
            rights=SimpleNamespace(reach=lambda principal, permission: ALL),
            auditor=SimpleNamespace(entry=lambda entry: None),
        )  # fmt: skip
        verifier = SimpleNamespace(
            read=lambda header: Principal(id=header, kind="service", roles=("admin",))
        )
        handlers = (
            (domain.create, domain.handle_create), (domain.change, domain.handle_change),
            (domain.read, domain.handle_read), (domain.start, domain.handle_start),
        )  # fmt: skip
        node.endpoints = {
            operation.name: self.bugs.endpoint(operation, handler, platform, verifier)
            for operation, handler in handlers
        }
        node.consumers = {
            reaction.durable: self.bugs.follower(
                reaction, domain.sees(self, reaction.durable), platform
            )
            for reaction in (domain.on_made, domain.on_changed)
        }
        for job, perform in ((domain.Do, domain.does(self)), (domain.Fire, self.bugs.fire)):
            node.consumers[job.durable()] = self.bugs.worker(
                job.name, job, perform, platform, attempts=50, timeout_s=60
            )
        for endpoint in node.endpoints.values():
            endpoint.world = self
        self.nodes.append(node)
        node.spawn(self.bugs.relay(platform).run())

    def somebody(self) -> Node | None:
        """Any process that is there."""
        return self.draw.choice(self.nodes) if self.nodes else None

    async def outside(self, key: str, invocation: str) -> None:
        """A program that does once what it is told under one id."""
        await self.io("network")
        if (key, invocation) not in self._outside:
            self._outside.add((key, invocation))
            self.effects[key] += 1
        await self.io("network")

    # --- clients --------------------------------------------------------------------------------

    async def request(self, client: str, operation: str, body: bytes, key: str) -> Any:
        """One request to one process; the reply, or TimeoutError."""
        node = self.somebody()
        inbox = f"_INBOX.{self.clock.new_id()}"
        waiting = self.waiting[inbox] = self.loop.create_future()
        headers = {envelope.PRINCIPAL: client, envelope.IDEMPOTENCY_KEY: key}
        if not key:
            del headers[envelope.IDEMPOTENCY_KEY]
        headers[envelope.DEADLINE] = str(self.clock.unix_ms() + int(TIMEOUT_S * 1000))
        message = SimpleNamespace(data=body, headers=headers, reply=inbox, subject="")
        if node is not None and not self.happens("request lost"):
            for _ in range(2 if self.happens("asked twice") else 1):
                node.spawn(node.endpoints[operation].answer(message))
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return read(await waiting)
        finally:
            del self.waiting[inbox]

    async def ask(self, client: str, verb: str, operation: Any, command: Any, **line: Any) -> Any:
        """Ask until there is an answer, under one key; None if it is a refusal."""
        self._numbers[client] += 1
        number, key = self._numbers[client], f"{client}-{self._numbers[client]}"
        self.lines.append(Line(self.loop.at, client, number, "invoke", verb, **line))
        body, until = command.model_dump_json().encode(), self.loop.at + PATIENCE_S
        while self.loop.at < until:
            if self.bugs.fresh_keys:
                key = self.clock.new_id()
            try:
                answer = await self.request(
                    client, operation.name, body, key if operation.idempotent else ""
                )
            except VersionConflict:
                self.lines.append(Line(self.loop.at, client, number, "fail", verb, **line))
                return None
            except (TimeoutError, Problem):
                await asyncio.sleep(self.draw.uniform(0.1, 1))
                continue
            reply = operation.reply.model_validate_json(answer.body)
            ended = Line(
                self.loop.at, client, number, "ok", verb, reply.id, reply.value, reply.version
            )
            self.lines.append(ended)
            return reply
        self.gave_up.append(f"{client}: {verb}")
        return None

    async def live(self, client: str) -> None:
        """The calls of one client, one after the other."""
        for _ in range(CALLS):
            value = f"{client}-v{self._numbers[client]}"
            things = self.made
            verb = self.draw.choice(("create", "change", "change", "read", "start"))
            if verb in ("create", "start") or not things:
                verb = "start" if verb == "start" else "create"
                operation = getattr(domain, verb)
                made = await self.ask(
                    client, verb, operation, domain.Create(value=value), value=value
                )
                self.made += [made.id] if made and verb == "create" else []
                continue
            thing = self.draw.choice(things)
            seen = await self.ask(client, "read", domain.read, domain.Read(id=thing), thing=thing)
            if verb == "change" and seen is not None:
                command = domain.Change(id=thing, version=seen.version, value=value)
                await self.ask(
                    client, "write", domain.change, command,
                    thing=thing, value=value, version=seen.version,
                )  # fmt: skip

    # --- the schedule ---------------------------------------------------------------------------

    def run(self) -> list[Violation]:
        """Live through it, come to rest, and judge."""
        with self._installed():
            try:
                self.loop.run_until_complete(self._all())
            finally:
                self._put_away()
        found = violations(self.history(), self.final())
        return [*found, *(Violation("not answered", one) for one in self.gave_up)]

    async def _all(self) -> None:
        for number in range(PROCESSES):
            self.begin(f"p{number}")
        keeping = [asyncio.ensure_future(s.deliver()) for s in self.streams.values()]
        for at, what in self.blows or ():
            self.loop.call_later(at, self.blow, what)
        await asyncio.gather(*(self.live(f"c{n}") for n in range(CLIENTS)))
        while not self.rests() and self.loop.at < REST_S:
            await asyncio.sleep(1)
        for task in keeping:
            task.cancel()

    def rests(self) -> bool:
        """Whether nothing is left to be done."""
        return (
            not self.storm
            and not self.store.outbox
            and not any(stream.open for stream in self.streams.values())
            and all(job["status"] == "succeeded" for job in self.store.jobs.values())
        )

    def _put_away(self) -> None:
        for node in list(self.nodes):
            node.alive = False
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        for _ in range(3):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        self.loop.close()

    @contextmanager
    def _installed(self) -> Iterator[None]:
        """The real code sees this schedule's time, points and chance, and says nothing."""
        state, point, log = random.getstate(), faults.point, telemetry.log
        random.seed(self.draw.random())
        quiet = SimpleNamespace(**dict.fromkeys(("info", "warning", "error"), lambda *a, **k: None))
        faults.point, telemetry.log = self.point, lambda: quiet
        bus.outbox.time = SimpleNamespace(monotonic=self.loop.time)
        try:
            yield
        finally:
            random.setstate(state)
            faults.point, telemetry.log, bus.outbox.time = point, log, time

    def history(self) -> list[Operation]:
        """What clients asked and heard; a start makes a run, and a counter of its own."""
        return operations(self.lines)

    def final(self) -> Final:
        """What the stores hold."""
        store = self.store
        values = {row["id"]: row["value"] for row in store.log}
        effects = Counter(self.effects)
        for (_, event_id), times in store.seen.items():
            effects[f"{values[event_id]}/seen"] += times
        for key, times in store.fired.items():
            effects[f"{key}/timer"] += times
        started = {o.value: o.thing for o in self.history() if o.verb == "start"}
        ok = [o for o in self.history() if o.outcome == "ok" and o.verb != "read"]
        wanted = [f"{o.value}/seen" for o in ok]
        wanted += [
            f"{o.value}/{part}"
            for o in ok
            if o.verb == "start"
            for part in (*domain.STEPS, "timer")
        ]
        runs = [
            Ran(row["thing"], "succeeded" if self._ended(row) else "running", store.steps[row["thing"]])
            for row in store.log if row["value"] in started
        ]  # fmt: skip
        seen = {event_id for _, event_id in store.seen}
        return Final(
            log=[
                Logged(row["id"], row["thing"], row["version"], row["value"], row["id"])
                for row in store.log
            ],
            log_ids=set(values),
            published=[
                (m.headers["ce-id"], m.headers["ce-subject"], int(m.headers["ce-version"]))
                for m in self.streams["evt"].messages
            ],
            missing=sorted(set(values) - seen),
            effects=effects, wanted=wanted, runs=runs, unpublished=len(store.outbox),
        )  # fmt: skip

    def _ended(self, row: dict[str, Any]) -> bool:
        done = set(self.store.steps[row["thing"]])
        return done == set(domain.STEPS) and self.store.fired[row["value"]] > 0
