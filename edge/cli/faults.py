"""`portal faults list|run|smoke`: provoke faults on a cluster of their own, and count.

Nothing of an installation is touched: the cluster has its own folder and ports, and is gone in the
end. Progress goes to standard error; a verdict for each fault to standard output.
"""

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence

from rich.table import Table

from deploy.embedded.refusal import Refused
from deploy.faults import catalogue, proof
from deploy.faults.fault import Fault
from deploy.faults.proof import COUNTED, Verdict
from edge.cli import exits, output

SEEDS = 2**32
SHOWN_MAX = 12
ALL = "all"


def show_all(arguments: argparse.Namespace) -> int:
    """Every fault, what it needs, and whether it is here."""
    table = Table("fault", "what", "where", "smoke", "here", box=None)
    for fault in catalogue.FAULTS:
        missing = fault.missing()
        if arguments.json:
            output.emit({
                "fault": fault.name, "about": fault.about, "at": fault.at, "smoke": fault.smoke,
                "missing": missing,
            })  # fmt: skip
        here = f"[yellow]{missing}[/]" if missing else "[green]yes[/]"
        table.add_row(fault.name, fault.about, fault.at, "yes" if fault.smoke else "", here)
    if not arguments.json:
        output.console().print(table)
    return exits.OK


def run(arguments: argparse.Namespace) -> int:
    """The faults that are named, or all; 2 if one is not known."""
    if arguments.names == [ALL]:
        return prove([fault for fault in catalogue.FAULTS if not fault.part], arguments)
    unknown = [name for name in arguments.names if catalogue.named(name) is None]
    if unknown:
        print(f"no fault {', '.join(unknown)}: see `portal faults list`", file=sys.stderr)
        return exits.USAGE
    return prove([f for name in arguments.names if (f := catalogue.named(name))], arguments)


def smoke(arguments: argparse.Namespace) -> int:
    """The main faults."""
    return prove([fault for fault in catalogue.FAULTS if fault.smoke], arguments)


def prove(faults: Sequence[Fault], arguments: argparse.Namespace) -> int:
    """Provoke them and show the verdicts; 1 if a rule was broken."""
    seed = random.randrange(SEEDS) if arguments.seed is None else arguments.seed  # noqa: S311
    progress = output.console(error=True)
    verdicts: list[Verdict] = []

    def say(text: str) -> None:
        if not arguments.json:
            progress.print(f"  {text}", soft_wrap=True)

    def tell(verdict: Verdict) -> None:
        verdicts.append(verdict)
        broken = ", ".join(f"{rule} {times}" for rule, times in verdict.broken().items())
        say(f"  {word(verdict)} after {verdict.seconds:.0f} s {broken}")
        if arguments.json:
            output.emit(verdict.row())

    say(f"seed {seed}, commit {proof.code()}")
    try:
        asyncio.run(proof.prove(faults, seed, say, tell, arguments.logs))
        status = exits.OK if all(verdict.ok for verdict in verdicts) else exits.PROBLEM
    except asyncio.CancelledError:
        status = exits.INTERRUPTED
    except Refused as refused:
        print(f"error {refused.code}: {refused.text}", file=sys.stderr)
        status = refused.status
    if verdicts and not arguments.json:
        show(verdicts, seed)
    return status


def show(verdicts: Sequence[Verdict], seed: int) -> None:
    """The verdicts as a table, then what broke a rule and how to provoke it again."""
    table = Table("fault", "injected", "calls", *COUNTED, "converged", "took", "verdict", box=None)
    for one in verdicts:
        counts = [str(one.count(rule)) for rule in COUNTED]
        table.add_row(
            one.fault, one.at, str(one.operations), *counts,
            f"{one.converged_s:.1f} s", f"{one.seconds:.0f} s", word(one),
        )  # fmt: skip
    console = output.console()
    console.print(table)
    for one in verdicts:
        for violation in one.violations[:SHOWN_MAX]:
            console.print(f"[red]{one.fault}: {violation.rule}: {violation.text}", soft_wrap=True)
        if one.violations:
            console.print(
                f"again: portal faults run {one.fault} --seed {seed}  (commit {one.commit})"
            )
    shown = sum(not one.skipped for one in verdicts)
    held = sum(not one.skipped and one.ok for one in verdicts)
    style = "bold green" if held == shown else "bold red"
    console.print(
        f"[{style}]{held} of {shown} faults: nothing lost, nothing doubled[/]", soft_wrap=True
    )


def word(verdict: Verdict) -> str:
    """One word for it, in its colour."""
    if verdict.skipped:
        return f"[yellow]skipped: {verdict.skipped}[/]"
    return "[green]held[/]" if verdict.ok else "[bold red]violated[/]"
