"""Arithmetic on decimals: exact digits, a parser of its own over Python's syntax tree, no eval.

Only numbers, `+ - * / // % **`, brackets and a few functions are known. The length of the text, the
number of operations, the digits and the exponents are limited, so nothing can be made to run long.
"""

import ast
import operator
from collections.abc import Callable, Sequence
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DecimalException,
    Inexact,
    getcontext,
    localcontext,
)

from pydantic import Field

from handlers.tools.builtin.declaration import Call, builtin
from schemas.contract import Schema
from schemas.problems import OutsideSchema

EXPRESSION_CHARACTERS_MAX = 500
DIGITS = 50
EXPONENT_MAX = 200
POWER_MAX = 1_000
ROUND_DIGITS_MAX = 30

OPERATORS: dict[type[ast.operator], Callable[[Decimal, Decimal], Decimal]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda left, right: floor_and_rest(left, right)[0],
    ast.Mod: lambda left, right: floor_and_rest(left, right)[1],
}


AGGREGATES: dict[str, Callable[[Sequence[Decimal]], Decimal]] = {
    "sum": lambda values: sum(values, Decimal(0)),
    "avg": lambda values: sum(values, Decimal(0)) / len(values),
    "min": min,
    "max": max,
}


class Evaluate(Schema):
    """Calculate an arithmetic expression exactly, such as `(1200.50 - 300) * 12`.

    Known are + - * / // % ** and brackets, and sum, avg, min, max, abs, round and sqrt.
    """

    expression: str = Field(min_length=1, max_length=EXPRESSION_CHARACTERS_MAX)


class Result(Schema):
    """The exact value as a text; `rounded` says that it has more than 50 digits."""

    expression: str
    value: str
    rounded: bool


@builtin("calculator.evaluate", Evaluate, Result, timeout_ms=2_000)
async def evaluate(wanted: Evaluate, _: Call) -> Result:
    """Calculate."""
    value, rounded = calculate(wanted.expression)
    return Result(expression=wanted.expression, value=value, rounded=rounded)


def calculate(expression: str) -> tuple[str, bool]:
    """The value as a plain decimal text, and whether digits were lost.

    Raises:
        OutsideSchema: The expression is not arithmetic, or its value is too large or undefined.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refused("it is not an arithmetic expression") from None
    context = Context(prec=DIGITS, Emax=EXPONENT_MAX, Emin=-EXPONENT_MAX, rounding=ROUND_HALF_EVEN)
    with localcontext(context) as used:
        try:
            value = value_of(tree.body, expression.strip())
        except DecimalException as undefined:
            raise refused(f"it has no value here ({type(undefined).__name__})") from None
        except RecursionError:
            raise refused("it is nested too deeply") from None
        return plain(value), bool(used.flags[Inexact])


def plain(value: Decimal) -> str:
    """Without exponent, and without zeros that division left."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text and len(text) > DIGITS // 2 else text


def value_of(node: ast.expr, source: str) -> Decimal:
    """The value of one node of the tree."""
    if isinstance(node, ast.Constant):
        return number(node, source)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = value_of(node.operand, source)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp):
        left, right = value_of(node.left, source), value_of(node.right, source)
        if isinstance(node.op, ast.Pow):
            return power(left, right)
        if type(node.op) in OPERATORS:
            return OPERATORS[type(node.op)](left, right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return applied(node.func.id, [value_of(each, source) for each in arguments(node)])
    raise refused("only numbers, + - * / // % **, brackets and known functions may stand in it")


def number(node: ast.Constant, source: str) -> Decimal:
    """A number with the digits as they were written."""
    text = ast.get_source_segment(source, node) or ""
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        raise refused("only numbers may stand in it")
    try:
        return +Decimal(text.replace("_", ""))
    except DecimalException:
        raise refused(f"{text[:40]} is not a decimal number") from None


def arguments(node: ast.Call) -> list[ast.expr]:
    """The arguments; one list stands for its items."""
    if len(node.args) == 1 and isinstance(node.args[0], ast.List | ast.Tuple):
        return node.args[0].elts
    return node.args


def power(base: Decimal, exponent: Decimal) -> Decimal:
    """A power with a bounded exponent."""
    if abs(exponent) > POWER_MAX:
        raise refused(f"an exponent is larger than {POWER_MAX}")
    return base**exponent


def applied(name: str, values: Sequence[Decimal]) -> Decimal:
    """A known function of its arguments."""
    if values and name in AGGREGATES:
        return AGGREGATES[name](values)
    if name in ("abs", "sqrt") and len(values) == 1:
        return abs(values[0]) if name == "abs" else values[0].sqrt()
    if name == "round" and values and not values[2:]:
        digits = values[1] if values[1:] else Decimal(0)
        if digits != int(digits) or not 0 <= digits <= ROUND_DIGITS_MAX:
            raise refused("round takes 0 to 30 digits")
        return rounded(values[0], int(digits))
    raise refused(f"{name}() is not known, or not with {len(values)} arguments")


def rounded(value: Decimal, digits: int) -> Decimal:
    """Rounded as asked for, which is no loss of digits."""
    flags = getcontext().flags
    before = flags[Inexact]
    value = value.quantize(Decimal(1).scaleb(-digits))
    flags[Inexact] = before
    return value


def floor_and_rest(left: Decimal, right: Decimal) -> tuple[Decimal, Decimal]:
    """Division as in Python and in spreadsheets: the rest has the divisor's sign."""
    whole, rest = divmod(left, right)
    if rest and (rest < 0) != (right < 0):
        return whole - 1, rest + right
    return whole, rest


def refused(reason: str) -> OutsideSchema:
    """The problem with an expression."""
    return OutsideSchema(f"The expression cannot be calculated: {reason}.", path="expression")
