"""How to ask a process on this machine whether it works.

Bare sockets on purpose: a probe runs every few seconds for each process, so it opens one
connection, asks one thing, and closes. Every probe is bounded by `PROBE_S_MAX`.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator

from deploy.embedded.ports import LOOPBACK
from deploy.embedded.spec import NotReady, Probe

PROBE_S_MAX = 5.0
ANSWER_BYTES_MAX = 64 * 1024
HTTP_OK = 200


@contextlib.asynccontextmanager
async def connected(
    port: int, trust: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a local port, for a few seconds; over TLS if there is whom to trust."""
    async with asyncio.timeout(PROBE_S_MAX):
        reader, writer = await asyncio.open_connection(LOOPBACK, port, ssl=trust)
        try:
            yield reader, writer
        finally:
            writer.close()


async def get(port: int, path: str, trust: ssl.SSLContext | None = None) -> bytes:
    """The body of `GET path`.

    Raises:
        NotReady: The status is not 200.
    """
    async with connected(port, trust) as (reader, writer):
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(None, 2)[1])
        if status != HTTP_OK:
            raise NotReady(f"GET {path} answers {status}")
        return await reader.read(ANSWER_BYTES_MAX)


def http(
    port: int, path: str, containing: bytes = b"", *, trust: ssl.SSLContext | None = None
) -> Probe:
    """Asks for a path; it must answer 200 and its body hold `containing`."""

    async def probe() -> None:
        if containing not in await get(port, path, trust):
            raise NotReady(f"GET {path} does not say {containing.decode()}")

    return probe


def listens(port: int) -> Probe:
    """Connects; the handshake is for whoever comes."""

    async def probe() -> None:
        async with connected(port):
            pass

    return probe


def every(*probes: Probe) -> Probe:
    """All of the probes, one after the other."""

    async def probe() -> None:
        for one in probes:
            await one()

    return probe


def valkey(port: int, password: str, trust: ssl.SSLContext | None = None) -> Probe:
    """Logs in and pings; a server that still loads its data is not ready."""

    async def probe() -> None:
        async with connected(port, trust) as (reader, writer):
            writer.write(f"AUTH {password}\r\nPING\r\n".encode())
            for _ in ("AUTH", "PING"):
                answer = await reader.readline()
                if not answer.startswith(b"+"):
                    raise NotReady(answer.decode().strip() or "the connection was closed")

    return probe
