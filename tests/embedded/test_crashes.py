"""kill -9 of everything, one after the other."""

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from deploy.embedded import orphans

pytestmark = pytest.mark.timeout(240)
Eventually = Callable[..., Awaitable[Any]]


def by_name(foreground: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in foreground.state()["processes"] if one["name"] == name
    )
    return found


async def test_every_server_that_is_killed_comes_back(
    foreground: Any, eventually: Eventually
) -> None:
    foreground.up("--json")
    for name in ("nats", "postgres", "valkey", "models"):
        before = foreground.pids()[name]
        os.kill(before, signal.SIGKILL)

        def healed(name: str = name, before: int = before) -> bool:
            one = by_name(foreground, name)
            return bool(one["healthy"] and one["pid"] != before and one["restarts"] >= 1)

        await eventually(healed, 60)
    await eventually(lambda: foreground.state()["ready"])


async def test_nothing_outlives_a_killed_supervisor_and_the_next_start_works(
    foreground: Any, eventually: Eventually
) -> None:
    process = foreground.up()
    database = await asyncpg.connect(foreground.url("postgres"))
    await database.execute("CREATE TABLE kept (word text)")
    await database.execute("INSERT INTO kept VALUES ('acknowledged')")
    pids = foreground.pids()
    process.kill()
    process.wait()
    await eventually(lambda: not any(map(orphans.started_at, pids.values())), 15)
    foreground.up()
    again = await asyncpg.connect(foreground.url("postgres"))
    assert await again.fetchval("SELECT word FROM kept") == "acknowledged"
    await again.close()
    database.terminate()


async def test_a_start_right_after_a_kill_waits_for_what_still_runs(foreground: Any) -> None:
    for _ in range(2):
        process = foreground.up()
        process.kill()
        process.wait()
    foreground.up()


async def test_down_after_a_crash_cleans_up(foreground: Any) -> None:
    process = foreground.up()
    process.kill()
    process.wait()
    assert foreground.run("down").returncode == 0
    run = foreground.data / "run"
    assert [path.name for path in run.rglob("*")] == ["pids"]


async def test_only_a_process_that_started_when_we_noted_it_is_ended(root: Any) -> None:
    sleeper = (sys.executable, "-c", "import time; time.sleep(60)")
    ours, stranger = (subprocess.Popen(sleeper, start_new_session=True) for _ in range(2))
    try:
        orphans.remember(root, "ours", ours.pid)
        (root / "stranger").write_text(f"{stranger.pid} 12345")
        (root / "damaged").write_text("not a pid")
        assert await orphans.end_all(root) == ["ours"]
        assert ours.wait(5) == -signal.SIGTERM
        assert stranger.poll() is None
        assert list(root.iterdir()) == []
    finally:
        stranger.kill()
        stranger.wait()
