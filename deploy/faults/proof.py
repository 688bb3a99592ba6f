"""One fault from beginning to verdict, and many of them on one rig.

    look ─► clients ─► fault ─► clients end ─► rest ─► read everything ─► rules ─► verdict

The seed decides what is drawn: which server, which agent, which step next. The machine decides
the rest, so a seed repeats the fault and the load, not every interleaving; the simulator does that.

A fault that broke something leaves traces in the stores, and perhaps servers that do not run: the
next one gets a rig of its own, so that each verdict is about one fault.
"""

import asyncio
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import nats.errors
from nats.js.errors import APIError

from deploy.embedded.folder import PROJECT
from deploy.embedded.refusal import Refused
from deploy.faults import checker, history
from deploy.faults.audit import Watch
from deploy.faults.checker import Violation
from deploy.faults.fault import Fault, NotProvoked, World
from deploy.faults.rig import Rig, running
from deploy.faults.workload import GaveUp, Load, outside

WARM = 30
COUNTED = ("lost", "doubled", "ghosts", "open runs")
NOT_JUDGED = (Refused, OSError, TimeoutError, asyncpg.PostgresError, nats.errors.Error, APIError)
"""What it is when a server does not come back, or its stores cannot be read."""


@dataclass(frozen=True)
class Verdict:
    """What a fault showed."""

    fault: str
    at: str
    seed: int
    commit: str
    operations: int = 0
    seconds: float = 0.0
    converged_s: float = 0.0
    timed_out: int = 0
    violations: tuple[Violation, ...] = ()
    skipped: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every rule held, or it was not shown here."""
        return not self.violations

    def broken(self) -> Counter[str]:
        """How many violations of each rule that was broken."""
        return Counter(violation.rule for violation in self.violations)

    def count(self, rule: str) -> int:
        """How many violations of one rule."""
        return self.broken()[rule]

    def row(self) -> dict[str, Any]:
        """As JSON."""
        counts = {rule.replace(" ", "_"): self.count(rule) for rule in COUNTED}
        return {
            "fault": self.fault, "at": self.at, "seed": self.seed, "commit": self.commit,
            "operations": self.operations, "seconds": round(self.seconds, 1), **counts,
            "timed_out": self.timed_out,
            "converged_s": round(self.converged_s, 1), "skipped": self.skipped,
            "violations": [f"{one.rule}: {one.text}" for one in self.violations],
            "verdict": "skipped" if self.skipped else "held" if self.ok else "violated",
        }  # fmt: skip


def code() -> str:
    """Which code this is, with a plus sign if it was changed since."""
    asked = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return "unknown"
    return answer.stdout.strip() or "unknown"


@dataclass
class Proof:
    """Faults one after the other on one rig."""

    rig: Rig
    seed: int
    commit: str = field(default_factory=code)
    _count: Counter[str] = field(default_factory=Counter)

    async def of(self, fault: Fault) -> Verdict:
        """Provoke one fault under load and judge."""
        missing = fault.missing()
        if missing is not None:
            return Verdict(fault.name, fault.at, self.seed, self.commit, skipped=missing)
        began = time.monotonic()
        try:
            return await self._judged(fault, began)
        except NOT_JUDGED as failed:
            return Verdict(
                fault.name, fault.at, self.seed, self.commit, seconds=time.monotonic() - began,
                violations=(Violation("not judged", f"{type(failed).__name__} {failed}"),),
            )  # fmt: skip

    async def _judged(self, fault: Fault, began: float) -> Verdict:
        self._count[fault.name] += 1
        mark = f"{fault.name}-{self._count[fault.name]}"
        watch = await Watch.begin(self.rig)
        load = Load(self.rig, mark, self.rig.folder.root / f"{mark}.history", self.seed)
        world = World(self.rig, load, random.Random(self.seed))  # noqa: S311
        trouble: list[Violation] = []
        async with outside(self.rig) as effects:
            try:
                await load.begin()
                await load.more(WARM)
                await fault.provoke(world)
                await load.more(WARM)
            except (GaveUp, NotProvoked, TimeoutError) as failed:
                trouble.append(Violation(type(failed).__name__, str(failed)))
            except BaseException:
                await load.close()  # told to end: no client is waited for
                raise
            trouble += await finish(load)
            converged_s = await watch.rest(load)
            called = history.operations(history.read(load.file))
            final = await watch.final(load, effects, called, converged_s)
        late = sum(run.status == "timed out" for run in final.runs)
        found = await asyncio.to_thread(checker.violations, called, final)
        return Verdict(
            fault.name, fault.at, self.seed, self.commit, len(called),
            time.monotonic() - began, converged_s, late, (*trouble, *found),
        )  # fmt: skip


async def finish(load: Load) -> list[Violation]:
    """Let the clients finish; one that nobody answered any more is a violation."""
    try:
        await load.end()
    except GaveUp as failed:
        return [Violation("not answered", str(failed))]
    return []


async def prove(
    faults: Sequence[Fault], seed: int, say: Callable[[str], Any],
    tell: Callable[[Verdict], Any], logs: Path | None = None,
) -> None:  # fmt: skip
    """All of these, on one rig as long as they hold; `tell` hears of each verdict at once.

    Of a fault that broke a rule the logs of all processes and what clients wrote down are kept
    in `logs`.
    """
    left = list(faults)
    while left:
        async with running(say) as rig:
            proof, held = Proof(rig, seed), True
            while left and held:
                fault = left.pop(0)
                say(f"{len(faults) - len(left)} of {len(faults)}: {fault.name}, {fault.about}")
                verdict = await proof.of(fault)
                tell(verdict)
                held = verdict.ok
                if logs is not None and not held:
                    keep(rig, logs / fault.name)


def keep(rig: Rig, target: Path) -> None:
    """Copy the logs and histories of a rig, which are gone with it."""
    shutil.copytree(rig.folder.logs, target, dirs_exist_ok=True)
    for history_file in rig.folder.root.glob("*.history"):
        shutil.copy(history_file, target)
