"""`make bench`: every row measured in one run, printed as a table with the bars beside it.

Absolute speed depends on the machine and on what else runs there; compare rows of one run, and
CPU per request before requests per second.
"""

import argparse
import json
import sys

import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.load import cases, runs
from tests.load.cases import Row
from tests.load.machine import Machine, running

EDGE_AND_BUS = ("edge", "nats")
RUNS_AT_ONCE, RUN_BAR_MS, ALONE_BAR_MS = 20, 9.0, 20.0
READ_BAR_MS, EDGE_BAR_MS, RATE_BAR, RATIO_BAR, SOCKET_BAR_MS = 1.2, 0.6, 1000.0, 0.25, 150.0


async def measure(machine: Machine) -> list[Row]:
    """Every row."""
    steps = [
        lambda: cases.bare_starlette(machine),
        lambda: cases.full_read(machine),
        lambda: cases.token_read(machine, cached=True),
        lambda: cases.token_read(machine, cached=False),
        lambda: cases.full_write(machine),
        lambda: cases.sockets(machine, 1),
        lambda: cases.sockets(machine, cases.SOCKETS),
        lambda: cases.raw_replies(machine),
        lambda: cases.our_replies(machine),
        lambda: runs.durable_runs(machine, 1),
        lambda: runs.durable_runs(machine, RUNS_AT_ONCE),
    ]
    console = Console(stderr=True)
    return [await step() for step in track(steps, "measuring", console=console)]


def bars(rows: list[Row]) -> list[tuple[str, float, float, bool]]:
    """What was promised, what was measured, and whether it holds."""
    _, read, token, _, _, socket, _, raw, ours, one_run, runs_at_once = rows
    edge_ms = sum(read.cpu_ms.get(name, 0.0) for name in EDGE_AND_BUS)
    ratio = ours.measured.rate / raw.measured.rate if raw.measured.rate else 0.0
    seen_ms = socket.measured.percentile_ms(0.99)
    total_ms, token_ms = sum(read.cpu_ms.values()), sum(token.cpu_ms.values())
    run_ms, first_ms = sum(runs_at_once.cpu_ms.values()), one_run.measured.percentile_ms(0.5)
    return [
        ("whole read by API key, CPU ms", total_ms, READ_BAR_MS, total_ms <= READ_BAR_MS),
        ("whole read by token, CPU ms", token_ms, READ_BAR_MS, token_ms <= READ_BAR_MS),
        ("edge and bus hop, CPU ms", edge_ms, EDGE_BAR_MS, edge_ms <= EDGE_BAR_MS),
        ("reads a second", read.measured.rate, RATE_BAR, read.measured.rate >= RATE_BAR),
        ("request-reply, share of raw", ratio, RATIO_BAR, ratio >= RATIO_BAR),
        ("event to socket p99 ms", seen_ms, SOCKET_BAR_MS, seen_ms <= SOCKET_BAR_MS),
        ("durable run of 3 steps, CPU ms", run_ms, RUN_BAR_MS, run_ms <= RUN_BAR_MS),
        ("durable run alone, p50 ms", first_ms, ALONE_BAR_MS, first_ms <= ALONE_BAR_MS),
    ]


def as_table(rows: list[Row]) -> Table:
    """For people."""
    table = Table("", "per s", "p50 ms", "p95 ms", "p99 ms", "failed", "CPU ms per request")
    for row in rows:
        m = row.measured
        cpu = "  ".join(f"{name} {ms:.3f}" for name, ms in sorted(row.cpu_ms.items()))
        percentiles = [f"{m.percentile_ms(share):.1f}" for share in (0.5, 0.95, 0.99)]
        table.add_row(row.name, f"{m.rate:.0f}", *percentiles, str(m.failed), f"{cpu} {row.note}")
    return table


def main() -> int:
    """Measure, print; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    as_json = parser.parse_args().json
    with running() as machine:
        rows = uvloop.run(measure(machine))
    promised = bars(rows)
    if as_json:
        for row in rows:
            m = row.measured
            shares = {f"p{int(s * 100)}_ms": m.percentile_ms(s) for s in (0.5, 0.95, 0.99)}
            print(json.dumps({"row": row.name, "rate": m.rate, "cpu_ms": row.cpu_ms} | shares))
        for name, value, bar, ok in promised:
            print(json.dumps({"bar": name, "measured": value, "promised": bar, "ok": ok}))
    else:
        console = Console()
        console.print(as_table(rows))
        for name, value, bar, ok in promised:
            mark = "[green]held[/]" if ok else "[red]missed[/]"
            console.print(f"{mark} {name}: {value:.2f} (bar {bar:g})")
    return 0 if all(ok for *_, ok in promised) else 1


if __name__ == "__main__":
    sys.exit(main())
