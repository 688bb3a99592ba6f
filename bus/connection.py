"""How every process connects to NATS, with or without a subscriber framework on top."""

from typing import Any

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
