"""Clients that go on whatever happens, and a program outside that counts its effects.

Each client does one thing after the other over either edge: it makes agents, changes them at the
version that it has read, reads them, and starts workflows and goals whose steps have an effect
outside. Whoever hears nothing asks again under the same key until an answer comes.
"""

import asyncio
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg

from deploy.faults.history import Line, Recorder, Verb
from deploy.faults.rig import Rig
from schemas.problems import StillRunning

API = "/api/v1"
CLIENTS = 4
SHARED_MAX = 8
ON_ONE_MAX = 60
REQUEST_S = 4.0
PATIENCE_S = 75.0
PAUSE_S = 0.05
AGAIN_S = 0.3
CONFLICT = 409
WELL = 300
TOOL = "effects.note"
STEPS = ("a", "b", "c")
RETRY = {"attempts": 30, "first_s": 0.2, "most_s": 2}
UNSETTLED = (StillRunning.code,)
BUSY = (425, 429, 500, 502, 503, 504)


class GaveUp(Exception):
    """Nobody answered for longer than anybody waits."""


class Outside:
    """A program that is no part of the platform: it does once what it is told under one id."""

    def __init__(self) -> None:
        self.effects: Counter[str] = Counter()
        self._known: set[tuple[str, str]] = set()

    async def serve(self, message: Msg) -> None:
        """Have the effect, unless it was had under this id."""
        key = str(json.loads(message.data)["key"])
        invocation = (message.headers or {})["x-invocation-id"]
        if (key, invocation) not in self._known:
            self._known.add((key, invocation))
            self.effects[key] += 1
        await message.respond(json.dumps({"key": key}).encode())


@asynccontextmanager
async def outside(rig: Rig) -> AsyncIterator[Outside]:
    """The program, while the block runs."""
    counted = Outside()
    bus: Connection = await rig.bus("outside")
    try:
        await bus.subscribe(f"tool.{TOOL}", cb=counted.serve)
        await bus.flush()
        yield counted
    finally:
        await bus.close()


class Client:
    """One client; its history is in `recorder`."""

    def __init__(self, rig: Rig, name: str, recorder: Recorder, draw: random.Random) -> None:
        self.name = name
        self.draw = draw
        self.answered = 0
        self._rig = rig
        self._recorder = recorder
        self._edges = tuple(rig.edges.values())
        self._edge = self._edges[0]
        self._numbers = itertools.count(1)
        self._http = httpx2.AsyncClient(
            timeout=REQUEST_S, headers={"authorization": f"Bearer {rig.key}"}
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        """Status and answer; asked again, at the other edge, until there is one.

        Raises:
            GaveUp: There is none.
        """
        headers = {"idempotency-key": key} if key else {}
        until, last = time.monotonic() + PATIENCE_S, ""
        self._edge = self.draw.choice(self._edges)
        while True:
            try:
                answer = await self._http.request(
                    method, f"{self._edge}{API}{path}", json=body, headers=headers
                )
                found = answer.json()
                if answer.status_code < WELL:
                    return answer.status_code, found
                last = f"{answer.status_code} {found}"
                if answer.status_code not in BUSY and found["error"]["code"] not in UNSETTLED:
                    return answer.status_code, found
            except (httpx2.HTTPError, OSError, ValueError, KeyError) as failed:
                last = repr(failed)
            self._edge = self.draw.choice(self._edges)
            if time.monotonic() > until:
                raise GaveUp(f"{self.name}: {method} {path}: {last}")
            await asyncio.sleep(self.draw.uniform(0.5, 1.5) * AGAIN_S)

    async def create(self) -> str:
        """Make an agent; its id."""
        key, _ = self._key("create")
        body = {"name": key, "config": {"instructions": key}}
        return (await self._do("create", "POST", "/agents", body, key, value=key))[0]

    async def change(self, agent: str) -> None:
        """Read an agent and change it at that version; somebody else may be faster."""
        version = await self.read(agent)
        key, _ = self._key("write")
        body = {"version": version, "config": {"instructions": key}}
        await self._do(
            "write", "PUT", f"/agents/{agent}", body, key, thing=agent, value=key, version=version
        )

    async def read(self, agent: str) -> int:
        """Read an agent; its version."""
        return (await self._do("read", "GET", f"/agents/{agent}", None, "", thing=agent))[1]

    async def start(self, workflow: str, key: str | None = None) -> str:
        """Start a run of the workflow, under a key of its own if none is given; its id."""
        key = key or self._key("run")[0]
        body = {"inputs": {"run": key}}
        path = f"/workflows/{workflow}/runs"
        return (await self._do("start", "POST", path, body, key, value=key))[0]

    async def submit(self, brief: dict[str, Any] | None = None) -> str:
        """Submit a goal whose one task has the effects of a run; its id."""
        key, _ = self._key("goal")
        body = goal(key) if brief is None else brief | {"description": key}
        return (await self._do("start", "POST", "/goals", body, key, value=key))[0]

    def _key(self, verb: str) -> tuple[str, int]:
        number = next(self._numbers)
        return f"{self.name}-{verb}-{number}", number

    async def _do(
        self, verb: Verb, method: str, path: str, body: Any, key: str, *,
        thing: str = "", value: str = "", version: int = 0,
    ) -> tuple[str, int]:  # fmt: skip
        """One operation, written down; the thing and its version afterwards."""
        number = next(self._numbers)
        began = Line(time.monotonic(), self.name, number, "invoke", verb, thing, value, version)
        self._recorder.write(began)
        status, answer = await self.ask(method, path, body, key)
        now = time.monotonic()
        if status >= WELL:
            if verb != "write" or status != CONFLICT:
                raise GaveUp(f"{self.name}: {method} {path} answers {status} {answer}")
            self._recorder.write(Line(now, self.name, number, "fail", verb, thing, value, version))
            return thing, 0
        self.answered += 1
        thing, made = answer["id"], answer.get("version", 0)
        if verb == "read":
            value = answer["config"]["instructions"]
        self._recorder.write(Line(now, self.name, number, "ok", verb, thing, value, made))
        return thing, made


def workflow(mark: str) -> dict[str, Any]:
    """Steps with an effect each, one after the other, and a moment of waiting in between."""
    steps: list[dict[str, Any]] = [note(key) for key in STEPS]
    steps.insert(1, {"key": "pause", "type": "wait", "for_s": 1})
    return {"name": f"effects-{mark}", "document": {"steps": steps}}


def effect(*name: str) -> dict[str, Any]:
    """What the tool is given: the run's own key, and which effect of it."""
    return {"key": {"$concat": ["$.inputs.run", "/", *name]}}


def note(key: str, *name: str) -> dict[str, Any]:
    """A step that has an effect outside, named as the step is unless another name is given."""
    given = effect(*(name or (key,)))
    return {"key": key, "type": "tool", "tool": TOOL, "retry": RETRY, "input": given}


def goal(key: str) -> dict[str, Any]:
    """One task whose agent calls the tool once for each effect."""
    steps = [{"name": name, "tool": TOOL, "arguments": {"key": f"{key}/{name}"}} for name in STEPS]
    brief = {"objective": "Have the effects", "steps": steps}
    task = {"key": "t", "title": "Effects", "brief": brief, "capabilities": ["calculate"]}
    return {"description": key, "tasks": [task]}


def asking_the_model() -> dict[str, Any]:
    """One task whose agent asks the model something."""
    schema = {
        "type": "object", "required": ["text"],
        "properties": {"text": {"type": "string", "minLength": 1, "maxLength": 40}},
    }  # fmt: skip
    step = {"name": "say", "ask": "Say something short.", "output_schema": schema,
            "tokens_max": 64}  # fmt: skip
    brief = {"objective": "Say", "steps": [step]}
    task = {"key": "t", "title": "Say", "brief": brief, "capabilities": ["write"]}
    return {"description": "Say", "tasks": [task]}


class Load:
    """Some clients that work until they are told to stop."""

    def __init__(self, rig: Rig, mark: str, file: Path, seed: int) -> None:
        self.file = file
        self._recorder = Recorder(file)
        self._draw = random.Random(seed)  # noqa: S311 - not for secrets
        self._clients = [
            Client(rig, f"{mark}-c{n}", self._recorder, random.Random(self._draw.random()))  # noqa: S311
            for n in range(1, CLIENTS + 1)
        ]
        self.mark = mark
        self._stop = asyncio.Event()
        self._shared: list[str] = []
        self._uses: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self.runs: dict[str, str] = {}
        """Path under which a run is asked for, by its id."""
        self._wanted: dict[str, list[str]] = {}

    def wants(self, key: str, effects: list[str]) -> None:
        """Say what a run started under this key has to do outside, if it is not the usual."""
        self._wanted[key] = effects

    def effects_of(self, key: str) -> list[str]:
        """What a run or goal started under this key has to do outside."""
        return self._wanted.get(key) or [f"{key}/{step}" for step in STEPS]

    @property
    def first(self) -> Client:
        """A client for what a fault needs besides."""
        return self._clients[0]

    @property
    def answered(self) -> int:
        """How many operations were acknowledged so far."""
        return sum(client.answered for client in self._clients)

    async def begin(self) -> None:
        """Register the tool, make a workflow and the first agents, and set the clients to work."""
        first = self.first
        tool = {
            "name": TOOL, "description": "Counts.", "subject": f"tool.{TOOL}",
            "input_schema": {"type": "object"}, "repeatable": True,
        }  # fmt: skip
        await first.ask("POST", "/tools", tool, "the-tool")
        _, made = await first.ask("POST", "/workflows", workflow(self.mark), f"{self.mark}-flow")
        for _ in range(SHARED_MAX // 2):
            self._shared.append(await first.create())
        self._tasks = [
            asyncio.create_task(self._work(client, made["id"])) for client in self._clients
        ]

    async def end(self) -> None:
        """Let each client finish what it is at.

        Raises:
            GaveUp: One of them was never answered.
        """
        self._stop.set()
        try:
            await asyncio.gather(*self._tasks)
        finally:
            await self.close()

    async def close(self) -> None:
        """End the clients, whatever they are at."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for client in self._clients:
            await client.close()
        self._recorder.close()

    async def more(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until so many more operations have been acknowledged.

        Raises:
            GaveUp: They are not, in time.
        """
        wanted, until = self.answered + count, time.monotonic() + timeout_s
        while self.answered < wanted:
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > until:
                raise GaveUp(f"only {self.answered} operations were answered")
            await asyncio.sleep(PAUSE_S)

    async def _work(self, client: Client, flow: str) -> None:
        while not self._stop.is_set():
            await self._one(client, flow)
            await asyncio.sleep(client.draw.uniform(0, 2) * PAUSE_S)

    async def _one(self, client: Client, flow: str) -> None:
        match client.draw.choices(
            ("change", "read", "create", "start", "submit"), (8, 4, 1, 1, 0.5)
        ):
            case ["change"]:
                await client.change(self._any(client.draw))
            case ["read"]:
                await client.read(self._any(client.draw))
            case ["create"]:
                self._shared = [*self._shared, await client.create()][-SHARED_MAX:]
            case ["start"]:
                self.runs[await client.start(flow)] = "/workflow-runs"
            case _:
                self.runs[await client.submit()] = "/goals"

    def _any(self, draw: random.Random) -> str:
        """An agent that was not used too often to be searched for an order."""
        fresh = [agent for agent in self._shared if self._uses[agent] < ON_ONE_MAX]
        agent = draw.choice(fresh or self._shared[-1:])
        self._uses[agent] += 1
        return agent
