"""Which port each process listens on: the usual one, or the next free one, remembered.

A port once chosen is kept in `ports.json` and taken again while it is free, so that addresses
stay the same over restarts. Test servers remember nothing: they take any free port below the
range from which the system gives ports to outgoing connections, because one of those could
take it between our look and the server's start. Their choice does not follow the seed that tests
give to `random`: workers with one seed would all choose the same.
"""

import contextlib
import json
import random
import socket
from collections.abc import Callable
from pathlib import Path

from deploy.embedded import refusal
from deploy.embedded.folder import write_private

LOOPBACK = "127.0.0.1"
USUAL_PORTS = {"nats": 4222, "postgres": 5432, "redis": 6379, "ollama": 11434}
SERVICES = tuple(USUAL_PORTS)
TRIED_AFTER_PREFERRED = 200
ANY_FROM, ANY_TO = 20_000, 32_000
ANY_TRIES = 200
ANY = random.SystemRandom()


class Ports:
    """Gives out ports. `file` remembers them; `say` hears of each that is not the usual one."""

    def __init__(self, file: Path | None, say: Callable[[str, str], None]) -> None:
        self._file = file
        self._say = say
        self._given: set[int] = set()
        self._remembered = remembered(file) if file else {}

    def take(self, name: str, usual: int) -> int:
        """A free port for `name`; `usual` 0 takes any.

        Raises:
            Refused: No port near the usual one is free.
        """
        kept = self._remembered.get(name, usual)
        candidates = [kept, *range(usual, usual + TRIED_AFTER_PREFERRED)] if usual else [kept]
        candidates += ANY.sample(range(ANY_FROM, ANY_TO), ANY_TRIES)
        port = next((port for port in candidates if port and self._free(port)), None)
        if port is None:
            raise refusal.cannot_run(name, f"no free port from {usual} on")
        if usual and port != usual:
            reason = "as before" if port == kept else f"{kept} is taken"
            self._say(name, f"port {port} ({reason})")
        self._keep(name, port)
        return port

    def _free(self, port: int) -> bool:
        return port not in self._given and is_free(port)

    def _keep(self, name: str, port: int) -> None:
        self._given.add(port)
        self._remembered[name] = port
        if self._file:
            write_private(self._file, json.dumps(self._remembered, indent=1))


def remembered(file: Path) -> dict[str, int]:
    """What the last start chose; nothing if the file is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        ports = json.loads(file.read_text())
        return {name: port for name, port in ports.items() if isinstance(port, int)}
    return {}


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except (OSError, OverflowError):
            return False
        return True
