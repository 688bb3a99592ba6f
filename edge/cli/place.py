"""Where the edge is and with which key to ask it.

`PORTAL_URL` and `PORTAL_API_KEY` decide. Without them it is the installation that runs from this
machine's data folder, whose state file says the address and where the admin key is kept.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.embedded import folder


class NotRunning(Exception):
    """No edge answers where it should be."""


class BrokenOff(NotRunning):
    """An edge was there, and the connection to it broke."""


@dataclass(frozen=True)
class Place:
    """An edge, the credential for it, and the file of whom to trust that it is one."""

    url: str
    key: str | None
    trust: Path | None = None


def find() -> Place:
    """The edge to ask.

    Raises:
        NotRunning: No address is set and nothing runs here.
    """
    url = os.environ.get("PORTAL_URL") or (installation().get("addresses") or {}).get("edge")
    if not url:
        raise NotRunning("nothing runs here")
    key = os.environ.get("PORTAL_API_KEY") or admin_key()
    return Place(url.rstrip("/"), key, trust())


def trust() -> Path | None:
    """Whom to trust besides the system's authorities: those of this machine's installation."""
    path = folder.chosen().certificates() / "ca.pem"
    return path if path.is_file() else None


def installation() -> dict[str, Any]:
    """The state of this machine's installation; empty if none runs."""
    try:
        state: dict[str, Any] = json.loads(folder.chosen().state.read_text())
        return state
    except (OSError, ValueError):
        return {}


def admin_key() -> str | None:
    """The admin key, if it is kept in this machine's data folder and may be read."""
    path = Path(installation().get("admin_key_file") or folder.chosen().admin_key)
    try:
        return path.read_text().strip()
    except OSError:
        return None
