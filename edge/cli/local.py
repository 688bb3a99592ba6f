"""`portal up|down|status|logs|doctor`: the installation on this machine."""

import argparse
import importlib.metadata
import os
import subprocess
import sys

from deploy.embedded import commands, folder
from edge.cli import exits
from edge.cli.place import installation


def up(arguments: argparse.Namespace) -> int:
    """Run everything in the foreground."""
    return commands.up(
        only=arguments.only,
        external=arguments.external,
        handlers=arguments.handlers,
        as_json=arguments.json,
    )


def down(_: argparse.Namespace) -> int:
    """Stop it."""
    return commands.down()


def status(arguments: argparse.Namespace) -> int:
    """Show processes and addresses; 3 if nothing runs, 1 if something is not healthy."""
    outcome = commands.status(arguments.json)
    return exits.NOT_RUNNING if commands.current_state(folder.chosen())["pid"] is None else outcome


def logs(arguments: argparse.Namespace) -> int:
    """Show what the processes say."""
    return commands.logs(arguments.names, arguments.follow, arguments.lines, arguments.json)


def doctor(arguments: argparse.Namespace) -> int:
    """Check the servers of the installation that runs here, or that the environment names."""
    state = installation()
    data = folder.chosen()
    environment = dict(os.environ)
    if state:
        environment |= {"PORTAL_DATA": str(data.root), "PORTAL_SECRETS": str(data.secrets)}
        environment["PORTAL_OLLAMA_URL"] = (state.get("addresses") or {}).get("ollama") or ""
    elif "PORTAL_NATS_URL" not in os.environ:
        print("nothing runs here: start it with `make run` or `portal up`", file=sys.stderr)
        return exits.NOT_RUNNING
    asked = ["--json"] if arguments.json else []
    command = [sys.executable, "-m", "bus", *asked, "doctor"]
    return subprocess.run(command, env=environment, cwd=folder.PROJECT, check=False).returncode  # noqa: S603


def version(_: argparse.Namespace) -> int:
    """Show which version this is."""
    print(f"portal {importlib.metadata.version('story-portal')}")
    return exits.OK
