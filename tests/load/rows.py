"""A row of the bench: what is measured, how, and what was promised about it.

    Case: a name, a function, bars   --measured on a running installation-->   Row   --> Verdicts

A bar belongs to its row. One that compares two rows names the other, and is left out when that one
was not measured.
"""

import asyncio
import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.load.keepalive import Measured
from tests.load.machine import cpu_s

SHARES = (0.5, 0.95, 0.99)
CPU_MS_SHOWN = 0.001
STEPS = 2_000_000


@dataclass
class Row:
    """One line of the table; CPU is milliseconds per request for each process."""

    measured: Measured
    cpu_ms: dict[str, float]
    note: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    """What this row alone counts."""
    load: float = 0.0
    """Of the machine, when the row was measured: who else wanted its cores."""
    step_ns: float = 0.0
    """CPU of one step of a plain loop, just before and after: how fast the machine was."""

    @property
    def cpu_ms_total(self) -> float:
        """Over all processes."""
        return sum(self.cpu_ms.values())

    def p(self, share: float) -> float:
        """A percentile, ms."""
        return self.measured.percentile_ms(share)

    @property
    def said(self) -> str:
        """What it counts and notes."""
        counted = [f"{count} {what}" for what, count in self.counts.items()]
        return "; ".join([*counted, *filter(None, [self.note])])


@dataclass(frozen=True)
class Bar:
    """What a row must show: at most this, or at least."""

    text: str
    limit: float
    of: Callable[..., float]
    at_least: bool = False
    beside: str | None = None
    """Another row, given to `of` behind the own one."""


@dataclass(frozen=True)
class Verdict:
    """A bar, and what was measured: not a number, and so missed, if nothing could be."""

    bar: Bar
    value: float

    @property
    def ok(self) -> bool:
        """Whether it holds."""
        return self.value >= self.bar.limit if self.bar.at_least else self.value <= self.bar.limit


@dataclass(frozen=True)
class Case:
    """How a row comes about, on whatever its group has running."""

    name: str
    measure: Callable[[Any], Awaitable[Row]]
    bars: tuple[Bar, ...] = ()

    async def row(self, machine: Any) -> Row:
        """Measure; a row that cannot be measured says why, and does not end the others."""
        before_ns = step_ns()
        try:
            row = await self.measure(machine)
        except Exception as broken:
            row = Row(Measured(failed=1), {}, f"NOT MEASURED: {broken!r}")
        row.load, row.step_ns = os.getloadavg()[0], (before_ns + step_ns()) / 2
        return row


def step_ns() -> float:
    """CPU of one step of a plain loop; on a shared machine it may double within a minute."""
    total, started = 0, time.process_time_ns()
    for number in range(STEPS):
        total += number
    return (time.process_time_ns() - started) / STEPS


def verdicts(cases: tuple[Case, ...], rows: Mapping[str, Row]) -> list[Verdict]:
    """Every bar whose rows were measured."""
    found = []
    for case in (case for case in cases if case.name in rows):
        for bar in case.bars:
            if not rows[case.name].measured.good:
                found.append(Verdict(bar, math.nan))
            elif bar.beside is None:
                found.append(Verdict(bar, bar.of(rows[case.name])))
            elif bar.beside in rows:
                found.append(Verdict(bar, bar.of(rows[case.name], rows[bar.beside])))
    return found


async def with_cpu(pids: dict[str, int], run: Callable[[], Awaitable[Measured]]) -> Row:
    """Run a load and divide the CPU that each process used by the answers."""
    before = await asyncio.to_thread(cpu_s, pids)
    measured = await run()
    after = await asyncio.to_thread(cpu_s, pids)
    count = max(measured.good, 1)
    used = {p: 1000 * (after[p] - before[p]) / count for p in pids}
    return Row(measured, {p: ms for p, ms in used.items() if ms >= CPU_MS_SHOWN})
