"""`make bench`: every row measured in one run, printed as a table with the bars beside it.

Absolute speed depends on the machine and on what else runs there: the last columns show its load
and what one step of a plain loop cost it. Compare rows of one run, and CPU per request before
requests per second.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from tests.load.catalogue import PEERS, SCRIPTED, SHIPPED, Group
from tests.load.rows import SHARES, Case, Row, Verdict, verdicts

WIDTH = 180
"""Of the table where there is no terminal."""


def chosen(groups: tuple[Group, ...], parts: list[str]) -> list[Group]:
    """The rows that have one of these parts in their names, and the groups that they need.

    Raises:
        SystemExit: No row has.
    """

    def wanted(case: Case) -> bool:
        return any(part.lower() in case.name.lower() for part in parts)

    kept = [Group(group.start, tuple(filter(wanted, group.cases))) for group in groups]
    if not any(group.cases for group in kept):
        names = "\n  ".join(case.name for group in groups for case in group.cases)
        raise SystemExit(f"no row is called so; there are\n  {names}")
    return [group for group in kept if group.cases]


def measured(groups: list[Group]) -> Iterator[tuple[Case, Row]]:
    """Every row, one after another."""
    total, number = sum(len(group.cases) for group in groups), 0
    for group in groups:
        with group.start() as machine:
            for case in group.cases:
                number += 1
                print(f"{number}/{total} {case.name}", file=sys.stderr)
                yield case, uvloop.run(case.row(machine))


def as_table(rows: dict[str, Row]) -> Table:
    """For people."""
    table = Table(
        "", "per s", "p50 ms", "p95 ms", "p99 ms", "failed", "CPU ms per request", "load", "step ns"
    )
    for name, row in rows.items():
        parts = "  ".join(f"{process} {ms:.3f}" for process, ms in sorted(row.cpu_ms.items()))
        percentiles = [f"{row.p(share):.1f}" for share in SHARES]
        cpu = f"{row.cpu_ms_total:.3f}: {parts}" if parts else ""
        told = "\n".join(filter(None, [cpu, row.said]))
        table.add_row(
            name, f"{row.measured.rate:.0f}", *percentiles, str(row.measured.failed), told,
            f"{row.load:.1f}", f"{row.step_ns:.0f}",
        )  # fmt: skip
    return table


def as_json(name: str, row: Row) -> dict[str, Any]:
    """For programs."""
    return {
        "row": name, "rate": row.measured.rate, "seconds": row.measured.seconds,
        "done": row.measured.good, "failed": row.measured.failed,
        "cpu_ms": row.cpu_ms, "cpu_ms_total": row.cpu_ms_total,
        **{f"p{int(share * 100)}_ms": row.p(share) for share in SHARES},
        **row.counts, "note": row.note, "load": row.load,
        "step_ns": row.step_ns,
    }  # fmt: skip


def report(rows: dict[str, Row], found: list[Verdict], *, json_lines: bool) -> None:
    """Print both."""
    if json_lines:
        for name, row in rows.items():
            print(json.dumps(as_json(name, row)))
        for one in found:
            value = None if math.isnan(one.value) else one.value
            shown = {"bar": one.bar.text, "measured": value, "promised": one.bar.limit}
            print(json.dumps(shown | {"at_least": one.bar.at_least, "ok": one.ok}))
        return
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    console.print(as_table(rows))
    for one in found:
        mark = "[green]held[/]" if one.ok else "[red]missed[/]"
        console.print(f"{mark} {one.bar.text}: {one.value:.2f} (bar {one.bar.limit:g})")
    console.print(f"load of the machine now {os.getloadavg()[0]:.1f}, cores {os.cpu_count()}")


def main() -> int:
    """Measure, print; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument(
        "--only", action="append", metavar="NAME",
        help="rows with this in their name; may be given several times",
    )  # fmt: skip
    parser.add_argument("--peers", action="store_true", help="install others, and measure them too")
    options = parser.parse_args()
    groups = (SHIPPED, SCRIPTED, *((PEERS,) if options.peers else ()))
    wanted = chosen(groups, options.only or [""])
    rows = {case.name: row for case, row in measured(wanted)}
    found = verdicts(tuple(case for group in wanted for case in group.cases), rows)
    report(rows, found, json_lines=options.json)
    return 0 if all(one.ok for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
