"""The commands that are not derived, as data: words, help, options, and the function that does it.

Functions are named by their place and imported when the command runs.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LOG_LINES = 50
SHELLS = ("bash", "zsh", "fish")
GOAL_TIMEOUT_S = 900.0


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every command takes; it may also stand before the command."""
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="one JSON object a line"
    )


@dataclass(frozen=True)
class Own:
    """One command; `asks` means that its function is a coroutine that asks the edge."""

    path: tuple[str, ...]
    help: str
    does: str
    options: Callable[[argparse.ArgumentParser], None] = add_common
    asks: bool = True


def of_group(name: str) -> list[Own]:
    """The own commands below a word."""
    return [command for command in COMMANDS if len(command.path) > 1 and command.path[0] == name]


def up_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal up`."""
    add_common(parser)
    parser.add_argument("--only", choices=["servers"], help="start nothing else")
    parser.add_argument(
        "--external", action="append", default=[], metavar="URL",
        help="use this server instead of an own one; may be given several times",
    )  # fmt: skip
    parser.add_argument("--handlers", type=int, default=1, help="number of handlers processes")
    parser.add_argument("--tls", action="store_true", help="TLS on every port")


def restart_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal restart`."""
    add_common(parser)
    text = "a process or a role; the platform's own if none is named"
    parser.add_argument("names", nargs="*", metavar="NAME", help=text)


def logs_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal logs`."""
    add_common(parser)
    parser.add_argument("names", nargs="*", help="processes; all if none is named")
    parser.add_argument("--follow", "-f", action="store_true", help="go on with new lines")
    parser.add_argument("--lines", "-n", type=int, default=LOG_LINES)


def run_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal goals run`."""
    add_common(parser)
    parser.add_argument("description", nargs="+", metavar="TEXT", help="what you want")
    parser.add_argument(
        "--attach", action="append", default=[], metavar="FILE",
        help="a file that it is about; may be given several times",
    )  # fmt: skip
    parser.add_argument("--title")
    parser.add_argument("--priority", type=int, help="1, which is first, to 5 (default: 3)")
    parser.add_argument("--parallelism", type=int, help="tasks at once")
    parser.add_argument("--key", help="Idempotency-Key; made if absent")
    timeout_option(parser, None)


def watch_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal goals watch`."""
    add_common(parser)
    parser.add_argument("id", metavar="ID")
    timeout_option(parser, None)


def timeout_option(parser: argparse.ArgumentParser, default: float | None) -> None:
    """How long to watch."""
    text = "stop watching after so long; nothing is cancelled"
    parser.add_argument("--timeout", type=float, default=default, metavar="SECONDS", help=text)


def result_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal goals result`."""
    add_common(parser)
    parser.add_argument("id", metavar="ID")
    parser.add_argument("-o", "--output", metavar="FILE", help="write the artifact there")


def content_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal documents content`."""
    add_common(parser)
    parser.add_argument("id", metavar="ID")
    parser.add_argument("-o", "--output", metavar="FILE", help="standard output if absent")


def tail_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal events tail`."""
    add_common(parser)
    parser.add_argument("--type", help="a type, or a domain for all of its types")
    parser.add_argument("--goal", metavar="ID", help="only what belongs to this goal")
    parser.add_argument("--id", metavar="ID", help="only what happened to this thing")
    parser.add_argument("--since", metavar="POSITION", help="begin behind this position")
    parser.add_argument("--at-most", type=int, metavar="N", help="end after N events")


def crash_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal prove crash`."""
    add_common(parser)
    parser.add_argument("--tasks", type=int, default=6, metavar="N", help="parallel tasks (6)")
    timeout_option(parser, GOAL_TIMEOUT_S)


def faults_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal faults smoke`."""
    add_common(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="draw as before; made if absent")
    parser.add_argument(
        "--logs", type=Path, metavar="FOLDER",
        help="keep here the logs of every process when a fault broke a rule",
    )  # fmt: skip


def fault_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal faults run`."""
    faults_options(parser)
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="see `portal faults list`; `all` for every one"
    )


def retire_option(parser: argparse.ArgumentParser) -> None:
    """Options of `portal vault rotate-master-key`."""
    add_common(parser)
    parser.add_argument("--retire", action="store_true", help="forget keys that are not used")


def shell_option(parser: argparse.ArgumentParser) -> None:
    """The shell of `portal completion`."""
    add_common(parser)
    parser.add_argument("shell", choices=SHELLS)


def show_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal events show`."""
    add_common(parser)
    parser.add_argument("id", metavar="ID")


def host_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal certificates init`."""
    add_common(parser)
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME",
        help="a name or address that others connect to; may be given several times",
    )  # fmt: skip


def issue_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal certificates issue`."""
    host_options(parser)
    parser.add_argument("roles", nargs="+", metavar="ROLE", help="such as nats, edge, postgres")


def rotate_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal certificates rotate`."""
    add_common(parser)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--authority", action="store_true", help="replace the authority too")
    which.add_argument(
        "--retire", action="store_true", help="end the trust in the authority before this one"
    )


def repair_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal events salvage`."""
    add_common(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")


def rebuild_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal events rebuild-stream`."""
    repair_options(parser)
    parser.add_argument("--days", type=int, metavar="N", help="how many days of events (7)")


def run_option(parser: argparse.ArgumentParser) -> None:
    """The run of `portal runs …`."""
    add_common(parser)
    parser.add_argument("id", metavar="RUN", help="a run of an agent or of a workflow")


def at_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal runs at`."""
    run_option(parser)
    parser.add_argument("--seq", type=int, metavar="N", help="as of this position of the log")
    parser.add_argument("--at", metavar="TIME", help="as of this time, with its zone")


def fork_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal runs fork`."""
    run_option(parser)
    parser.add_argument(
        "--from", dest="step", required=True, metavar="STEP", help="the first step to do anew"
    )
    changes_option(parser, "--set", "set")
    parser.add_argument("--key", help="Idempotency-Key; made if absent")


def changes_option(parser: argparse._ActionsContainer, name: str, key: str) -> None:
    """What is to be other than it was."""
    text = "what is other, such as model=… or inputs.city=…; may be given several times"
    parser.add_argument(
        name, dest=key, action="append", default=[], metavar="NAME=VALUE", help=text
    )


def diff_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal runs diff`."""
    run_option(parser)
    parser.add_argument("other", metavar="OTHER", help="another run of the same kind")


def rerun_options(parser: argparse.ArgumentParser) -> None:
    """Options of `portal runs rerun`."""
    run_option(parser)
    parser.add_argument(
        "--offline", action="store_true", help="end where something else is asked; ask nobody"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--code", action="store_true", help="change nothing: only the code of now is other"
    )
    changes_option(what, "--with", "changes")
    parser.add_argument("--key", help="Idempotency-Key; made if absent")


GROUPS = {
    "runs": "Runs: of agents and of workflows, through time.",
    "prove": "Proofs: provoke a fault and check that nothing was done twice.",
    "faults": "Faults: provoke them on a cluster of their own and count what was lost or doubled.",
    "certificates": "Certificates: who this installation is, on every port.",
    "database": "Database: what is done to it on this machine.",
}

COMMANDS = (
    Own(
        ("up",), "Run everything on this machine, in the foreground.",
        "edge.cli.local:up", up_options, asks=False,
    ),
    Own(("down",), "Stop what runs on this machine.", "edge.cli.local:down", asks=False),
    Own(
        ("restart",), "Restart processes one at a time, each once the one before it is healthy.",
        "edge.cli.local:restart", restart_options, asks=False,
    ),
    Own(("status",), "Show processes, addresses and health.", "edge.cli.local:status", asks=False),
    Own(
        ("doctor",), "Check every server and say what to do.", "edge.cli.local:doctor", asks=False
    ),
    Own(
        ("migrate",), "Bring the database and the bus up to date.",
        "edge.cli.local:migrate", asks=False,
    ),
    Own(
        ("database", "rotate-passwords"), "Replace the platform's password at the database.",
        "edge.cli.local:rotate_passwords", asks=False,
    ),
    Own(
        ("vault", "rotate-master-key"), "Seal stored secrets under a new master key.",
        "edge.cli.local:rotate_master_key", retire_option, asks=False,
    ),
    Own(
        ("logs",), "Show what the processes say.", "edge.cli.local:logs", logs_options, asks=False
    ),
    Own(
        ("completion",), "Print the completion script of a shell.",
        "edge.cli.completion:run", shell_option, asks=False,
    ),
    Own(
        ("certificates", "init"), "Make the authority and a certificate for each role.",
        "edge.cli.certificates:init", host_options, asks=False,
    ),
    Own(
        ("certificates", "issue"), "Make new keys and certificates for some roles.",
        "edge.cli.certificates:issue", issue_options, asks=False,
    ),
    Own(
        ("certificates", "rotate"), "Replace every key and certificate, while all runs.",
        "edge.cli.certificates:rotate", rotate_options, asks=False,
    ),
    Own(
        ("certificates", "status"), "Show how long each certificate is good.",
        "edge.cli.certificates:status", asks=False,
    ),
    Own(
        ("prove", "crash"),
        "Kill a worker in the middle of a step and check that nothing is done twice.",
        "edge.cli.crash:run", crash_options,
    ),
    Own(
        ("faults", "list"), "Show every fault that can be provoked.",
        "edge.cli.faults:show_all", asks=False,
    ),
    Own(
        ("faults", "run"), "Provoke some faults, one after the other, and judge.",
        "edge.cli.faults:run", fault_options, asks=False,
    ),
    Own(
        ("faults", "smoke"), "Provoke the main faults and judge; takes some minutes.",
        "edge.cli.faults:smoke", faults_options, asks=False,
    ),
    Own(
        ("goals", "run"), "Submit a goal with its files and watch it until it ends.",
        "edge.cli.goals:run", run_options,
    ),
    Own(("goals", "watch"), "Watch a goal until it ends.", "edge.cli.goals:watch", watch_options),
    Own(
        ("goals", "result"), "Show the result of a goal.", "edge.cli.goals:result", result_options
    ),
    Own(
        ("documents", "content"), "Read the bytes of a document.",
        "edge.cli.documents:content", content_options,
    ),
    Own(
        ("runs", "states"), "List every state of a run and of its steps.",
        "edge.cli.runs:states", run_option,
    ),
    Own(("runs", "at"), "Show a run with its steps as they were.", "edge.cli.runs:at", at_options),
    Own(
        ("runs", "fork"), "Go on from a step in another run, beside the first.",
        "edge.cli.runs:fork", fork_options,
    ),
    Own(("runs", "diff"), "Compare two runs, step by step.", "edge.cli.runs:diff", diff_options),
    Own(
        ("runs", "rerun"), "Do a finished run again from its recorded answers.",
        "edge.cli.runs:rerun", rerun_options,
    ),
    Own(("events", "tail"), "Show events as they happen.", "edge.cli.events:tail", tail_options),
    Own(("events", "show"), "Show one event.", "edge.cli.events:show", show_options),
    Own(
        ("events", "rebuild-stream"), "Delete the stream EVENTS and fill it from the log.",
        "edge.cli.local:rebuild_stream", rebuild_options, asks=False,
    ),
    Own(
        ("events", "salvage"), "Read events that only the stream has back into the log.",
        "edge.cli.local:salvage", repair_options, asks=False,
    ),
)  # fmt: skip
