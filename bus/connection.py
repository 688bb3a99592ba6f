"""How every process connects to NATS, with or without a subscriber framework on top."""

from typing import Any

from nats.aio.client import Client as Connection

from bus.settings import Settings
from bus.subjects import inbox_of

CONNECT_TIMEOUT_S = 2
PING_S = 3


def connect_options(name: str, settings: Settings) -> dict[str, Any]:
    """How every process connects: reconnect for ever, notice a dead link within 9 s.

    With a seed it proves by its NKey who it is, and gets its replies below its role's own prefix;
    without one the address says it all.
    """
    return credential(settings) | {
        "name": name,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": 0.2,
        "ping_interval": PING_S,
        "max_outstanding_pings": 2,
    }


def credential(settings: Settings) -> dict[str, Any]:
    """Who this process is on the bus."""
    if settings.nats_seed is None:
        return {}
    seed = settings.nats_seed.get_secret_value()
    return {"nkeys_seed_str": seed, "inbox_prefix": inbox_of(settings.nats_role)}


def connect_once_options(name: str, settings: Settings) -> dict[str, Any]:
    """How a program that asks and ends connects: it says itself what failed."""

    async def keep_quiet(_: Exception) -> None:
        return

    return connect_options(name, settings) | {"max_reconnect_attempts": 1, "error_cb": keep_quiet}


async def hang_up(connection: Connection) -> None:
    """Close for good, whether or not the server is there.

    The driver would write what is pending to a socket that is gone, fail, and leave it open.
    """
    if not connection.is_connected:
        connection._pending.clear()
        connection._pending_data_size = 0
    await connection.close()
