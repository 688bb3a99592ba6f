"""The configuration of a server: where it listens, its bounds, its keys, and `accounts.conf`.

Absent on purpose: websocket, mqtt and leaf node listeners, `no_auth_user`, `allow_responses`.
"""

from collections.abc import Mapping
from pathlib import Path

ACCOUNTS = Path(__file__).with_name("accounts.conf")
BOUNDS = """\
max_payload: 1MB
max_control_line: 4KB
max_pending: 16MB
max_connections: 1024
max_subscriptions: 10000
write_deadline: "5s"
ping_interval: "5s"
ping_max: 3
lame_duck_duration: "30s"
"""


def configuration(server: str, keys: Mapping[str, str]) -> str:
    """The whole file: `server` names addresses and the store, `keys` the public NKeys."""
    known = "".join(f"{name}: {key}\n" for name, key in keys.items())
    return f"{server}{BOUNDS}{known}{ACCOUNTS.read_text(encoding='utf-8')}"
