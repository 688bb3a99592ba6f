"""TLS for everything that this process listens on or connects to, from one folder of certificates.

    role file ──► serving(role) ──► uvicorn          a port of ours; asks the caller for nothing
    ca.pem    ──► asking(role)  ──► nats, asyncpg, redis, model server: names are verified

Every context reads its files again when they have changed, at the next handshake: certificates are
replaced under load, and what is connected stays so. TLS 1.2 with forward secrecy and AEAD at least.
"""

import ipaddress
import ssl
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import REGISTRY, Collector

from bus.certificate_folder import PUBLIC, TRUST, CertificateFolder
from bus.clock import Clock
from bus.settings import EXIT_BAD_SETTINGS, Settings

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
Make = Callable[[], ssl.SSLContext]


class Fresh(ssl.SSLContext):
    """A context that is made anew when one of its files has changed."""

    _files: tuple[Path, ...]
    _make: Make
    _seen: tuple[object, ...]
    _now: ssl.SSLContext

    @classmethod
    def of(cls, protocol: int, files: Iterable[Path], make: Make) -> Self:
        """A context over these files.

        Raises:
            OSError: One of them is missing or no certificate (`ssl.SSLError`).
        """
        fresh = cls(protocol)
        fresh._files, fresh._make = tuple(files), make
        fresh._seen, fresh._now = fresh._look(), make()
        return fresh

    def current(self) -> ssl.SSLContext:
        """The context of the files as they are; the last good one if they are not."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._now = self._make()
            except OSError as broken:
                structlog.get_logger().error("certificate kept", error=str(broken))
        return self._now

    def wrap_bio(self, *args: Any, **named: Any) -> ssl.SSLObject:
        """What event loops call for each connection."""
        return self.current().wrap_bio(*args, **named)

    def wrap_socket(self, *args: Any, **named: Any) -> ssl.SSLSocket:
        """What blocking clients call."""
        return self.current().wrap_socket(*args, **named)

    def _look(self) -> tuple[object, ...]:
        return tuple(stamp(file) for file in self._files)


def stamp(file: Path) -> object:
    """Changes when the file is replaced or written."""
    try:
        seen = file.stat()
    except OSError:
        return None
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def serving_from(*files: Path) -> Fresh:
    """What a port shows: the first of these PEM files that is there, with key and certificates."""

    def make() -> ssl.SSLContext:
        context = hardened(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        context.load_cert_chain(next((file for file in files if file.exists()), files[-1]))
        return context

    return Fresh.of(ssl.PROTOCOL_TLS_SERVER, files, make)


def asking_with(trust: Path, own: Path | None = None, *, public: bool = False) -> Fresh:
    """What a client trusts, besides the system's authorities if `public`, and what it shows."""

    def make() -> ssl.SSLContext:
        context = hardened(ssl.create_default_context(cafile=trust))
        if public:
            context.load_default_certs()
        if own is not None:
            context.load_cert_chain(own)
        return context

    return Fresh.of(ssl.PROTOCOL_TLS_CLIENT, [trust, *([own] if own else [])], make)


def hardened(context: ssl.SSLContext) -> ssl.SSLContext:
    """TLS 1.2 at least, and no suite without forward secrecy and authenticated encryption."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    return context


def folder(settings: Settings) -> CertificateFolder:
    """The certificates that this process uses."""
    return CertificateFolder(settings.certificates or settings.data / "certificates")


def serving(settings: Settings, role: str) -> dict[str, Any]:
    """What uvicorn needs to serve a role's port over TLS; nothing if TLS is off."""
    if settings.tls == "off":
        return {}
    found = folder(settings)
    public = [found.of(PUBLIC)] if role == "edge" else []
    context = serving_from(*public, found.of(role))
    return {"ssl_context_factory": lambda *_: context}


def asking(settings: Settings, role: str | None = None, *, public: bool = False) -> Fresh | None:
    """The context of a client; with the role's certificate if one is named. None if TLS is off."""
    if settings.tls == "off":
        return None
    found = folder(settings)
    return asking_with(found.of(TRUST), found.of(role) if role else None, public=public)


def nats_options(settings: Settings, role: str) -> dict[str, Any]:
    """What a NATS client needs: it shows who it is, and TLS comes before the first byte."""
    context = asking(settings, role)
    if context is None:
        return {}
    from bus import handshake  # nats-py is not needed by all who come here

    handshake.install()
    return {"tls": context, "tls_handshake_first": True}


def postgres_options(settings: Settings) -> dict[str, Any]:
    """What asyncpg needs; with a context it never falls back to plain text."""
    context = asking(settings)
    return {"ssl": context} if context else {}


def redis_options(settings: Settings) -> dict[str, Any]:
    """What redis-py needs; it reads the file at each connection by itself."""
    if settings.tls == "off":
        return {}
    return {
        "ssl_ca_certs": str(folder(settings).of(TRUST)),
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def libpq_query(settings: Settings) -> str:
    """What libpq needs, as the end of a database's URL."""
    if settings.tls == "off":
        return ""
    return f"sslmode=verify-full&sslrootcert={quote(str(folder(settings).of(TRUST)))}"


def check(settings: Settings, role: str, host: str | None = None) -> None:
    """See that this process may start: nothing plain beyond loopback, every file there.

    Raises:
        SystemExit: It may not (status 2).
    """
    wrong = []
    if settings.tls == "off":
        if host is not None and not is_loopback(host):
            wrong = [f"{role} would listen on {host} in plain text: set PORTAL_TLS=on, or a "
                     "loopback address"]  # fmt: skip
    else:
        found = folder(settings)
        wrong = [
            f"no certificate {path}: see `portal certificates init`"
            for path in map(found.of, (TRUST, role, "metrics"))
            if not path.is_file()
        ]
        expose(found)
    for line in wrong:
        sys.stderr.write(f"refused: {line}\n")
    if wrong:
        raise SystemExit(EXIT_BAD_SETTINGS)


def is_loopback(host: str) -> bool:
    """Whether nobody else can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class DaysLeft(Collector):
    """The gauge of days that each certificate is still good, read when it is asked for."""

    def __init__(self, found: CertificateFolder) -> None:
        self.found = found

    def collect(self) -> Iterable[Metric]:
        """One sample a certificate."""
        gauge = GaugeMetricFamily(
            "portal_certificate_days_left", "Days until it ends.", labels=["certificate"]
        )
        for one in self.found.standings(Clock().now()):
            gauge.add_metric([one.name], one.days_left)
        yield gauge


def expose(found: CertificateFolder) -> None:
    """Show on `/metrics` how long the certificates are good."""
    REGISTRY.register(DaysLeft(found))
