"""A load generator over keep-alive connections: one request after another on each.

It writes prepared bytes and reads until the body is complete, so that its own share of the CPU
stays small beside the servers'.
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass
class Measured:
    """What one load showed."""

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

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


async def answer(reader: asyncio.StreamReader) -> bool:
    """Read one answer; whether its status is below 300."""
    head = await reader.readuntil(b"\r\n\r\n")
    match = LENGTH.search(head)
    if match:
        await reader.readexactly(int(match[1]))
    return head[9:10] == b"2"


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
