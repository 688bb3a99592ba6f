"""`portal faults` as it is shipped: a cluster, a death at a fault point under load, a verdict."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge.cli import exits, program

pytestmark = pytest.mark.timeout(700)
ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "edge.cli", "faults")
END_S = 600
SOON_S = 60


@pytest.fixture
def begin(tmp_path):
    """Starts the command, with its folders below the test's own; ends it if the test fails."""
    started = []

    def begun(*words: str) -> "subprocess.Popen[str]":
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        started.append(subprocess.Popen(
            [*COMMAND, *words], cwd=ROOT, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ))  # fmt: skip
        return started[-1]

    yield begun
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.rig
def test_a_worker_dies_before_its_commit_and_nothing_is_lost_or_doubled(begin, tmp_path):
    running = begin("run", "handlers-before-commit", "--json")
    out, err = running.communicate(timeout=END_S)
    [verdict] = [json.loads(line) for line in out.splitlines()]
    rules = {violation.partition(":")[0] for violation in verdict["violations"]}
    assert rules <= {"not converged"}, (verdict, err)  # how fast depends on the machine
    assert [verdict[one] for one in ("lost", "doubled", "ghosts", "open_runs")] == [0, 0, 0, 0]
    assert verdict["operations"] > 60
    assert list(tmp_path.iterdir()) == []


@pytest.mark.rig
def test_told_to_end_it_leaves_nothing(begin, tmp_path):
    running = begin("run", "edges-killed")
    until = time.monotonic() + SOON_S
    while not list(tmp_path.glob("portal-faults-*/run/pids/nats-1")):
        assert time.monotonic() < until, "no server was started"
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=SOON_S)
    assert running.returncode == exits.INTERRUPTED
    assert list(tmp_path.iterdir()) == []


def test_a_fault_that_is_not_known_is_a_wrong_use(capsys):
    assert program.run(["faults", "run", "nothing"]) == exits.USAGE
    assert "portal faults list" in capsys.readouterr().err


def test_every_fault_is_listed_with_what_it_lacks(capsys):
    assert program.run(["faults", "list", "--json"]) == exits.OK
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"each-point", "bus-power-lost", "everything-twice"} <= {one["fault"] for one in listed}
    assert sum(one["smoke"] for one in listed) >= 12
