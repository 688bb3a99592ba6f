"""`portal certificates init|issue|rotate|status`: files only, so it works with nothing running.

What runs takes new files by itself: Python processes at their next handshake, nats-server when its
supervisor sees them change.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict

from rich.table import Table

from bus.certificate_folder import CertificateFolder, NoAuthority
from bus.certificates import ROLES, WARN_DAYS, Standing
from bus.clock import Clock
from deploy.embedded import certificates, folder
from edge.cli import exits
from edge.cli.output import console, emit


def init(arguments: argparse.Namespace) -> int:
    """Make the authority and a certificate for each role, where they are missing."""
    return changed(arguments, lambda found: found.init(arguments.host, Clock().now()))


def issue(arguments: argparse.Namespace) -> int:
    """Make new keys and certificates for some roles."""
    unknown = sorted(set(arguments.roles) - set(ROLES))
    if unknown:
        print(f"no such role: {', '.join(unknown)}; there are: {', '.join(ROLES)}", file=sys.stderr)
        return exits.USAGE
    return changed(
        arguments, lambda found: found.issue(arguments.roles, arguments.host, Clock().now())
    )


def rotate(arguments: argparse.Namespace) -> int:
    """Replace every certificate; the authority too, or drop the one before, if asked."""

    def replace(found: CertificateFolder) -> list[str]:
        at = Clock().now()
        if arguments.retire:
            return found.retire(at)
        return found.rotate_authority(at) if arguments.authority else found.rotate(at)

    return changed(arguments, replace)


def changed(arguments: argparse.Namespace, change: Callable[[CertificateFolder], list[str]]) -> int:
    """Do it, and say which files are new."""
    found = certificates.chosen(folder.chosen())
    try:
        names = change(found)
    except NoAuthority as reason:
        print(f"error: {reason}", file=sys.stderr)
        return exits.PROBLEM
    if arguments.json:
        emit({"made": names, "folder": str(found.root)})
    else:
        print(f"new: {', '.join(names) or 'nothing'} (in {found.root})")
    return exits.OK


def status(arguments: argparse.Namespace) -> int:
    """Show how long each is good; 1 if one is due or there is none."""
    found = certificates.chosen(folder.chosen())
    standings = found.standings(Clock().now())
    if arguments.json:
        for one in standings:
            emit(asdict(one) | {"not_after": one.not_after.isoformat(), "due": one.due})
    elif standings:
        console().print(table(standings))
    else:
        print(f"none in {found.root}: `portal certificates init` makes them")
    due = [one.name for one in standings if one.due]
    if due:
        print(f"less than {WARN_DAYS} days left: {', '.join(due)}", file=sys.stderr)
    return exits.PROBLEM if due or not standings else exits.OK


def table(standings: list[Standing]) -> Table:
    """One certificate a row, the ones that are due in red."""
    rows = Table("certificate", "days left", "good until", "issued by", "hosts", box=None)
    for one in standings:
        kind = "red" if one.due else "green"
        rows.add_row(
            one.name, f"[{kind}]{one.days_left}[/]", f"{one.not_after:%Y-%m-%d %H:%M}", one.issuer,
            " ".join(one.hosts),
        )  # fmt: skip
    return rows
