"""What a value in a document becomes: paths are looked up, operators computed. Pure.

    "$.steps.read.output.id"     what is there; an error when there is nothing
    "$.steps.each.output[*].id"  a list of what is there
    "$$10"                       the text "$10"
    {"$eq": [a, b]}              an operator and its arguments, which are values themselves

The operators are a closed set: a document cannot bring code.
"""

import operator
from collections.abc import Callable, Iterable
from functools import cache, reduce
from typing import Any

from jsonpath_rfc9535 import JSONPathError, JSONPathQuery, compile  # noqa: A004 - its own name

from schemas.workflows.document import ITEMS_MAX

TEXT_MAX = 100_000


class Unmappable(Exception):
    """A value cannot be computed; the text says which and why."""


def _of_numbers(function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """The operator, for numbers only: a text times a million is no arithmetic."""

    def checked(*numbers: Any) -> Any:
        if not all(type(n) in (int, float) for n in numbers):
            raise TypeError("takes numbers")
        return reduce(function, numbers)

    return checked


def _joined(separator: str, items: Iterable[Any]) -> str:
    return separator.join(str(item) for item in items)


def _merged(*objects: dict[str, Any]) -> dict[str, Any]:
    return reduce(operator.or_, objects, {})


def _concatenated(*parts: Any) -> Any:
    if all(isinstance(part, list) for part in parts):
        return [item for part in parts for item in part]
    return "".join(str(part) for part in parts)


OPERATORS: dict[str, Callable[..., Any]] = {
    "$eq": operator.eq, "$ne": operator.ne, "$lt": operator.lt, "$le": operator.le,
    "$gt": operator.gt, "$ge": operator.ge, "$not": operator.not_,
    "$and": lambda *values: all(values), "$or": lambda *values: any(values),
    "$in": lambda item, items: item in items, "$length": len,
    "$add": _of_numbers(operator.add), "$sub": _of_numbers(operator.sub),
    "$mul": _of_numbers(operator.mul), "$div": _of_numbers(operator.truediv),
    "$concat": _concatenated, "$join": _joined, "$merge": _merged,
    "$range": lambda count: list(range(min(count, ITEMS_MAX + 1))), "$text": str,
}  # fmt: skip
LONGEST = {str: TEXT_MAX, list: ITEMS_MAX}
FORGIVING = "$else"
"""`{"$else": [a, b]}`: the first of the values that is there and not null."""


@cache
def path(text: str) -> JSONPathQuery:
    """A path, ready to be used.

    Raises:
        Unmappable: It is none.
    """
    try:
        return compile(text)
    except JSONPathError as bad:
        raise Unmappable(f"{text[:80]!r} is no JSONPath: {bad}") from None


def is_path(value: Any) -> bool:
    """Whether a text stands for something else."""
    return isinstance(value, str) and (value == "$" or value.startswith(("$.", "$[")))


def operator_in(value: Any) -> str | None:
    """The operator that an object stands for, if it does."""
    if isinstance(value, dict) and len(value) == 1:
        [name] = value
        if isinstance(name, str) and name.startswith("$"):
            return name
    return None


def computed(value: Any, known: dict[str, Any]) -> Any:
    """What a value of a document becomes.

    Args:
        value: JSON with paths and operators.
        known: What paths begin at.

    Raises:
        Unmappable: A path leads nowhere, or an operator does not fit its arguments.
    """
    if isinstance(value, str):
        if is_path(value):
            return found(value, known)
        return value[1:] if value.startswith("$$") else value
    if isinstance(value, list | tuple):
        return [computed(item, known) for item in value]
    if isinstance(value, dict):
        name = operator_in(value)
        if name is not None:
            return applied(name, value[name], known)
        return {key: computed(item, known) for key, item in value.items()}
    return value


def found(text: str, known: dict[str, Any]) -> Any:
    """What a path leads to: one thing, or a list where it can name several.

    Raises:
        Unmappable: It names one thing, which is not there.
    """
    query = path(text)
    values = query.find(known).values()
    if not query.singular_query():
        return values
    if not values:
        raise Unmappable(f"There is nothing at {text[:200]}.")
    return values[0]


def applied(name: str, given: Any, known: dict[str, Any]) -> Any:
    """The result of an operator.

    Raises:
        Unmappable: There is no such operator, or it does not fit its arguments.
    """
    if name == FORGIVING:
        return first_there(given, known)
    function = OPERATORS.get(name)
    if function is None:
        raise Unmappable(f"There is no operator {name[:40]}.")
    arguments = computed(given if isinstance(given, list | tuple) else [given], known)
    try:
        result = function(*arguments)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError) as unfit:
        raise Unmappable(f"{name}: {unfit}") from None
    if isinstance(result, str | list) and len(result) > LONGEST[type(result)]:
        raise Unmappable(f"{name} makes more than {LONGEST[type(result)]} characters or items.")
    return result


def first_there(choices: Any, known: dict[str, Any]) -> Any:
    """The first value that is there; null when none is."""
    for choice in choices if isinstance(choices, list | tuple) else [choices]:
        try:
            value = computed(choice, known)
        except Unmappable:
            continue
        if value is not None:
            return value
    return None


def holds(condition: Any, known: dict[str, Any]) -> bool:
    """Whether a condition is true; one that is not there (None) is."""
    return condition is None or bool(computed(condition, known))


def paths_in(value: Any) -> list[str]:
    """Every path that a value names."""
    if is_path(value):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [text for item in value for text in paths_in(item)]
    return []


def operators_in(value: Any) -> list[str]:
    """Every operator that a value names."""
    name = operator_in(value)
    own = [] if name is None else [name]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return own + [text for item in value for text in operators_in(item)]
    return own
