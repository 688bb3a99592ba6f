"""Starting and stopping one installation: nothing stays, nobody gets in twice, data lasts."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import nats
import pytest
import redis.asyncio

from deploy.embedded.orphans import started_at

pytestmark = pytest.mark.timeout(180)


def left_in(foreground: Any) -> list[str]:
    """What should not be there after a stop."""
    return [str(path) for path in (foreground.data / "run").rglob("*") if path.name != "pids"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_in_order_and_leaves_no_process_and_no_lock(
    foreground: Any, number: int
) -> None:
    process = foreground.up()
    pids = foreground.pids()
    assert set(pids) == {"nats", "postgres", "valkey"}
    assert foreground.stop(process, number) == 0
    assert [name for name, pid in pids.items() if started_at(pid)] == []
    assert left_in(foreground) == []
    said = process.stderr.read()
    order = [line.split()[0] for line in said.splitlines() if " stopped" in line]
    assert order == ["valkey", "nats", "postgres"]


def test_a_signal_during_the_first_start_leaves_nothing(foreground: Any) -> None:
    shutil.rmtree(foreground.data / "postgres")
    process = foreground.start()
    for line in process.stderr:
        if "making the database files" in line:
            break
    assert foreground.stop(process) == 0
    assert left_in(foreground) == []
    foreground.up()


def test_down_stops_it_and_is_content_when_nothing_runs(foreground: Any) -> None:
    process = foreground.up()
    assert foreground.run("down").returncode == 0
    assert process.wait(5) == 0
    assert left_in(foreground) == []
    assert foreground.run("down").returncode == 0
    status = foreground.run("status", "--json")
    assert status.returncode == 1
    assert '"ready": false' in status.stdout


def test_a_second_start_on_the_same_data_is_refused(foreground: Any) -> None:
    process = foreground.up()
    second = foreground.run("up", "--only", "servers")
    assert second.returncode == 3
    where = foreground.state()["addresses"]["nats"]
    assert f"ERR_700: already running at {where} (pid {process.pid})" in second.stderr
    assert foreground.state()["ready"]


async def test_data_survives_a_restart(foreground: Any) -> None:
    process = foreground.up()
    await write_everywhere(foreground)
    foreground.stop(process)
    foreground.up()
    assert await read_everywhere(foreground) == (b"kept", "kept", "kept")


async def write_everywhere(foreground: Any) -> None:
    bus = await nats.connect(foreground.url("nats"), **foreground.bus_as("admin"))
    await bus.jetstream().add_stream(name="KEPT", subjects=["job.goals.plan"])
    await bus.close()
    bus = await nats.connect(foreground.url("nats"), **foreground.bus_as("goals"))
    await bus.jetstream().publish("job.goals.plan", b"kept")
    await bus.close()
    cache = redis.asyncio.from_url(foreground.url("redis"), decode_responses=True)
    await cache.set("kept", "kept")
    await cache.aclose()
    database = await asyncpg.connect(foreground.url("postgres"))
    await database.execute("CREATE TABLE kept AS SELECT 'kept' AS word")
    await database.close()


async def read_everywhere(foreground: Any) -> tuple[Any, Any, Any]:
    bus = await nats.connect(foreground.url("nats"), **foreground.bus_as("admin"))
    message = await bus.jetstream().get_msg("KEPT", 1)
    await bus.close()
    cache = redis.asyncio.from_url(foreground.url("redis"), decode_responses=True)
    value = await cache.get("kept")
    await cache.aclose()
    database = await asyncpg.connect(foreground.url("postgres"))
    word = await database.fetchval("SELECT word FROM kept")
    await database.close()
    return message.data, value, word


def test_secrets_and_state_are_readable_by_their_owner_only(foreground: Any) -> None:
    foreground.up()
    secrets = list((foreground.data / "secrets").rglob("*"))
    assert len(secrets) >= 4
    files = [*secrets, foreground.data / "run" / "state.json", foreground.data / "nats/nats.conf"]
    assert {path.stat().st_mode & 0o077 for path in files} == {0}
    shown = foreground.run("status", "--json").stdout
    assert foreground.password("valkey") not in shown
    assert foreground.secret("nats/admin.seed") not in shown


async def test_no_server_answers_without_its_password(foreground: Any) -> None:
    foreground.up()
    addresses = foreground.state()["addresses"]
    assert b"Authorization Violation" in await said_by(addresses["nats"], b"CONNECT {}\r\nPING\r\n")
    assert b"NOAUTH" in await said_by(addresses["redis"], b"GET a\r\nQUIT\r\n")
    with pytest.raises(asyncpg.PostgresError):
        # pragma: allowlist nextline secret
        await asyncpg.connect(addresses["postgres"].replace("://", "://portal:wrong@"))


async def said_by(address: str, question: bytes) -> bytes:
    """All that a server answers until it closes the connection."""
    parts = urlsplit(address)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    writer.write(question)
    try:
        return await asyncio.wait_for(reader.read(), 5)
    finally:
        writer.close()
        await writer.wait_closed()


def test_a_taken_port_is_replaced_by_a_free_one_that_is_remembered(foreground: Any) -> None:
    (foreground.data / "ports.json").unlink()
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):  # if somebody else has it: just as good
            squatter.bind(("127.0.0.1", 6379))
            squatter.listen()
        process = foreground.up()
        before = foreground.state()["addresses"]["redis"]
        foreground.stop(process)
        assert "6379 is taken" in process.stderr.read()
    process = foreground.up()
    assert foreground.state()["addresses"]["redis"] == before
    foreground.stop(process)
    assert "as before" in process.stderr.read()


def test_a_second_signal_ends_everything_at_once(foreground: Any) -> None:
    process = foreground.up()
    pids = foreground.pids()
    subprocess.run(["kill", "-STOP", str(pids["valkey"])], check=True)
    process.send_signal(signal.SIGTERM)
    for line in process.stderr:
        if "Stopping" in line:
            break
    process.send_signal(signal.SIGTERM)
    assert process.wait(8) == 0
    assert [name for name, pid in pids.items() if started_at(pid)] == []
    assert left_in(foreground) == []
