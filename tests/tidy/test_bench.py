"""The bench's rows can be told apart and chosen, and what could not be measured holds no bar."""

import math

import pytest

from tests.load.__main__ import chosen
from tests.load.catalogue import PEERS, RAW, SCRIPTED, SHIPPED
from tests.load.keepalive import Measured
from tests.load.rows import Bar, Case, Row, verdicts

GROUPS = (SHIPPED, SCRIPTED, PEERS)
CASES = tuple(case for group in GROUPS for case in group.cases)


async def nothing(_):
    raise ConnectionError("nobody there")


def rate(row):
    return row.measured.rate


def test_every_row_has_a_name_of_its_own():
    assert len({case.name for case in CASES}) == len(CASES)


def test_a_bar_compares_with_a_row_that_there_is():
    others = {bar.beside for case in CASES for bar in case.bars if bar.beside}

    assert others == {RAW}
    assert others <= {case.name for case in CASES}


def test_rows_are_chosen_by_a_part_of_their_names_and_need_only_their_group():
    [group] = chosen(GROUPS, ["CANCEL reaches a model", "replay"])

    assert group.start is SCRIPTED.start
    assert [case.name for case in group.cases] == ["cancel reaches a model", "replay into scratch"]


def test_a_name_that_no_row_has_is_answered_with_those_that_there_are():
    with pytest.raises(SystemExit, match="replay into scratch"):
        chosen(GROUPS, ["nonsense"])


async def test_a_row_that_could_not_be_measured_says_why_and_misses_its_bars():
    case = Case("broken", nothing, (Bar("at most", 9, rate), Bar("at least", 9, rate, True)))
    row = await case.row(None)

    assert "nobody there" in row.note
    found = verdicts((case,), {"broken": row})
    assert [(math.isnan(one.value), one.ok) for one in found] == [(True, False)] * 2


def test_a_bar_that_compares_is_left_out_without_the_other_row():
    bar = Bar("share", 0.5, lambda row, other: rate(row) / rate(other), True, "other")
    case, row = Case("own", nothing, (bar,)), Row(Measured(1.0, count=3), {})

    assert verdicts((case,), {"own": row}) == []
    [one] = verdicts((case,), {"own": row, "other": Row(Measured(1.0, count=4), {})})
    assert (one.value, one.ok) == (0.75, True)
