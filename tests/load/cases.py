"""What is measured, one function a row; all on one machine in one run."""

import asyncio
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats
import websockets

from bus.client import Ask, Client
from bus.clock import Clock
from bus.credentials import Signer
from bus.envelope import Origin
from schemas.identity import principals as identity
from schemas.principal import Principal
from tests.load import keepalive, replies
from tests.load.keepalive import Measured
from tests.load.machine import Machine
from tests.load.rows import Row, with_cpu
from tests.servers import free_port

SECONDS = 8.0
WARM_UP_S = 2.0
CONNECTIONS = 32
SOCKETS = 500
EVENTS_PER_S = 100
EVENTS_SECONDS = 5


async def bare_starlette(_: Machine) -> Row:
    """The floor."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "tests.load.bare", str(port)])
    try:
        await reachable("127.0.0.1", port)
        request = keepalive.get("/", "127.0.0.1")
        return await with_cpu(
            {"starlette": process.pid},
            lambda: keepalive.load("127.0.0.1", port, lambda _: request, CONNECTIONS, SECONDS),
        )
    finally:
        process.kill()
        process.wait()


async def reachable(host: str, port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port}")


async def full_read(machine: Machine) -> Row:
    """GET /api/v1/agents/{id}: authentication to Postgres and back."""
    host, port = machine.place
    agent = await make_agent(machine)
    request = keepalive.get(f"/api/v1/agents/{agent}", host, machine.key)
    return await reads(machine.pids(), host, port, request)


async def reads(pids: dict[str, int], host: str, port: int, request: bytes) -> Row:
    """The same request over and over, by processes that have begun: a start is no request's cost."""
    await keepalive.load(host, port, lambda _: request, CONNECTIONS, WARM_UP_S)
    return await with_cpu(
        pids, lambda: keepalive.load(host, port, lambda _: request, CONNECTIONS, SECONDS)
    )


async def token_read(machine: Machine, *, cached: bool) -> Row:
    """The same with an access token, at an edge that remembers what it verified or that does not."""
    agent, token = await make_agent(machine), await access_token(machine)
    port, process = another_edge(machine, "4096" if cached else "0")
    request = keepalive.get(f"/api/v1/agents/{agent}", "127.0.0.1", token)
    pids = machine.pids() | {"edge": process.pid}
    try:
        await reachable("127.0.0.1", port)
        return await reads(pids, "127.0.0.1", port, request)
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


def another_edge(machine: Machine, token_cache: str) -> tuple[int, "subprocess.Popen[bytes]"]:
    """An edge beside the machine's own, with the same surroundings and another cache."""
    port = free_port()
    given = Path(f"/proc/{machine.pids()['edge']}/environ").read_bytes().split(b"\0")
    environment = dict(one.decode().split("=", 1) for one in given if one)
    environment |= {
        "PORTAL_EDGE_PORT": str(port), "PORTAL_HEALTH_PORT": "0",
        "PORTAL_TOKEN_CACHE": token_cache, "PORTAL_INTERACTIVE_PER_MINUTE": "600000",
    }  # fmt: skip
    command = [sys.executable, "-m", "edge"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return port, subprocess.Popen(command, env=environment, **quiet)


async def access_token(machine: Machine) -> str:
    """The token of a fresh user who may do everything."""
    login, password = f"bench-{secrets.token_hex(4)}", secrets.token_urlsafe()
    user = {"login": login, "name": login, "roles": ["admin"], "password": password}
    await machine.post("/api/v1/users", user)
    signed = await machine.post("/api/v1/auth/login", {"login": login, "password": password})
    return str(signed["tokens"]["access_token"])


async def full_write(machine: Machine) -> Row:
    """POST /api/v1/agents: row, event, outbox, commit, publication."""
    host, port = machine.place
    run = secrets.token_hex(4)

    def request(number: int) -> bytes:
        body = json.dumps({"name": f"bench-{run}-{number}"}).encode()
        return keepalive.post("/api/v1/agents", host, machine.key, body)

    return await with_cpu(
        machine.pids(),
        lambda: keepalive.load(host, port, request, CONNECTIONS, SECONDS),
    )


async def make_agent(machine: Machine) -> str:
    """The id of a fresh agent."""
    agent = await machine.post("/api/v1/agents", {"name": f"bench-{secrets.token_hex(4)}"})
    return str(agent["id"])


async def sockets(machine: Machine, count: int) -> Row:
    """Events seen by `count` WebSocket clients; latency from the writing request's start."""
    host, port = machine.place
    sent: dict[str, float] = {}
    measured, counts = Measured(), dict[str, int]()
    ready = asyncio.Semaphore(0)
    watchers = [asyncio.create_task(watch(machine, sent, measured, ready)) for _ in range(count)]
    for _ in range(count):
        await asyncio.wait_for(ready.acquire(), 60)

    async def publish() -> Measured:
        total = EVENTS_PER_S * EVENTS_SECONDS if count == 1 else EVENTS_SECONDS * 20
        await write_agents(host, port, machine.key, total, total / EVENTS_SECONDS, sent)
        await asyncio.sleep(1)
        measured.seconds = EVENTS_SECONDS
        counts["doubled"] = measured.failed
        counts["not seen"] = total * count - len(measured.latencies_s)
        measured.failed = sum(counts.values())
        return measured

    row = await with_cpu(
        machine.pids(),
        publish,
    )
    for watcher in watchers:
        watcher.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    row.counts = counts
    return row


async def watch(
    machine: Machine, sent: dict[str, float], measured: Measured, ready: asyncio.Semaphore
) -> None:
    """One client: subscribe, then note when each event comes; one that comes again has failed."""
    seen = set[str]()
    url = machine.edge.replace("http", "ws", 1) + "/api/v1/ws"
    headers = {"authorization": f"Bearer {machine.key}"}
    async with websockets.connect(url, additional_headers=headers, open_timeout=60) as socket:
        await socket.send(json.dumps({"op": "subscribe", "topics": ["agents.status"]}))
        async for text in socket:
            frame = json.loads(text)
            if frame["op"] == "subscribed":
                ready.release()
            elif frame["op"] == "ping":
                await socket.send('{"op":"pong"}')
            elif frame["op"] == "event":
                name = frame["data"].get("agent", {}).get("name", "")
                if name in seen:
                    measured.failed += 1
                elif name in sent:
                    seen.add(name)
                    measured.latencies_s.append(time.perf_counter() - sent[name])


async def write_agents(
    host: str, port: int, key: str, count: int, per_s: float, sent: dict[str, float]
) -> None:
    """Create agents at a steady rate, whatever each takes."""
    streams = [await asyncio.open_connection(host, port) for _ in range(16)]
    free = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()
    for stream in streams:
        free.put_nowait(stream)

    async def one(name: str) -> None:
        reader, writer = await free.get()
        sent[name] = time.perf_counter()
        writer.write(
            keepalive.post("/api/v1/agents", host, key, json.dumps({"name": name}).encode())
        )
        await keepalive.answer(reader)
        free.put_nowait((reader, writer))

    started, tasks = time.perf_counter(), []
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / per_s - time.perf_counter()))
        tasks.append(asyncio.create_task(one(f"seen-{secrets.token_hex(6)}")))
    await asyncio.gather(*tasks)
    for _, writer in streams:
        writer.close()


async def raw_replies(machine: Machine) -> Row:
    """nats-py request and respond, nothing else."""
    url, seed = machine.bus_url, machine.seed("operator")
    responder = subprocess.Popen(
        [sys.executable, "-m", "tests.load.replies", url, seed], stdout=subprocess.PIPE
    )
    assert responder.stdout is not None
    await asyncio.to_thread(responder.stdout.readline)
    connection = await nats.connect(url, nkeys_seed=seed, inbox_prefix="_INBOX.operator")
    try:
        pids = {"responder": responder.pid, "nats": machine.pids()["nats"]}
        return await with_cpu(
            pids,
            lambda: ask_over_and_over(
                lambda: connection.request(replies.SUBJECT, b"{}", timeout=5)
            ),
        )
    finally:
        await connection.close()
        responder.kill()
        responder.wait()


async def our_replies(machine: Machine) -> Row:
    """The same through FastStream, principal, permission, validation and metrics."""
    connection = await nats.connect(
        machine.bus_url, nkeys_seed=machine.seed("edge"), inbox_prefix="_INBOX.edge"
    )
    clock = Clock()
    client = Client(connection, clock)
    signer = Signer("edge", Path(machine.status["data"]) / "secrets")
    principal = Principal(id="admin", kind="key", roles=("admin",))

    async def one() -> object:
        ask = Ask(signer.sign(principal), Origin("admin", clock.new_id()))
        return await client.ask_raw(identity.me, b"{}", ask)

    try:
        return await with_cpu(machine.pids(), lambda: ask_over_and_over(one))
    finally:
        await connection.close()


async def ask_over_and_over(one: Callable[[], Awaitable[object]]) -> Measured:
    """`CONNECTIONS` askers, one request after another each."""
    measured, started = Measured(), time.perf_counter()

    async def asker() -> None:
        while time.perf_counter() - started < SECONDS:
            began = time.perf_counter()
            await one()
            measured.latencies_s.append(time.perf_counter() - began)

    await asyncio.gather(*(asker() for _ in range(CONNECTIONS)))
    measured.seconds = time.perf_counter() - started
    return measured
