"""How every process connects to NATS, with or without a subscriber framework on top."""

from typing import Any

from nats.aio.client import Client as Connection

CONNECT_TIMEOUT_S = 2
PING_S = 3


def connect_options(name: str) -> dict[str, Any]:
    """How every process connects: reconnect for ever, notice a dead link within 9 s."""
    return {
        "name": name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.2,
        "ping_interval": PING_S,
        "max_outstanding_pings": 2,
    }


def connect_once_options(name: str) -> dict[str, Any]:
    """How a program that asks and ends connects: it says itself what failed."""

    async def keep_quiet(_: Exception) -> None:
        return

    return connect_options(name) | {"max_reconnect_attempts": 1, "error_cb": keep_quiet}


async def hang_up(connection: Connection) -> None:
    """Close for good, whether or not the server is there.

    The driver would write what is pending to a socket that is gone, fail, and leave it open.
    """
    if not connection.is_connected:
        connection._pending.clear()
        connection._pending_data_size = 0
    await connection.close()
