"""A load generator over keep-alive connections: one request after another on each.

It writes prepared bytes and reads until the body is complete, so that its own share of the CPU
stays small beside the servers'.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass
class Measured:
    """What one load showed."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0
    count: int = 0
    """What was done, where it was not timed one by one."""

    @property
    def good(self) -> int:
        """Good answers."""
        return self.count or len(self.latencies_s)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds if self.seconds else 0.0

    def percentile_ms(self, share: float) -> float:
        """Latency below which this share of the answers came."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


async def load(
    host: str, port: int, request: Callable[[int], bytes], connections: int, seconds: float
) -> Measured:
    """Send `request(n)` over and over on every connection for `seconds`."""
    measured, started = Measured(), time.perf_counter()
    until = started + seconds

    async def one(index: int) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        number = index
        while time.perf_counter() < until:
            sent = time.perf_counter()
            writer.write(request(number))
            ok = await answer(reader)
            number += connections
            if ok:
                measured.latencies_s.append(time.perf_counter() - sent)
            else:
                measured.failed += 1
        writer.close()

    await asyncio.gather(*(one(index) for index in range(connections)))
    measured.seconds = time.perf_counter() - started
    return measured


class Doors:
    """Connections that are kept, for requests whose answers matter; one caller on each at a time."""

    def __init__(self, host: str, port: int, key: str, count: int) -> None:
        self._host, self._port, self._key, self._count = host, port, key, count
        self._free = asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]]()

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            self._free.put_nowait(await asyncio.open_connection(self._host, self._port))
        return self

    async def __aexit__(self, *raised: object) -> None:
        while not self._free.empty():
            self._free.get_nowait()[1].close()

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer's JSON.

        Raises:
            Refused: Its status is not below 300.
        """
        return await self._ask(post(path, self._host, self._key, json.dumps(body).encode()))

    async def get(self, path: str) -> dict[str, Any]:
        """The same."""
        return await self._ask(get(path, self._host, self._key))

    async def delete(self, path: str) -> dict[str, Any]:
        """The same."""
        return await self._ask(get(path, self._host, self._key).replace(b"GET", b"DELETE", 1))

    async def _ask(self, request: bytes) -> dict[str, Any]:
        reader, writer = await self._free.get()
        try:
            writer.write(request)
            ok, body = await read(reader)
        finally:
            self._free.put_nowait((reader, writer))
        if not ok:
            raise Refused(body.decode())
        said: dict[str, Any] = json.loads(body)
        return said


class Refused(Exception):
    """An answer of status 300 or above."""


async def answer(reader: asyncio.StreamReader) -> bool:
    """Read one answer; whether its status is below 300."""
    return (await read(reader))[0]


async def read(reader: asyncio.StreamReader) -> tuple[bool, bytes]:
    """One answer: whether its status is below 300, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    match = LENGTH.search(head)
    body = await reader.readexactly(int(match[1])) if match else b""
    return head[9:10] == b"2", body


def get(path: str, host: str, key: str = "") -> bytes:
    """A GET request."""
    authorization = f"authorization: Bearer {key}\r\n" if key else ""
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{authorization}\r\n".encode()


def post(path: str, host: str, key: str, body: bytes) -> bytes:
    """A POST request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
