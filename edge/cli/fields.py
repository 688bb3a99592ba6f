"""Options of a command, derived from the fields of its operation's request, and back again.

    path parameter              a positional argument
    first one needed, if text   positional too (`registry search WORDS`, `goals submit TEXT`)
    nested model                JSON as a whole, or dotted: `--config.model x`
    several values              the option, several times
    secret                      `--password-file FILE`, or asked for: never a word of the command
    anything else               JSON, or `@FILE` with JSON in it

Only what was given is sent, so defaults stay the server's. Whether a value is allowed is decided
there as well; here only what a terminal must know: numbers, choices, JSON.
"""

import argparse
import getpass
import json
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from schemas.contract import Operation, Schema

MAIN_TEXTS = ("q", "description")
DEPTH_MAX = 3
PLAIN = (str, int, float)
METAVARS = {int: "INT", float: "NUMBER"}


@dataclass(frozen=True)
class Slot:
    """One field of a request, or of a model nested in it, as the command line shows it."""

    path: tuple[str, ...]
    kind: type
    many: bool
    choices: tuple[Any, ...] | None
    required: bool
    help: str

    @property
    def key(self) -> str:
        """Its name in the parsed arguments."""
        return ".".join(self.path)

    @property
    def option(self) -> str:
        """Its name on the command line."""
        return "--" + self.key.replace("_", "-")

    @property
    def nested(self) -> bool:
        """It holds a model whose fields are slots too."""
        return issubclass(self.kind, Schema) and not self.many


def slots_of(
    model: type[Schema], prefix: tuple[str, ...] = (), optional: bool = False
) -> Iterator[Slot]:
    """Every field of a request, nested models' fields behind them."""
    for name, field in model.model_fields.items():
        slot = slot_of((*prefix, name), field, optional)
        yield slot
        if slot.nested and len(slot.path) < DEPTH_MAX:
            yield from slots_of(slot.kind, slot.path, optional=True)


def slot_of(path: tuple[str, ...], field: FieldInfo, optional: bool) -> Slot:
    """What one field looks like; inside an optional model nothing is required."""
    inner = bare(field.annotation)
    many = get_origin(inner) is tuple
    inner = bare(get_args(inner)[0]) if many else inner
    choices = get_args(inner) if get_origin(inner) is Literal else None
    kind = type(choices[0]) if choices else inner
    return Slot(
        path=path,
        kind=kind if isinstance(kind, type) and kind is not Any else dict,
        many=many,
        choices=choices,
        required=field.is_required() and not optional,
        help=help_of(field),
    )


def bare(annotation: Any) -> Any:
    """A type without `| None` and `Annotated`; of a real union, anything."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return bare(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        some = [one for one in get_args(annotation) if one is not types.NoneType]
        return bare(some[0]) if len(some) == 1 else dict
    return annotation


def help_of(field: FieldInfo) -> str:
    """Description and default."""
    text = field.description or ""
    default = field.default
    if isinstance(default, (int, float, str)) and default != "":
        shown = str(default).lower() if isinstance(default, bool) else default
        text = f"{text} (default: {shown})".strip()
    return text.replace("%", "%%")


def add_to(parser: argparse.ArgumentParser, operation: Operation[Any, Any]) -> None:
    """Give a command its arguments."""
    slots = sendable(operation)
    main = main_slot(operation, slots)
    parameters = path_parameters(operation)
    for name in parameters:
        slot = next(slot for slot in slots if slot.path == (name,))
        parser.add_argument(slot.key, metavar=name.upper(), help=slot.help or None)
    if operation.upload:
        parser.add_argument("FILE", help="the file to send; - is standard input")
    for slot in slots:
        if slot is main:
            words = {"q": "WORDS", "description": "TEXT"}.get(slot.key, metavar(slot))
            parser.add_argument(slot.key, nargs="+", type=reader(slot), metavar=words)
        elif slot.key not in parameters:
            add_option(parser, slot, required=slot.required and not operation.upload)


def sendable(operation: Operation[Any, Any]) -> list[Slot]:
    """The slots of a request; of an upload without those that the file takes the place of."""
    slots = list(slots_of(operation.request))
    if operation.upload:
        slots = [s for s in slots if s.path[0] != operation.upload and s.kind is not bytes]
    return slots


def path_parameters(operation: Operation[Any, Any]) -> tuple[str, ...]:
    """Names of the fields that stand in the route."""
    return operation.route.parameters if operation.route else ()


def main_slot(operation: Operation[Any, Any], slots: list[Slot]) -> Slot | None:
    """The field that needs no option name: the first needed, if the command is about it."""
    given = (s for s in slots if s.required and s.key not in path_parameters(operation))
    first = next(given, None)
    if first is None or operation.upload:
        return None
    plain_many = first.many and first.kind in PLAIN
    return first if plain_many or first.key in MAIN_TEXTS else None


def add_option(parser: argparse.ArgumentParser, slot: Slot, *, required: bool) -> None:
    """One option; absent from the parsed arguments when it was not given."""
    if slot.kind is SecretStr:
        parser.add_argument(
            f"{slot.option}-file", dest=slot.key, type=secret_in, default=argparse.SUPPRESS,
            metavar="FILE", help=f"{slot.help} A file with it; - is standard input.".strip(),
        )  # fmt: skip
        return
    if slot.kind is bool:
        parser.add_argument(
            slot.option, dest=slot.key, action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS, required=required, help=slot.help or None,
        )  # fmt: skip
        return
    parser.add_argument(
        slot.option, dest=slot.key, action="append" if slot.many else "store",
        type=reader(slot), choices=slot.choices, default=argparse.SUPPRESS, required=required,
        metavar=None if slot.choices else metavar(slot), help=slot.help or None,
    )  # fmt: skip


def secret_in(name: str) -> str:
    """The first line of a file, or of standard input.

    Raises:
        argparse.ArgumentTypeError: It cannot be read.
    """
    try:
        text = sys.stdin.readline() if name == "-" else Path(name).read_text()
    except (OSError, ValueError) as bad:
        raise argparse.ArgumentTypeError(f"cannot be read: {bad}") from None
    return text.partition("\n")[0]


def ask_for_secrets(operation: Operation[Any, Any], given: dict[str, Any]) -> None:
    """Ask on the terminal for every secret that is needed and was not given.

    Raises:
        SystemExit: There is no terminal to ask on.
    """
    for slot in sendable(operation):
        if slot.kind is SecretStr and slot.required and slot.key not in given:
            if not sys.stdin.isatty():
                print(f"needed: {slot.option}-file FILE (- is standard input)", file=sys.stderr)
                raise SystemExit(2)
            given[slot.key] = getpass.getpass(f"{slot.key.replace('_', ' ')}: ")


def metavar(slot: Slot) -> str:
    """What stands for the value in help."""
    if slot.path[-1].rstrip("s") in ("id", "document_id") or slot.path[-1].endswith("_id"):
        return "ID"
    return METAVARS.get(slot.kind, "JSON" if is_json(slot) else "TEXT")


def is_json(slot: Slot) -> bool:
    """The value is written as JSON."""
    return slot.kind in (dict, object) or issubclass(slot.kind, Schema)


def reader(slot: Slot) -> Any:
    """What turns a word into the value."""
    if is_json(slot):
        return json_value
    return slot.kind if slot.kind in PLAIN else str


def json_value(text: str) -> Any:
    """JSON, or `@FILE` with JSON or YAML.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    try:
        if text.startswith("@") and text.endswith((".yaml", ".yml")):
            return from_yaml(Path(text[1:]).read_text())
        return json.loads(Path(text[1:]).read_text() if text.startswith("@") else text)
    except (OSError, ValueError) as bad:
        raise argparse.ArgumentTypeError(f"not JSON, and not @FILE with it: {bad}") from None


def from_yaml(text: str) -> Any:
    """The JSON that a YAML text stands for.

    Raises:
        ValueError: It stands for none: it has dates without quotes, or is no YAML.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        return json.loads(json.dumps(yaml.safe_load(text)))
    except (yaml.YAMLError, TypeError) as bad:
        raise ValueError(f"YAML that is no JSON: {bad}") from None


def body_of(operation: Operation[Any, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The request's fields out of parsed arguments."""
    body: dict[str, Any] = {}
    slots = sendable(operation)
    main = main_slot(operation, slots)
    for slot in sorted(slots, key=lambda slot: len(slot.path)):
        if slot.key in given:
            value = given[slot.key]
            if slot is main and not slot.many:
                value = " ".join(value)
            elif slot.many and is_json(slot):
                value = flat(value)
            put(body, slot.path, value)
    return body


def flat(values: list[Any]) -> list[Any]:
    """`--x '{…}' --x '[…, …]'` gives one list."""
    return [one for v in values for one in (v if isinstance(v, list) else [v])]


def put(body: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Set a value at a place inside nested objects."""
    for name in path[:-1]:
        body = body.setdefault(name, {})
    body[path[-1]] = value
