"""What the platform's processes are told, in which order they start, and who heals them."""

import json
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from bus import credentials

pytestmark = pytest.mark.timeout(120)
SMALL = (sys.executable, str(Path(__file__).parent / "small_platform.py"))


@pytest.fixture
def platform(foreground: Any) -> Any:
    foreground.environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    return foreground


def test_layers_start_once_the_servers_are_up_to_date_and_learn_where_everything_is(
    platform: Any,
) -> None:
    process = platform.up(command=SMALL)
    steps = (platform.data / "steps").read_text().split()
    assert sorted(steps[:2]) == ["apply", "migrate"]
    assert sorted(steps[2:]) == ["edge", "handlers", "handlers"]
    edge = platform.pids()["edge"]
    told = json.loads((platform.data / f"edge-{edge}.json").read_text())
    secrets = Path(told["PORTAL_SECRETS"])
    assert told["PORTAL_OLLAMA_URL"] == "http://127.0.0.1:1"
    admin = (secrets.parent / "migrate" / "portal_postgres_url").read_text()
    assert admin == "postgresql://a:b@127.0.0.1:1/portal"
    runtime = (secrets.parent / "migrate" / "portal_runtime_postgres_url").read_text()
    assert re.fullmatch(r"postgresql://app_user:[\w-]{32}@/portal\?host=[\w%.-]+&port=1", runtime)
    assert (secrets / "portal_nats_url").read_text() == platform.url("nats")
    assert (secrets / "portal_redis_url").read_text() == platform.url("redis")
    check_what_each_process_can_read(platform, secrets)
    state = platform.state()
    assert state["addresses"]["edge"] == f"http://127.0.0.1:{told['PORTAL_EDGE_PORT']}"
    assert state["addresses"]["postgres"] == "postgresql://127.0.0.1:1/portal"
    assert set(platform.pids()) == {"nats", "valkey", "handlers-1", "handlers-2", "edge"}
    check_admin_key(platform, told)
    assert platform.stop(process) == 0


def check_what_each_process_can_read(platform: Any, edge: Path) -> None:
    layers = edge.parent / "handlers"
    runtime = (edge.parent / "migrate" / "portal_runtime_postgres_url").read_text()
    assert (layers / "portal_postgres_url").read_text() == runtime
    assert not (edge / "portal_postgres_url").exists()
    assert ((edge / "edge.key").exists(), (edge / "handlers.key").exists()) == (True, False)
    assert ((layers / "edge.key").exists(), (layers / "handlers.key").exists()) == (False, True)
    assert not (edge / "portal_issuer_seed").exists()
    for place, role in ((edge, "edge"), (layers, "handlers"), (edge.parent, "admin")):
        assert (place / "portal_nats_role").read_text() == role
        seed = (platform.data / "secrets" / "nats" / f"{role}.seed").read_text()
        assert (place / "portal_nats_seed").read_text() == seed
    for file in (*edge.iterdir(), *layers.iterdir()):
        assert file.stat().st_mode & 0o077 == 0


def check_admin_key(platform: Any, told: dict[str, str]) -> None:
    kept = Path(platform.state()["admin_key_file"])
    assert kept.stat().st_mode & 0o077 == 0
    key_id, secret = credentials.read_credential("key", kept.read_text())
    assert told["PORTAL_BOOTSTRAP_KEY_ID"] == key_id
    assert credentials.same_secret(secret, told["PORTAL_BOOTSTRAP_KEY_HASH"])


def test_the_admin_key_is_shown_at_the_first_start_only(platform: Any) -> None:
    first = platform.up(command=SMALL)
    key = Path(platform.state()["admin_key_file"]).read_text()
    platform.stop(first)
    assert first.stderr.read().count(key) == 1
    second = platform.up(command=SMALL)
    platform.stop(second)
    assert key not in second.stderr.read()


async def test_a_killed_process_of_the_platform_comes_back(
    platform: Any, eventually: Callable[..., Awaitable[Any]]
) -> None:
    platform.up(command=SMALL)
    before = platform.pids()
    for name in ("edge", "handlers-2"):
        os.kill(before[name], signal.SIGKILL)
    await eventually(
        lambda: (
            platform.state()["ready"]
            and {before[name] != platform.pids()[name] for name in ("edge", "handlers-2")} == {True}
        )
    )
    assert platform.pids()["handlers-1"] == before["handlers-1"]


def test_a_failed_migration_ends_the_start_and_leaves_nothing(platform: Any) -> None:
    (platform.data / "fail").touch()
    process = platform.start(command=SMALL)
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "ERR_705: migrate did not start: it ended with status 4" in said
    steps = (platform.data / "steps").read_text().split()
    assert "migrate" in steps
    assert set(steps) <= {"migrate", "apply"}  # side by side; nothing of the platform after them
    assert [path.name for path in (platform.data / "run").rglob("*")] == ["pids"]


def test_a_restart_takes_one_process_at_a_time_and_waits_for_it(platform: Any) -> None:
    platform.up(command=SMALL)
    before = platform.pids()

    done = platform.run("restart", "--json")

    after, told = platform.pids(), [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["name"], one["state"]) for one in told] == [
        (name, state)
        for name in ("handlers-1", "handlers-2", "edge")
        for state in ("restarting", "ready")
    ]
    assert {name for name in before if before[name] != after[name]} == {
        "handlers-1", "handlers-2", "edge",
    }  # fmt: skip
    assert platform.state()["ready"]


def test_a_restart_of_servers_begins_with_what_others_use(platform: Any) -> None:
    platform.up(command=SMALL)

    done = platform.run("restart", "--json", "edge", "handlers-2", "nats")

    told = [json.loads(line)["name"] for line in done.stdout.splitlines()]
    assert told[::2] == ["nats", "handlers-2", "edge"]


def test_a_restart_of_what_there_is_not_touches_nothing(platform: Any) -> None:
    platform.up(command=SMALL)
    before = platform.pids()

    done = platform.run("restart", "handlers-1", "postgres-9")

    assert (done.returncode, platform.pids()) == (2, before)
    assert "nothing here is named postgres-9" in done.stderr
