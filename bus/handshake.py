"""The TLS handshake of nats-py, done so that a failure is a failure.

nats-py keeps the plain stream after a handshake that failed and waits for ever for it to close: a
process whose certificate is refused would hang in silence instead of trying again. It also leaves
the secured stream without flow control. Both are one method of its transport.
"""

import asyncio
import ssl
from typing import Any

import nats.aio.client
from nats.aio.transport import TcpTransport


class Transport(TcpTransport):  # type: ignore[misc]  # nats-py has no types
    """nats-py's transport with a handshake that ends."""

    _io_reader: asyncio.StreamReader | None
    _io_writer: asyncio.StreamWriter | None

    async def connect_tls(
        self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: int
    ) -> None:
        """Go over to TLS on the open stream; `uri` names whom the certificate must name."""
        assert self._io_writer is not None
        plain = self._io_writer.transport
        reader = asyncio.StreamReader(limit=buffer_size)
        protocol = asyncio.StreamReaderProtocol(reader)
        loop = asyncio.get_running_loop()
        name = uri if isinstance(uri, str) else uri.hostname
        shaking = loop.start_tls(plain, protocol, ssl_context, server_hostname=name)
        try:
            secured = await asyncio.wait_for(shaking, connect_timeout)
        except BaseException:
            plain.abort()
            self._io_reader = self._io_writer = None
            raise
        assert secured is not None
        protocol.connection_made(secured)
        self._io_reader = reader
        self._io_writer = asyncio.StreamWriter(secured, protocol, reader, loop)


def install() -> None:
    """Have every client of this process use it."""
    nats.aio.client.TcpTransport = Transport
