"""For any table: the figures are those that Python computes with exact decimals."""

import csv
import io
import tempfile
from collections import defaultdict
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.tools import questions

GROUP_NAMES = ("region", "Sales Area", "store", "branch_office", "country")
STATE_NAMES = ("status", "Outcome", "order_state", "phase")
AMOUNT_NAMES = ("amount", "Order Total", "price", "netValue", "freight")
GROUPS = ("North", "South", "East", "West", "New York", "O'Hare", "São Paulo")
STATES = ("failed", "shipped", "pending", "returned", "on hold")
NOISE = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), max_size=12)


@st.composite
def sheets(draw: st.DrawFn) -> dict[str, Any]:
    amount = st.decimals(-99999, 99999, places=2, allow_nan=False)
    row = st.tuples(
        st.sampled_from(GROUPS),
        st.sampled_from(STATES),
        amount | st.none(),
        st.integers(0, 9),
        NOISE,
    )
    return {
        "names": [draw(st.sampled_from(n)) for n in (GROUP_NAMES, STATE_NAMES, AMOUNT_NAMES)],
        "rows": draw(st.lists(row, min_size=2, max_size=40)),
        "delimiter": draw(st.sampled_from([",", ";", "\t"])),
        "decimal": draw(st.sampled_from([".", ","])),
    }


def written(sheet: dict[str, Any]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=sheet["delimiter"], quoting=csv.QUOTE_ALL)
    writer.writerow(["row_id", *sheet["names"], "grade", "zz remark"])
    for number, (group, state, amount, grade, noise) in enumerate(sheet["rows"], 1):
        text = "" if amount is None else f"{amount:.2f}".replace(".", sheet["decimal"])
        writer.writerow([number, group, state, text, grade, f"~{noise}"])
    return out.getvalue()


def asked(sheet: dict[str, Any], question: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows"
        path.write_text(written(sheet), newline="")
        return questions.ask({"question": question}, {"orders.csv": path})


def number(cell: Any) -> Decimal | None:
    return None if cell is None else Decimal(cell)


def amounts_by_group(sheet: dict[str, Any], wanted: Any) -> dict[str, list[Decimal | None]]:
    found: dict[str, list[Decimal | None]] = defaultdict(list)
    for group, state, amount, _, _ in sheet["rows"]:
        found[group] += [amount] if wanted(state) else []
    return found


@settings(max_examples=25, deadline=None)
@given(sheets(), st.sampled_from(STATES))
def test_counts_and_totals_of_each_group(sheet: dict[str, Any], state: str) -> None:
    group, _, amount = sheet["names"]
    if state not in {row[1] for row in sheet["rows"]} or all(r[2] is None for r in sheet["rows"]):
        return
    reply = asked(
        sheet, f"How many {state} orders in each {group}, and what was their total {amount}?"
    )
    assert reply["answered"], reply["reason"]
    expected = [
        [name, len(values), sum((v for v in values if v is not None), Decimal(0))]
        for name, values in amounts_by_group(sheet, lambda s: s == state).items()
    ]
    got = [[name, count, number(total)] for name, count, total in reply["rows"]]
    assert sorted(got) == sorted(expected)


@settings(max_examples=25, deadline=None)
@given(sheets(), st.sampled_from(STATES))
def test_the_average_and_extremes_of_everything_but_one_state(
    sheet: dict[str, Any], state: str
) -> None:
    amount = sheet["names"][2]
    present = {row[1] for row in sheet["rows"]}
    if state not in present or all(r[2] is None for r in sheet["rows"]):
        return
    reply = asked(sheet, f"average, minimum and maximum {amount} excluding {state}")
    assert reply["answered"], reply["reason"]
    rest = [r[2] for r in sheet["rows"] if r[1] != state and r[2] is not None]
    average, lowest, highest = (number(cell) for cell in reply["rows"][0])
    if not rest:
        assert average is lowest is highest is None
        return
    mean = (sum(rest, Decimal(0)) / len(rest)).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)
    assert (average, lowest, highest) == (mean, min(rest), max(rest))


@settings(max_examples=25, deadline=None)
@given(sheets(), st.integers(0, 9))
def test_comparisons_and_rankings(sheet: dict[str, Any], least: int) -> None:
    group, _, amount = sheet["names"]
    if all(r[2] is None for r in sheet["rows"]):
        return
    counted = asked(sheet, f"How many orders have a grade of at least {least}?")
    assert counted["rows"] == [[sum(row[3] >= least for row in sheet["rows"])]]
    ranked = asked(sheet, f"top 1 {group} by total {amount}")
    totals = {
        name: sum((v for v in values if v is not None), Decimal(0))
        for name, values in amounts_by_group(sheet, lambda _: True).items()
    }
    best = max(totals.values())
    got = {name: number(total) for name, total in ranked["rows"]}
    assert got == {name: total for name, total in totals.items() if total == best}
