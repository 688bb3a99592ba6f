"""`python -m deploy.embedded up|down|restart|status|logs`: the stack without `portal`."""

import argparse
import sys

from deploy.embedded import commands

LOG_LINES = 50


def main() -> int:
    """Read the arguments, do the one thing, return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="run everything in the foreground")
    up.add_argument("--only", choices=["servers"], help="start nothing else")
    outside = "use this server instead of an own one; may be given several times"
    up.add_argument("--external", action="append", default=[], metavar="URL", help=outside)
    up.add_argument("--handlers", type=int, default=1, help="number of handlers processes")
    up.add_argument("--tls", action="store_true", help="TLS on every port")
    up.add_argument("--json", action="store_true", help="one JSON object a line")
    verbs.add_parser("down", help="stop the running installation")
    restart = verbs.add_parser("restart", help="restart processes one at a time")
    restart.add_argument("names", nargs="*", help="processes or roles; the platform's own if none")
    restart.add_argument("--json", action="store_true", help="one JSON object a line")
    status = verbs.add_parser("status", help="processes, addresses, health")
    status.add_argument("--json", action="store_true", help="one JSON object")
    logs = verbs.add_parser("logs", help="what the processes say")
    logs.add_argument("names", nargs="*", help="processes; all if none is named")
    logs.add_argument("--follow", "-f", action="store_true", help="go on with new lines")
    logs.add_argument("--lines", "-n", type=int, default=LOG_LINES)
    logs.add_argument("--json", action="store_true", help="one JSON object a line")
    return run(parser.parse_args())


def run(asked: argparse.Namespace) -> int:
    """Call the command."""
    if asked.verb == "up":
        return commands.up(
            only=asked.only, external=asked.external, handlers=asked.handlers, as_json=asked.json,
            tls=asked.tls,
        )  # fmt: skip
    if asked.verb == "down":
        return commands.down()
    if asked.verb == "restart":
        return commands.restart(asked.names, as_json=asked.json)
    if asked.verb == "status":
        return commands.status(asked.json)
    return commands.logs(asked.names, asked.follow, asked.lines, asked.json)


if __name__ == "__main__":
    sys.exit(main())
