"""The six rules by which a result is judged."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.evaluation import rules
from schemas.evaluation import QualityScore, ScoreResult

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0192f0c0-0000-7000-8000-000000000001"
QUESTION = "How many orders failed in each region, and what was their total amount?"
FACTS = ({"rows": [["North", 12, "1204.50"], ["South", 7, "88.00"]]},)
GOOD = "In region North 12 orders failed with a total amount of 1,204.50; in region South 7 failed, 88."


def judged(text: str, **fields: Any) -> QualityScore:
    command = ScoreResult(
        **{"subject_id": ID, "question": QUESTION, "text": text, "facts": FACTS} | fields
    )
    return rules.judge(command, id=ID, at=AT)


def test_an_exact_answer_has_full_marks() -> None:
    score = judged(GOOD)
    assert (score.score, score.grade) == (100.0, "A")
    assert len(score.findings) == len(score.dimensions) == 6


def test_an_empty_text_scores_nothing() -> None:
    assert (judged("  ").score, judged("").grade) == (0.0, "F")


def test_an_invented_figure_is_found_and_named() -> None:
    score = judged(GOOD + " In all 99 failed.")
    assert score.dimensions["figures"] < 0.8
    assert any("99" in finding for finding in score.findings)
    assert score.grade != "A"


def test_one_invented_figure_among_many_costs_the_best_grade() -> None:
    many = " ".join(f"{GOOD}" for _ in range(3)) + " The loss was 10,500."
    assert judged(many, facts=({"rows": list(range(1300))},)).grade != "A"


def test_figures_of_the_question_and_of_quotes_are_known() -> None:
    quote = {"sources": [{"quote": "It began at 14:05 on 3 March."}]}
    score = judged("It began at 14:05 on 3 March [A §1].", facts=(), provenance=(quote,))
    assert score.dimensions["figures"] == 1.0
    assert score.dimensions["citations"] == 1.0


def test_prose_that_no_source_knows_is_marked_down_and_its_words_are_named() -> None:
    quote = {"sources": [{"quote": "The pump in hall B stopped because its bearing broke."}]}
    told = judged("The pump stopped: a bearing broke [A §1].", facts=(), provenance=(quote,))
    invented = judged(
        "Sabotage by departing contractors crippled turbines [A §1].", facts=(), provenance=(quote,)
    )
    assert told.dimensions["grounded"] == 1.0
    assert invented.dimensions["grounded"] == 0.0
    assert any("sabotage" in finding for finding in invented.findings)


def test_an_answer_to_another_question_is_marked_down() -> None:
    score = judged("The weather was fine and everybody went home early that day.")
    assert score.dimensions["answers"] < 0.3
    assert any("orders" in finding for finding in score.findings)


def test_paragraphs_without_a_source_are_counted_once_anything_is_quoted() -> None:
    text = "# Title\n\nA first paragraph. [A §1]\n\nA second one.\n\n| a |\n| - |"
    value, finding = rules.citations(text, ({"quote": "x"},))
    assert (value, finding) == (0.5, "1 of 2 paragraphs say where they come from.")
    assert rules.citations(text, ({"tool": "table.ask"},))[0] == 1.0


@pytest.mark.parametrize(
    ("words", "value"), [(0, 0.0), (2, 0.4), (5, 1.0), (1200, 1.0), (2400, 0.5)]
)
def test_the_length_is_neither_a_fragment_nor_a_book(words: int, value: float) -> None:
    assert rules.length("word " * words)[0] == value


@pytest.mark.parametrize(
    ("text", "found"),
    [("1,204.50", ["1204.5"]), ("12 and 12.0", ["12", "12"]), ("14:05", ["14", "5"]),
     ("-3", ["3"]), ("v1", ["1"]), ("none", [])],
)  # fmt: skip
def test_numbers_are_read_as_values(text: str, found: list[str]) -> None:
    assert [format(number, "f") for number in rules.numbers(text)] == found


@pytest.mark.parametrize(
    ("score", "letter"), [(100, "A"), (90, "A"), (89.9, "B"), (60, "D"), (0, "F")]
)
def test_a_grade_is_a_range_of_scores(score: float, letter: str) -> None:
    assert rules.grade(score) == letter


@given(st.text(max_size=400), st.text(max_size=100))
def test_any_text_gets_a_score_between_nothing_and_everything(text: str, question: str) -> None:
    score = judged(text, question=question)
    assert 0 <= score.score <= 100
    assert all(0 <= value <= 1 for value in score.dimensions.values())
