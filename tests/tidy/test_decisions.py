"""The records of decisions have one form, and their index is fresh."""

import pytest

from tests.tidy import decisions


@pytest.mark.parametrize("decision", decisions.decisions(), ids=lambda d: d.file.stem)
def test_a_record_is_one_page_with_the_sections_in_order(decision):
    assert decision.file.name.startswith(decision.number)
    assert decision.sections == decisions.SECTIONS
    assert len(decision.file.read_text(encoding="utf-8").splitlines()) <= 70


def test_numbers_are_used_once_and_without_gaps():
    numbers = [int(decision.number) for decision in decisions.decisions()]

    assert numbers == list(range(1, len(numbers) + 1))


def test_the_index_of_decisions_is_fresh():
    assert decisions.INDEX.read_text(encoding="utf-8") == decisions.index(), (
        "run python -m tests.tidy.decisions"
    )
