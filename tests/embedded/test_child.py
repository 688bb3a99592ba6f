"""Keeping one process: small real programs that crash, hang, flood and will not go."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from deploy.embedded import child, logs, orphans, probes
from deploy.embedded.folder import DataFolder
from deploy.embedded.ports import Ports
from deploy.embedded.progress import Quiet
from deploy.embedded.refusal import Refused
from deploy.embedded.spec import Once, Spec
from deploy.embedded.supervisor import Supervisor

pytestmark = pytest.mark.timeout(60)
Eventually = Callable[..., Awaitable[Any]]

WEB = """
import http.server, os, signal, subprocess, sys
port, folder, obstinate = int(sys.argv[1]), sys.argv[2], sys.argv[3:] == ["obstinate"]
if obstinate:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    own = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open(folder + "/grandchild", "w").write(str(own.pid))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists(folder + self.path) else 200)
        self.end_headers()
        self.wfile.write(b"ok")
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


@pytest.fixture
async def supervisor(root: Path) -> AsyncIterator[Supervisor]:
    folder = DataFolder(root / "data")
    folder.make()
    one = Supervisor(folder, Quiet())
    yield one
    await one.stop()


def web(root: Path, *more: str, name: str = "web", **how: Any) -> Spec:
    """A program that answers 503 to every path of which there is a file."""
    port = Ports(None, lambda name, text: None).take(name, 0)
    return Spec(
        name=name,
        role=name,
        command=(sys.executable, "-c", WEB, str(port), str(root), *more),
        address=f"127.0.0.1:{port}",
        ready=probes.http(port, "/ready"),
        alive=probes.http(port, "/live"),
        **how,
    )


async def test_a_killed_program_is_started_again(
    supervisor: Supervisor, root: Path, eventually: Eventually
) -> None:
    await supervisor.start([web(root)])
    one = supervisor.children[0]
    before = one.pid
    orphans.Running(before or 0, orphans.started_at(before or 0) or "").send(signal.SIGKILL)
    await eventually(lambda: one.healthy and one.pid != before)
    assert one.restarts == 1


async def test_the_pause_between_starts_doubles(
    supervisor: Supervisor, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    pause = child.Child._pause

    async def noted(self: child.Child, seconds: float) -> None:
        if self.state == "restarting":
            pauses.append(seconds)
        await pause(self, min(seconds, 0.01))

    monkeypatch.setattr(child.Child, "_pause", noted)
    spec = Spec("crash", "crash", ("false",), "", ready=probes.http(1, "/"))
    with pytest.raises(Refused, match="ERR_705: crash did not start: it ended with status 1"):
        await supervisor.start([spec])
    while len(pauses) < 7:
        await asyncio.sleep(0.01)
    assert pauses[:7] == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


async def test_a_program_that_cannot_be_run_is_named(supervisor: Supervisor) -> None:
    spec = Spec("none", "none", ("/no/such/program",), "", ready=probes.http(1, "/"))
    with pytest.raises(Refused, match="/no/such/program: No such file"):
        await supervisor.start([spec])


async def test_one_that_is_not_ready_but_alive_is_shown_and_left_alone(
    supervisor: Supervisor, root: Path, eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(child, "PROBE_EVERY_S", 0.05)
    monkeypatch.setattr(child, "UNANSWERED_S_MAX", 0.5)
    await supervisor.start([web(root)])
    one = supervisor.children[0]
    before = one.pid
    (root / "ready").touch()
    await eventually(lambda: one.state == "unhealthy")
    await asyncio.sleep(1)  # twice the time after which a dead one would be killed
    assert (one.pid, one.restarts) == (before, 0)
    (root / "ready").unlink()
    await eventually(lambda: one.state == "ready")


async def test_one_that_hangs_is_killed_and_started_again(
    supervisor: Supervisor, root: Path, eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(child, "PROBE_EVERY_S", 0.05)
    monkeypatch.setattr(child, "UNANSWERED_S_MAX", 0.3)
    await supervisor.start([web(root)])
    one = supervisor.children[0]
    before = one.pid
    for path in ("ready", "live"):
        (root / path).touch()
    await eventually(lambda: one.restarts == 1)
    for path in ("ready", "live"):
        (root / path).unlink()
    await eventually(lambda: one.healthy and one.pid != before)


async def test_one_that_ignores_its_signal_is_killed_with_its_own_children(
    supervisor: Supervisor, root: Path, eventually: Eventually
) -> None:
    await supervisor.start([web(root, "obstinate", grace_s=0.3)])
    grandchild = int((root / "grandchild").read_text())
    pid = supervisor.children[0].pid
    started = time.monotonic()
    await supervisor.stop()
    assert time.monotonic() - started < 3
    await eventually(lambda: not orphans.started_at(grandchild))
    assert pid is not None
    assert not orphans.started_at(pid)


async def test_programs_stop_in_the_order_of_their_roles(
    root: Path, supervisor: Supervisor
) -> None:
    ended: list[str] = []

    def note(name: str, state: str, text: str, seconds: float | None = None) -> None:
        if state == "stopped":
            ended.append(name)

    supervisor._progress.note = note  # type: ignore[method-assign]
    names = ("postgres", "nats", "handlers", "edge", "valkey", "models")
    await supervisor.start([web(root, name=name) for name in names])
    await supervisor.stop()
    assert ended == ["edge", "handlers", "models", "valkey", "nats", "postgres"]


async def test_a_first_step_that_fails_says_its_last_words(supervisor: Supervisor) -> None:
    said = "import sys; sys.exit('no such revision')"
    with pytest.raises(Refused, match=r"(?s)ERR_705: migrate.*status 1.*no such revision"):
        await supervisor.run(Once("migrate", (sys.executable, "-c", said), {}))
    slow = Once("slow", (sys.executable, "-c", "import time; time.sleep(60)"), {}, timeout_s=0.3)
    with pytest.raises(Refused, match="slow did not start"):
        await supervisor.run(slow)


async def test_the_log_of_a_flooding_program_stays_bounded(
    supervisor: Supervisor, root: Path, eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(child, "PROBE_EVERY_S", 0.02)
    monkeypatch.setattr(logs.rotate, "__defaults__", (100_000,))
    flood = "import threading, time\ndef go():\n while True: print('x' * 999, flush=True); time.sleep(.001)\nthreading.Thread(target=go, daemon=True).start()\n"
    spec = web(root)
    command = (sys.executable, "-c", flood + WEB, *spec.command[3:])
    await supervisor.start([Spec("web", "web", command, "", ready=spec.ready)])
    folder = root / "data" / "logs"
    await eventually(lambda: (folder / "web.log.2").exists())
    assert {path.name for path in folder.iterdir()} == {"web.log", "web.log.1", "web.log.2"}
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
