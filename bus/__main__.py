"""`python -m bus <verb>`: what is done to the servers themselves.

Each verb imports what it needs, because two of them run at every start.
"""

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from bus.settings import Settings, load

ROOT = Path(__file__).parent.parent


def main() -> int:
    """Read the arguments, do the one thing, return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bus", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("plan", help="difference between the topology and the NATS server")
    applying = verbs.add_parser("apply", help="create streams, consumers and buckets")
    applying.add_argument(
        "--prune", action="store_true", help="delete consumers that no version in use pulls from"
    )
    migrate = verbs.add_parser("migrate", help="bring the database to a revision")
    migrate.add_argument("revision", nargs="?", default="head")
    migrate.add_argument("--down", action="store_true", help="go down to the revision")
    rotate = verbs.add_parser("rotate-passwords", help="replace the password of a database role")
    rotate.add_argument("--role", choices=["app_user", "readonly_user"], default="app_user")
    rotate.add_argument("--write", type=Path, required=True, help="file for the new address")
    master = verbs.add_parser("rotate-master-key", help="seal stored secrets under a new key")
    master.add_argument("--retire", action="store_true", help="forget master keys without use")
    rebuild = verbs.add_parser("rebuild-stream", help="fill the stream EVENTS from the log")
    rebuild.add_argument("--days", type=int, help="how many days of events (7)")
    rebuild.add_argument("--yes", action="store_true", help="do not ask")
    salvage = verbs.add_parser("salvage", help="read the stream EVENTS back into the log")
    salvage.add_argument("--yes", action="store_true", help="do not ask")
    verbs.add_parser("doctor", help="check every server")
    verbs.add_parser("status", help="the same as doctor")
    verbs.add_parser("config", help="settings of this process, without secrets")
    arguments = parser.parse_args()
    settings = load()
    return int(VERBS[arguments.verb](settings, arguments) or 0)


def show(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """One row a line, as JSON or as words."""
    for row in rows:
        if arguments.json:
            print(json.dumps(row, default=str))
        else:
            print("  ".join(str(value) for value in row.values() if value not in ((), None)))


def plan(settings: Settings, arguments: argparse.Namespace) -> int:
    """Show what `apply` would change."""
    from bus import topology

    changes = asyncio.run(with_jetstream(settings, topology.plan))
    show([asdict(change) for change in changes], arguments)
    if not changes and not arguments.json:
        print("nothing to change")
    return 0


def apply(settings: Settings, arguments: argparse.Namespace) -> int:
    """Make the server hold the topology."""
    from bus import topology

    changes = asyncio.run(with_jetstream(settings, partial(topology.apply, prune=arguments.prune)))
    show([asdict(change) for change in changes], arguments)
    return 0


async def with_jetstream(settings: Settings, verb: Any) -> list[Any]:
    """Connect, do it, and close."""
    import nats
    import nats.errors

    from bus import tls, topology
    from bus.connection import connect_once_options
    from schemas import catalogue

    urls = settings.nats_url.get_secret_value().split(",")
    try:
        connection = await nats.connect(
            urls, **connect_once_options("bus", settings), **tls.nats_options(settings, "admin")
        )
    except (nats.errors.Error, OSError) as away:
        raise SystemExit(f"the bus does not answer: {away}") from None
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
    try:
        changes: list[Any] = await verb(connection.jetstream(), wanted, settings.streams_replicas)
        return changes
    finally:
        await connection.close()


def migrate(settings: Settings, arguments: argparse.Namespace) -> int:
    """Run the revisions up to, or down to, the one that is named."""
    from alembic import command
    from alembic.config import Config

    from bus import tls

    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    url, query = settings.postgres_url.get_secret_value(), tls.libpq_query(settings)
    config.attributes["url"] = url + ("&" if "?" in url else "?") * bool(query) + query
    verb = command.downgrade if arguments.down else command.upgrade
    verb(config, arguments.revision)
    if settings.runtime_postgres_url is not None and not arguments.down:
        from bus import passwords

        passwords.give(
            settings.postgres_url.get_secret_value(),
            settings.runtime_postgres_url.get_secret_value(),
        )
    return 0


def rotate_passwords(settings: Settings, arguments: argparse.Namespace) -> int:
    """Give a role of the database another password; running processes go over to it."""
    import psycopg

    from bus import passwords

    try:
        passwords.rotate(settings, arguments.role, arguments.write)
    except psycopg.Error as failed:
        raise SystemExit(f"the password stays: {failed}") from None
    show([{"role": arguments.role, "address": str(arguments.write)}], arguments)
    return 0


def rotate_master_key(settings: Settings, arguments: argparse.Namespace) -> int:
    """Make a new master key and wrap every sealed value under it; or retire the old ones."""
    from bus import lifecycle, rewrap
    from bus.clock import Clock
    from bus.database import Database
    from bus.sealing import FILE

    path = lifecycle.secrets_folder(settings) / FILE
    if settings.master_key is not None:
        if arguments.retire:
            raise SystemExit("the master keys are provided: take the old lines out there")
    elif arguments.retire:
        try:
            rewrap.require_settled(path)
        except rewrap.TooEarly as early:
            raise SystemExit(str(early)) from None
    else:
        rewrap.add_key(path)
    sealer = lifecycle.sealer(settings)

    async def wrap() -> int:
        connection = await Database(settings, Clock()).connect()
        try:
            return await rewrap.wrap_all(connection, sealer)
        finally:
            await connection.close()

    wrapped = asyncio.run(wrap())
    retired = rewrap.forget_old(path) if arguments.retire else ()
    show([{"newest": sealer.newest, "wrapped": wrapped, "retired": retired}], arguments)
    return 0


def rebuild_stream(settings: Settings, arguments: argparse.Namespace) -> int:
    """Fill the stream EVENTS again from the log."""
    from bus import repairs

    return asyncio.run(repairs.rebuild_stream(settings, arguments))


def salvage_events(settings: Settings, arguments: argparse.Namespace) -> int:
    """Read the stream EVENTS back into the log."""
    from bus import repairs

    return asyncio.run(repairs.salvage_events(settings, arguments))


def check(settings: Settings, arguments: argparse.Namespace) -> int:
    """Ask every server; status 1 if one does not answer as it should."""
    from bus import doctor

    findings = asyncio.run(doctor.examine(settings))
    if arguments.json:
        show([asdict(finding) for finding in findings], arguments)
    else:
        for finding in findings:
            print(f"{'ok' if finding.ok else 'WRONG':<6}{finding.part:<11}{finding.text}")
    return 0 if all(finding.ok for finding in findings) else 1


def show_config(settings: Settings, arguments: argparse.Namespace) -> int:
    """Every setting; secrets are stars."""
    values = json.loads(settings.model_dump_json())
    if arguments.json:
        show([values], arguments)
    else:
        for name, value in values.items():
            print(f"{name:<20}{value}")
    return 0


VERBS = {
    "plan": plan,
    "apply": apply,
    "migrate": migrate,
    "doctor": check,
    "status": check,
    "config": show_config,
    "rebuild-stream": rebuild_stream,
    "salvage": salvage_events,
    "rotate-passwords": rotate_passwords,
    "rotate-master-key": rotate_master_key,
}

if __name__ == "__main__":
    sys.exit(main())
