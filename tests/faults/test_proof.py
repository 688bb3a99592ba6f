"""What a proof does with faults that break something: every one of them gets its verdict."""

import random
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from deploy.embedded import refusal
from deploy.faults import proof
from deploy.faults.checker import Violation
from deploy.faults.fault import Fault
from deploy.faults.proof import Proof, Verdict

LOST = Violation("lost", "something")


async def nothing_happens(_):
    """What these provoke."""


FAULTS = [Fault(name, "", "", nothing_happens) for name in ("first", "second", "third")]


@pytest.fixture
def rigs(monkeypatch, tmp_path):
    """The clusters that were asked for, of which only the folder is there."""
    given = []

    @asynccontextmanager
    async def running(_):
        root = tmp_path / f"rig-{len(given)}"
        logs = root / "logs"
        logs.mkdir(parents=True)
        (logs / "edge-1.log").write_text("it was so")
        (root / "calls.history").write_text("{}")
        given.append(SimpleNamespace(folder=SimpleNamespace(root=root, logs=logs)))
        yield given[-1]

    monkeypatch.setattr(proof, "running", running)
    return given


@pytest.fixture
def judge(monkeypatch):
    """Says how each fault ends: with violations, or with an error of the cluster."""

    def judging(outcomes):
        async def judged(self, fault, _):
            self.rig.folder.root.joinpath(fault.name).touch()
            outcome = outcomes.get(fault.name, ())
            if isinstance(outcome, Exception):
                raise outcome
            return Verdict(fault.name, fault.at, self.seed, self.commit, violations=outcome)

        monkeypatch.setattr(Proof, "_judged", judged)

    return judging


async def prove(logs=None):
    verdicts = []
    seed = random.randrange(2**32)
    await proof.prove(FAULTS, seed, lambda _: None, verdicts.append, logs)
    return verdicts


async def test_faults_that_hold_share_a_cluster(rigs, judge):
    judge({})
    assert [verdict.ok for verdict in await prove()] == [True] * 3
    assert len(rigs) == 1


async def test_the_fault_after_a_broken_rule_gets_a_cluster_of_its_own(rigs, judge):
    judge({"second": (LOST,)})
    verdicts = await prove()
    assert [(verdict.fault, verdict.ok) for verdict in verdicts] == [
        ("first", True), ("second", False), ("third", True),
    ]  # fmt: skip
    assert [rig.folder.root.joinpath("third").exists() for rig in rigs] == [False, True]


@pytest.mark.parametrize(
    "failed",
    [refusal.not_started("nats-3", "no quorum", "nats-3.log"), TimeoutError("edge-1"), OSError(28)],
    ids=lambda failed: type(failed).__name__,
)
async def test_a_cluster_that_does_not_come_back_is_a_verdict_and_no_end(rigs, judge, failed):
    judge({"second": failed})
    verdicts = await prove()
    assert [verdict.row()["verdict"] for verdict in verdicts] == ["held", "violated", "held"]
    [why] = verdicts[1].violations
    assert why.rule == "not judged"
    assert str(failed) in why.text


async def test_what_processes_said_is_kept_of_a_broken_rule_only(rigs, judge, tmp_path):
    judge({"third": (LOST,)})
    await prove(tmp_path / "kept")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["third"]
    kept = {path.name for path in (tmp_path / "kept" / "third").iterdir()}
    assert kept == {"edge-1.log", "calls.history"}
