"""TLS on every port: plain text and old versions refused, names verified, certificates replaced
while everything works. One installation runs for the whole file.
"""

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import asyncpg
import nats
import psycopg
import pytest
import redis.asyncio as redis

from bus import tls
from bus.certificate_folder import CertificateFolder
from bus.certificates import ROLES
from bus.connection import connect_once_options
from bus.settings import Settings
from tests.conftest import eventually
from tests.security import secured
from tests.security.secured import Installation, answer, eventually_now, handshake

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(150)]
STARTUP = b"\0\0\0\x16\0\3\0\0user\0portal\0\0\0"
PLAIN = {
    "nats": b'CONNECT {"verbose":true}\r\nPING\r\n',
    "postgres": STARTUP,
    "redis": b"PING\r\n",
}
HTTP = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
SPEAKS = (b"INFO", b"PONG", b"HTTP/1.1 2", b"HTTP/1.0 2", b"-NOAUTH", b"R\0\0\0")
SERVING = {
    "nats": "nats", "nats.monitor": "nats", "postgres": "postgres", "redis": "valkey",
    "ollama": "models", "edge": "edge", "edge.health": "metrics", "handlers.health": "metrics",
}  # fmt: skip
Drive = Callable[[Settings], Awaitable[Any]]


@pytest.fixture(scope="module")
def running() -> Iterator[Installation]:
    with secured.installation() as one:
        yield one


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> CertificateFolder:
    """The certificates of somebody else, for the same names."""
    other = CertificateFolder(tmp_path_factory.mktemp("foreign"))
    other.init([], datetime.now(UTC))
    return other


def test_no_process_listens_on_a_port_that_is_not_looked_at_here(running):
    assert running.listening() == {running.ports()[name] for name in SERVING}


@pytest.mark.parametrize("name", SERVING)
def test_plain_text_is_refused(running, name):
    heard = answer(running.ports()[name], PLAIN.get(name, HTTP))

    assert not heard.startswith(SPEAKS)
    if name == "postgres":
        assert b"28000" in heard


def test_bytes_behind_a_request_for_tls_are_not_taken_for_the_clients(running):
    heard = answer(running.ports()["postgres"], secured.SSL_REQUEST + STARTUP)

    assert heard.startswith(b"E")


@pytest.mark.parametrize("name", SERVING)
def test_the_newest_version_is_spoken_and_1_2_is_the_oldest(running, name):
    port, postgres = running.ports()[name], name == "postgres"
    trust = ssl.create_default_context(cafile=running.certificates.of("ca"))
    assert handshake(port, trust, postgres=postgres) == "TLSv1.3"

    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    trust.load_cert_chain(running.certificates.of("handlers"))
    assert handshake(port, trust, postgres=postgres) == "TLSv1.2"


@pytest.mark.parametrize("name", SERVING)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_1_is_refused(running, name):
    old = ssl.create_default_context(cafile=running.certificates.of("ca"))
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1

    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(running.ports()[name], old, postgres=name == "postgres")


async def test_the_platform_works_over_https_and_says_so(running):
    async with running.client() as client:
        made = await client.post(
            "/api/v1/agents", json={"name": "secured"},
            headers={"idempotency-key": "tls-secured"},
        )  # fmt: skip
        listed = await client.get("/api/v1/agents", params={"limit": 100})

    assert made.status_code == 201, made.text
    assert "secured" in [one["name"] for one in listed.json()["items"]]
    assert listed.headers["strict-transport-security"].startswith("max-age=")


def test_the_command_line_and_the_doctor_find_their_way(running):
    listed, doctor = running.portal("agents", "list", "--json"), running.portal("doctor")

    assert listed.returncode == 0, listed.stderr
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_the_private_port_tells_how_long_certificates_are_good(running):
    port = running.ports()["handlers.health"]
    trust = tls.asking_with(running.certificates.of("ca"))
    with secured.connected(port) as raw, trust.wrap_socket(raw, server_hostname="localhost") as one:
        one.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        metrics = b"".join(iter(lambda: one.recv(65536), b""))

    for name in ("ca", *ROLES):
        assert f'portal_certificate_days_left{{certificate="{name}"}}'.encode() in metrics


def first_word(port: int, context: ssl.SSLContext) -> bytes:
    """What NATS says to whoever shows this certificate; with TLS 1.3 a refusal comes only here."""
    raw = secured.connected(port)
    with raw, context.wrap_socket(raw, server_hostname="localhost") as one:
        said = one.recv(4)
    if not said:
        raise ConnectionError("it hung up without a word")
    return said


def test_nats_speaks_only_to_those_who_show_a_certificate_of_ours(running, foreign):
    port, trust = running.ports()["nats"], running.certificates.of("ca")

    assert first_word(port, tls.asking_with(trust, running.certificates.of("handlers"))) == b"INFO"
    for wrong in (None, foreign.of("handlers"), running.certificates.of("valkey")):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            first_word(port, tls.asking_with(trust, wrong))


async def on_nats(settings: Settings) -> None:
    url = settings.nats_url.get_secret_value()
    connection = await nats.connect(
        url, **connect_once_options("admin", settings), **tls.nats_options(settings, "admin")
    )
    await connection.close()


async def on_postgres(settings: Settings) -> None:
    url = settings.postgres_url.get_secret_value()
    connection = await asyncpg.connect(url, **tls.postgres_options(settings))
    await connection.close()


async def on_postgres_as_migrations_do(settings: Settings) -> None:
    url = f"{settings.postgres_url.get_secret_value()}?{tls.libpq_query(settings)}"
    with await asyncio.to_thread(psycopg.connect, url) as connection:
        assert connection.pgconn.ssl_in_use


async def on_valkey(settings: Settings) -> None:
    url = settings.redis_url.get_secret_value()
    async with redis.Redis.from_url(url, **tls.redis_options(settings)) as client:
        await client.ping()


DRIVES = (on_nats, on_postgres, on_postgres_as_migrations_do, on_valkey)


@pytest.mark.parametrize("drive", DRIVES)
async def test_our_clients_connect_and_refuse_a_server_of_another_authority(
    running: Installation, foreign: CertificateFolder, drive: Drive
) -> None:
    await drive(running.settings())

    with pytest.raises(Exception, match=r"(?i)certificate verify failed|no servers available"):
        await drive(running.settings(foreign.root))


def test_settings_with_a_plain_address_are_refused_when_tls_is_on(running):
    done = subprocess.run(
        [sys.executable, "-m", "edge"], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PORTAL_TLS": "on", "PORTAL_NATS_URL": "nats://127.0.0.1:1"},
    )  # fmt: skip

    assert done.returncode == 2
    assert "nats_url must begin with tls://" in done.stderr


@pytest.mark.parametrize("command", [["edge"], ["deploy.embedded", "up"]])
def test_what_would_listen_beyond_loopback_in_plain_text_refuses_to_start(command, tmp_path):
    environment = {
        **os.environ, "PORTAL_DATA": str(tmp_path), "PORTAL_TLS": "off", "PORTAL_EDGE_HOST": "0.0.0.0",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip

    assert done.returncode == 2
    assert "0.0.0.0" in done.stderr
    assert "PORTAL_TLS=on" in done.stderr


class Load:
    """Requests without a pause over kept and over fresh connections; remembers what failed."""

    def __init__(self, running: Installation) -> None:
        self._running = running
        self._going = True
        self.done = 0
        self.failed: list[str] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._keep_asking(fresh=number % 2 == 1)) for number in range(4)
        ]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._going = False
        await asyncio.gather(*self._tasks)

    async def _keep_asking(self, *, fresh: bool) -> None:
        async with self._running.client() as kept:
            while self._going:
                try:
                    if fresh:
                        async with self._running.client() as client:
                            await self._once(client)
                    else:
                        await self._once(kept)
                except Exception as broken:
                    self.failed.append(repr(broken))

    async def _once(self, client: Any) -> None:
        self.done += 1
        name = f"loaded-{os.getpid()}-{self.done}"
        made = await client.post(
            "/api/v1/agents", json={"name": name},
            headers={"idempotency-key": name},
        )  # fmt: skip
        read = await client.get(f"/api/v1/agents/{made.json().get('id')}")
        if (made.status_code, read.status_code) != (201, 200):
            self.failed.append(f"{made.status_code} {made.text} {read.status_code} {read.text}")

    async def go_on(self) -> None:
        """Return when each has asked some more."""
        target = self.done + 12
        await asyncio.to_thread(eventually_now, lambda: self.done >= target or self.failed, 30)


async def in_force(running: Installation, before: dict[str, bytes]) -> None:
    """Every port shows another certificate than before."""

    def new() -> bool:
        return all(running.shown(name) != before[name] for name in SERVING)

    await asyncio.to_thread(eventually_now, new, 30)


def shown(running: Installation) -> dict[str, bytes]:
    return {name: running.shown(name) for name in SERVING}


async def test_every_key_and_certificate_is_replaced_under_load_and_no_request_fails(running):
    pids = {one["name"]: one["pid"] for one in running.state()["processes"]}
    connections = running.on_the_bus()
    async with Load(running) as load:
        for words in (
            ["rotate"],
            ["rotate", "--authority"],
            ["rotate", "--retire"],
        ):
            before = await asyncio.to_thread(shown, running)
            await load.go_on()
            done = await asyncio.to_thread(running.portal, "certificates", *words)
            assert done.returncode == 0, done.stderr
            await in_force(running, before)
            await load.go_on()
    assert load.failed == []
    assert connections == running.on_the_bus()
    assert set(connections) == {"edge", "handlers"}
    assert pids == {one["name"]: one["pid"] for one in running.state()["processes"]}


async def test_clients_show_their_new_certificate_when_they_connect_again(running):
    """The server trusts no more who signed the certificate of their first connection."""
    at = datetime.now(UTC)
    running.certificates.rotate_authority(at)
    running.certificates.retire(at)
    killed = running.pid("nats")
    os.kill(killed, signal.SIGKILL)
    await asyncio.to_thread(
        eventually_now, lambda: running.pid("nats") != killed and running.state()["ready"]
    )

    async with running.client() as client:

        async def served():
            return (await client.get("/api/v1/agents")).status_code == 200

        await eventually(served)
    assert set(running.on_the_bus()) == {"edge", "handlers"}
    await asyncio.to_thread(  # the streams in memory went with the server, and come back
        eventually_now, lambda: running.portal("doctor").returncode == 0
    )


def test_the_standing_of_each_certificate_is_shown(running):
    status = running.portal("certificates", "status")
    as_json = running.portal("certificates", "status", "--json")

    assert status.returncode == 0
    assert socket.gethostname() in status.stdout
    assert len(as_json.stdout.splitlines()) == len(ROLES) + 1


def test_a_certificate_that_is_due_is_named_and_the_status_says_so(tmp_path, running):
    old = CertificateFolder(tmp_path / "certificates")
    old.init([], datetime(2020, 1, 1, tzinfo=UTC))
    done = subprocess.run(
        [sys.executable, "-m", "edge.cli", "certificates", "status"], capture_output=True,
        text=True, check=False, env={**running.environment, "PORTAL_DATA": str(tmp_path)},
        cwd=Path(__file__).parents[2], timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert "less than 30 days left: nats" in done.stderr
