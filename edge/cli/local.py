"""`portal up|down|restart|status|logs|doctor|migrate`: the installation on this machine."""

import argparse
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

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
        tls=arguments.tls,
    )


def down(_: argparse.Namespace) -> int:
    """Stop it."""
    return commands.down()


def restart(arguments: argparse.Namespace) -> int:
    """Restart processes one at a time; 3 if nothing runs."""
    if commands.current_state(folder.chosen())["pid"] is None:
        print("nothing runs here: start it with `make run` or `portal up`", file=sys.stderr)
        return exits.NOT_RUNNING
    return commands.restart(arguments.names, as_json=arguments.json)


def status(arguments: argparse.Namespace) -> int:
    """Show processes and addresses; 3 if nothing runs, 1 if something is not healthy."""
    outcome = commands.status(arguments.json)
    return exits.NOT_RUNNING if commands.current_state(folder.chosen())["pid"] is None else outcome


def logs(arguments: argparse.Namespace) -> int:
    """Show what the processes say."""
    return commands.logs(arguments.names, arguments.follow, arguments.lines, arguments.json)


def doctor(arguments: argparse.Namespace) -> int:
    """Check the servers of the installation that runs here, or that the environment names."""
    return on_the_servers("doctor", as_json=arguments.json)


def migrate(arguments: argparse.Namespace) -> int:
    """Bring that installation's database and bus up to date."""
    done = on_the_servers("migrate", as_json=arguments.json, secrets=folder.chosen().of_migrations)
    return done or on_the_servers("apply", as_json=arguments.json)


def rotate_passwords(arguments: argparse.Namespace) -> int:
    """Replace the password that the platform has at the database."""
    data = folder.chosen()
    return on_the_servers(
        "rotate-passwords", "--write", str(data.secrets / "portal_postgres_url"),
        as_json=arguments.json, secrets=data.of_migrations,
    )  # fmt: skip


def rotate_master_key(arguments: argparse.Namespace) -> int:
    """Seal stored secrets under a new master key, or forget the old ones."""
    words = ("--retire",) if arguments.retire else ()
    return on_the_servers("rotate-master-key", *words, as_json=arguments.json)


def rebuild_stream(arguments: argparse.Namespace) -> int:
    """Delete the stream EVENTS and fill it again from the log."""
    days = ("--days", str(arguments.days)) if arguments.days is not None else ()
    return repaired("rebuild-stream", *days, arguments=arguments)


def salvage(arguments: argparse.Namespace) -> int:
    """Read what the stream EVENTS has and the log has not back into the log."""
    return repaired("salvage", arguments=arguments)


def repaired(*words: str, arguments: argparse.Namespace) -> int:
    """A repair, which asks before it begins unless it was told not to."""
    agreed = ("--yes",) if arguments.yes else ()
    return on_the_servers(*words, *agreed, as_json=arguments.json)


def on_the_servers(*words: str, as_json: bool, secrets: Path | None = None) -> int:
    """Run `python -m bus <words>` with the addresses and secrets of the running installation."""
    state = installation()
    data = folder.chosen()
    environment = dict(os.environ)
    if state:
        environment |= {
            "PORTAL_DATA": str(data.root),
            "PORTAL_SECRETS": str(secrets or data.secrets),
        }
        if state.get("certificates"):
            environment |= {"PORTAL_TLS": "on", "PORTAL_CERTIFICATES": state["certificates"]}
        environment["PORTAL_OLLAMA_URL"] = (state.get("addresses") or {}).get("ollama") or ""
    elif "PORTAL_NATS_URL" not in os.environ:
        print("nothing runs here: start it with `make run` or `portal up`", file=sys.stderr)
        return exits.NOT_RUNNING
    asked = ["--json"] if as_json else []
    command = [sys.executable, "-m", "bus", *asked, *words]
    return subprocess.run(command, env=environment, cwd=folder.PROJECT, check=False).returncode  # noqa: S603


def version(_: argparse.Namespace) -> int:
    """Show which version this is."""
    print(f"portal {importlib.metadata.version('story-portal')}")
    return exits.OK
