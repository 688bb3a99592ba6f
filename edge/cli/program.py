"""From words to an exit status: which command, its parser, and what its failure says.

Only the modules of the named domain are imported, because building every domain's models takes
longer than most commands. The names of the domains and the first lines of their docstrings are
read from the sources instead: the top level's help needs no more.
"""

import argparse
import ast
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.cli import exits, own

if TYPE_CHECKING:
    from schemas.contract import Operation

SCHEMAS = Path(__file__).parents[2] / "schemas"

EPILOG = "Exit status: 0 done, 1 a problem was answered, 2 usage, 3 not running."


def run(words: Sequence[str] | None = None) -> int:
    """Do one command.

    Usage errors leave by `SystemExit(2)`, as everywhere.
    """
    given = list(sys.argv[1:] if words is None else words)
    parser = build(*first_words(given))
    if not given:
        parser.print_help()
        return exits.OK
    arguments = parser.parse_args(given)
    if not hasattr(arguments, "does"):
        parser.parse_args([*given, "--help"])
    try:
        return finished(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return exits.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.OK


def first_words(words: Sequence[str]) -> tuple[str | None, str | None]:
    """The domain and the verb, if they are there."""
    plain = [word for word in words if not word.startswith("-")]
    return (plain[0] if plain else None, plain[1] if len(plain) > 1 else None)


def finished(arguments: argparse.Namespace) -> int:
    """Call the command's function; problems become words on standard error."""
    does = function(arguments.does)
    if not arguments.does_async:
        return int(does(arguments))
    import asyncio

    from edge.cli.door import Refusal
    from edge.cli.output import say_not_running, say_refusal
    from edge.cli.place import NotRunning

    try:
        return int(asyncio.run(does(arguments)))
    except Refusal as refusal:
        say_refusal(refusal, as_json=arguments.json)
        return exits.PROBLEM
    except NotRunning as reason:
        say_not_running(reason, as_json=arguments.json)
        return exits.NOT_RUNNING


def function(path: str) -> Any:
    """`edge.cli.goals:run` -> the function."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def build(domain: str | None = None, verb: str | None = None) -> argparse.ArgumentParser:
    """The parser, filled in as far as the named domain and verb need it."""
    about = "Story Portal: agents that work together on a message bus."
    parser = argparse.ArgumentParser(prog="portal", description=about, epilog=EPILOG)
    parser.set_defaults(does_async=False)
    flag(parser, "--version", "edge.cli.local:version", "show the version")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    flag(
        parser, "--install-completion", "edge.cli.completion:install",
        "complete commands in this shell from now on",
    )  # fmt: skip
    groups = parser.add_subparsers(metavar="COMMAND", title="commands")
    for command in own.COMMANDS:
        if len(command.path) == 1:
            add_own(groups, command)
    for name in own.GROUPS:
        add_group(groups, name, own.GROUPS[name], verb, filled=name == domain)
    for name in domains():
        add_group(groups, name, about_domain(name), verb, filled=name == domain)
    return parser


def flag(parser: argparse.ArgumentParser, option: str, does: str, about: str) -> None:
    """A command that looks like an option."""
    parser.add_argument(option, dest="does", action="store_const", const=does,
                        default=argparse.SUPPRESS, help=about)  # fmt: skip


def add_group(groups: Any, name: str, about: str, verb: str | None, *, filled: bool) -> None:
    """`portal <domain>`; its verbs only if it is the one that was named."""
    short = about.partition(": ")[2] or about
    group = groups.add_parser(name, help=escaped(short[:1].upper() + short[1:]), description=about)
    if not filled:
        return
    verbs = group.add_subparsers(metavar="VERB", title="verbs", required=True)
    mine = {command.path[1]: command for command in own.of_group(name)}
    for each in derived(name) if name in domains() else ():
        if each.verb not in mine:
            add_derived(verbs, each, filled=verb in (None, each.verb))
    for command in mine.values():
        add_own(verbs, command)


@cache
def domains() -> tuple[str, ...]:
    """`schemas.catalogue.DOMAINS`, read without importing it."""
    for node in ast.parse((SCHEMAS / "catalogue.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOMAINS":
            names: tuple[str, ...] = ast.literal_eval(node.value)
            return names
    raise LookupError("schemas/catalogue.py names no DOMAINS")


def derived(domain: str) -> "list[Operation[Any, Any]]":
    """The operations of one domain that have a route."""
    from schemas.catalogue import modules_of
    from schemas.contract import Operation

    declared = [v for m in modules_of(f"schemas.{domain}") for v in vars(m).values()]
    return [o for o in declared if isinstance(o, Operation) and o.route and o.domain == domain]


def add_derived(verbs: Any, operation: "Operation[Any, Any]", *, filled: bool) -> None:
    """One operation as a command."""
    about = operation.summary
    parser = verbs.add_parser(
        operation.verb, help=escaped(about), description=escaped(long_help(operation))
    )
    if filled:
        from edge.cli import fields

        fields.add_to(parser, operation)
        own.add_common(parser)
        if operation.idempotent:
            parser.add_argument("--key", dest="KEY", help="Idempotency-Key; made if absent")
        if "cursor" in operation.request.model_fields:
            parser.add_argument("--all", dest="ALL", action="store_true", help="every page")
            parser.add_argument(
                "--at-most", dest="AT_MOST", type=int, metavar="N", help="no more than N, any pages"
            )
    parser.set_defaults(does="edge.cli.derived:run", does_async=True, OPERATION=operation)


def long_help(operation: "Operation[Any, Any]") -> str:
    """Help, route and what may be answered."""
    text = " ".join((operation.request.__doc__ or "").split())
    codes = ", ".join(problem.code for problem in operation.problems)
    needs = f" Needs {operation.may}." if ":" in (operation.may or "") else ""
    return f"{text} ({operation.rest}.{needs}{f' May answer {codes}.' if codes else ''})"


def add_own(groups: Any, command: own.Own) -> None:
    """One command with a behaviour of its own."""
    text = escaped(command.help)
    parser = groups.add_parser(command.path[-1], help=text, description=text)
    command.options(parser)
    parser.set_defaults(does=command.does, does_async=command.asks)


def escaped(text: str) -> str:
    """Safe from argparse's own formatting."""
    return text.replace("%", "%%")


@cache
def about_domain(name: str) -> str:
    """The first line of a domain's docstring, read without importing it."""
    file = SCHEMAS / f"{name}.py"
    source = file if file.exists() else SCHEMAS / name / "__init__.py"
    text = ast.get_docstring(ast.parse(source.read_text())) or name
    return text.split("\n")[0]
