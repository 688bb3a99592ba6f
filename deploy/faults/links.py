"""Links between the servers of the bus that can be cut: each goes through a port of ours.

    nats-1 ──► port of 1→2 ──► nats-2

What is sent over a cut link is lost, and nobody is told, as between machines whose switch has died.
A connection that has lost something is closed when the link is mended: nothing can repair it.
"""

import asyncio
import contextlib
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator

from deploy.embedded.ports import LOOPBACK

PIECE = 64 * 1024


class Link:
    """One way from a server to another; connections that are made by it carry both ways."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._cut = False
        self._open: set[StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._carry, LOOPBACK, self.port)

    def close(self) -> None:
        """Listen no more, and end what is carried."""
        if self._server is not None:
            self._server.close()
        self._end_all()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Nothing arrives while the block runs."""
        self._cut = True
        try:
            yield
        finally:
            self._cut = False
            self._end_all()

    def _end_all(self) -> None:
        for writer in tuple(self._open):
            writer.close()

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        with self._kept(writer), contextlib.suppress(OSError):
            there_reader, there_writer = await asyncio.open_connection(LOOPBACK, self._target)
            with self._kept(there_writer):
                await asyncio.gather(
                    self._pump(reader, there_writer), self._pump(there_reader, writer)
                )

    @contextlib.contextmanager
    def _kept(self, writer: StreamWriter) -> Iterator[None]:
        self._open.add(writer)
        try:
            yield
        finally:
            self._open.discard(writer)
            writer.close()

    async def _pump(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry one direction until its end, which is the end of the other one too."""
        try:
            while piece := await reader.read(PIECE):
                if not self._cut:
                    writer.write(piece)
                    await writer.drain()
        finally:
            writer.close()
