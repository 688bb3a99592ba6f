"""The answer to a question about a table: exact rows, a Markdown table and plain sentences.

Numbers are printed as they are, with their own digits and no separators, so that a reader can check
them. Only averages are divided here, in decimal arithmetic, because the engine would use floats.
"""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from handlers.tools.question_plan import Figure, Plan

AVERAGE_EXTRA_DIGITS = 4
EMPTY = "(empty)"
_EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)


def answer(plan: Plan, selected: dict[str, Any]) -> dict[str, Any]:
    """Columns, rows, Markdown and sentences from what the SQL selected."""
    rows = [_row(plan, row) for row in selected["rows"]]
    names = [g.name for g in plan.groups] + [f.name for f in plan.figures]
    return {
        "columns": names,
        "rows": rows,
        "truncated": selected["truncated"],
        "markdown": markdown(names, rows),
        "sentences": [_sentence(plan, row) for row in rows] or ["Nothing matches."],
    }


def _row(plan: Plan, selected: list[Any]) -> list[Any]:
    cells = [EMPTY if cell is None else cell for cell in selected[: len(plan.groups)]]
    rest = iter(selected[len(plan.groups) :])
    for figure in plan.figures:
        parts = [next(rest) for _ in figure.parts()]
        cells.append(parts[0] if len(parts) == 1 else _average(figure, *parts))
    return cells


def _average(figure: Figure, total: str | int | None, count: int) -> str | None:
    if total is None or not count:
        return None
    digits = Decimal(1).scaleb(-figure.scale - AVERAGE_EXTRA_DIGITS)
    mean = _EXACT.divide(Decimal(total), Decimal(count)).quantize(digits, context=_EXACT)
    text = format(mean, "f")
    whole, _, fraction = text.partition(".")
    kept = fraction.rstrip("0").ljust(figure.scale, "0")
    return f"{whole}.{kept}" if kept else whole


def markdown(names: list[str], rows: list[list[Any]]) -> str:
    """A Markdown table; cells cannot break out of it."""
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(cell: Any) -> str:
    text = "none" if cell is None else str(cell)
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("\r", " ")


def _figure(figure: Figure, cell: Any) -> str:
    unit = f" {figure.unit}" if figure.unit and cell is not None else ""
    return f"{figure.name} {_cell(cell)}{unit}"


def _sentence(plan: Plan, row: list[Any]) -> str:
    keys = ", ".join(_cell(cell) for cell in row[: len(plan.groups)])
    cells = zip(plan.figures, row[len(plan.groups) :], strict=True)
    figures = ", ".join(_figure(figure, cell) for figure, cell in cells)
    text = f"{keys}: {figures}." if keys else f"{figures}."
    return text[:1].upper() + text[1:] if not keys else text
