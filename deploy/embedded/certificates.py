"""The certificates of this machine's installation: where they are, and that none runs out.

`PORTAL_CERTIFICATES` names the folder; without it it is `certificates` in the data folder. TLS is
on when it is asked for, or when the edge is to listen beyond loopback.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from bus.certificate_folder import TRUST, CertificateFolder
from bus.clock import Clock
from bus.tls import Fresh, asking_with, is_loopback
from deploy.embedded import refusal
from deploy.embedded.folder import DataFolder
from deploy.embedded.ports import LOOPBACK

RENEW_EVERY_S = 3600.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 # nosec B104


@dataclass(frozen=True)
class Secured:
    """TLS on: the certificates, and what this machine's probes trust."""

    folder: CertificateFolder
    trust: Fresh

    def file(self, role: str) -> Path:
        """The key and certificate of a role."""
        return self.folder.of(role)

    def environment(self, edge_port: int) -> dict[str, str]:
        """What every process is told of it."""
        return {
            "PORTAL_TLS": "on",
            "PORTAL_CERTIFICATES": str(self.folder.root),
            "PORTAL_PUBLIC_URL": os.environ.get("PORTAL_PUBLIC_URL")
            or f"https://localhost:{edge_port}",
        }

    def renew(self) -> list[str]:
        """Replace what is due; returns whose."""
        return self.folder.renew(Clock().now())


def chosen(folder: DataFolder) -> CertificateFolder:
    """The certificates of that data folder."""
    return CertificateFolder(folder.certificates())


def secured(folder: DataFolder) -> Secured:
    """The certificates, made where they are missing and renewed where they are due.

    Raises:
        Refused: They come from elsewhere and are not all here (ERR_704).
    """
    found, at = chosen(folder), Clock().now()
    found.init(hosts(), at)
    found.renew(at)
    missing = found.missing()
    if missing:
        reason = f"no certificate for {', '.join(missing)} in {found.root}, and no authority"
        raise refusal.cannot_run("TLS", reason)
    return Secured(found, asking_with(found.of(TRUST)))


def wanted(*, asked: bool) -> bool:
    """Whether TLS is on, from the command, the environment and where the edge listens.

    Raises:
        Refused: The edge would listen beyond loopback in plain text (ERR_706).
    """
    switch = os.environ.get("PORTAL_TLS", "")
    if switch not in ("", "on", "off"):
        raise refusal.bad_argument(f"PORTAL_TLS is on or off, not {switch}")
    beyond = not is_loopback(edge_host())
    if beyond and switch == "off" and not asked:
        raise refusal.bad_argument(f"without TLS nothing listens on {edge_host()}: PORTAL_TLS=on")
    return asked or switch == "on" or beyond


def edge_host() -> str:
    """Where the edge listens."""
    return os.environ.get("PORTAL_EDGE_HOST") or LOOPBACK


def hosts() -> list[str]:
    """The names of this machine that others may connect to."""
    host = edge_host()
    return [socket.gethostname(), *([] if host in EVERYWHERE else [host])]
