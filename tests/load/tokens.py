"""Tokens as viewers of a run see them: twenty lanes, five viewers each, thrown off again and again.

A viewer is what a browser's EventSource is: it shows each piece as it comes, and after a broken
connection asks for what follows the last id it has seen. It is cut off behind any piece, as a
network would. The tokens of the local model come too slowly, so a process beside the platform
says them (`speaking.py`).
"""

import asyncio
import json
import random
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field

import httptools

from tests.load.keepalive import Measured
from tests.load.machine import Machine
from tests.load.rows import Row, with_cpu

RUNS, VIEWERS, TOKENS, TOKENS_PER_S = 20, 5, 150, 20.0
CUT_MIN, CUT_MAX = 15, 45
"""A viewer is thrown off after so many tokens."""
CHUNK_BYTES = 65_536
AGAIN_S = 0.05
END_S = 60.0
LOST, DOUBLED = "lost", "doubled"


class Lost(Exception):
    """There is no such stream, yet or any more."""


@dataclass
class Viewer:
    """What one of them has seen."""

    machine: Machine
    place: str
    choose: random.Random
    numbers: list[int] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    connections: int = 0
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    _last_id: str = ""
    _ended: bool = False
    _left: int = 0

    async def watch(self) -> None:
        """To the end of the stream."""
        while not self._ended:
            try:
                await self._connected()
            except Lost:
                await asyncio.sleep(AGAIN_S)

    async def _connected(self) -> None:
        """One connection, until it is cut."""
        self._left = self.choose.randint(CUT_MIN, CUT_MAX)
        reader, writer = await asyncio.open_connection(*self.machine.place)
        body = Body()
        parser = httptools.HttpResponseParser(body)
        try:
            writer.write(self._request())
            self.connections += 1
            while self._left > 0 and not self._ended:
                data = await reader.read(CHUNK_BYTES)
                if not data:
                    return
                parser.feed_data(data)
                if parser.get_status_code() != 200:
                    raise Lost
                self._take(body)
        finally:
            writer.transport.abort()

    def _request(self) -> bytes:
        resume = f"last-event-id: {self._last_id}\r\n" if self._last_id else ""
        return (
            f"GET {self.place} HTTP/1.1\r\nhost: edge\r\nauthorization: Bearer {self.machine.key}"
            f"\r\naccept: text/event-stream\r\n{resume}\r\n"
        ).encode()

    def _take(self, body: "Body") -> None:
        """What came, up to the piece behind which the connection is cut."""
        *pieces, body.text = body.text.split(b"\n\n")
        now = time.perf_counter()
        for piece in pieces:
            if self._left <= 0 or self._ended:
                return
            self._show(piece, now)

    def _show(self, piece: bytes, now: float) -> None:
        fields = dict(line.split(b": ", 1) for line in piece.split(b"\n") if b": " in line)
        self._last_id = fields.get(b"id", self._last_id.encode()).decode()
        if fields.get(b"event") == b"end":
            self._ended = True
        elif fields.get(b"event") == b"chunk":
            number, said = json.loads(fields[b"data"])["text"].split()
            self.numbers.append(int(number))
            self._left -= 1
            self.joined.set()
            if int(number):
                self.latencies_s.append(now - float(said))


class Body:
    """The bytes of an answer without their framing."""

    def __init__(self) -> None:
        self.text = b""

    def on_body(self, data: bytes) -> None:
        """More of them."""
        self.text += data


async def watched(machine: Machine) -> Row:
    """All viewers, from the first token to the ends."""
    ids = [f"bench-{secrets.token_hex(8)}" for _ in range(RUNS)]
    choose = random.Random(7)
    viewers = [Viewer(machine, f"/api/v1/streams/models/{one}", choose) for one in ids * VIEWERS]
    how = (machine.bus_url, machine.seed("models"), str(TOKENS_PER_S), str(TOKENS))
    models = subprocess.Popen(
        [sys.executable, "-m", "tests.load.speaking", *how, *ids],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert models.stdin is not None
    assert models.stdout is not None
    try:
        await asyncio.to_thread(models.stdout.readline)
        watching = [asyncio.create_task(viewer.watch()) for viewer in viewers]
        await asyncio.wait_for(asyncio.gather(*(v.joined.wait() for v in viewers)), END_S)
        models.stdin.write(b"go\n")
        models.stdin.flush()
        row = await with_cpu(machine.pids(), lambda: to_the_end(watching, viewers))
        counted(row, viewers)
        return row
    finally:
        models.kill()
        models.wait()


async def to_the_end(watching: "list[asyncio.Task[None]]", viewers: list[Viewer]) -> Measured:
    """Once all have seen the end, or their time is over."""
    began = time.perf_counter()
    _, late = await asyncio.wait(watching, timeout=END_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return Measured(time.perf_counter() - began, [s for v in viewers for s in v.latencies_s])


def counted(row: Row, viewers: list[Viewer]) -> None:
    """Which tokens some viewer did not see, or saw more than once."""
    row.counts = {
        LOST: sum(TOKENS + 1 - len(set(v.numbers)) for v in viewers),
        DOUBLED: sum(len(v.numbers) - len(set(v.numbers)) for v in viewers),
        "reconnects": sum(viewer.connections - 1 for viewer in viewers),
    }
    row.measured.failed = row.counts[LOST] + row.counts[DOUBLED]
    row.note = "tokens said by a process beside the platform, not by its model"


def lost(row: Row) -> float:
    """Tokens that a viewer did not see."""
    return row.counts[LOST]


def doubled(row: Row) -> float:
    """Tokens that a viewer saw again."""
    return row.counts[DOUBLED]
