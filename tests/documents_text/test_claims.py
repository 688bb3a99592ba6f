"""Sentences, typed values and claims."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.documents.claims import claims_of
from handlers.documents.sentences import split
from handlers.documents.values import values_of


def test_abbreviations_and_decimals_do_not_end_a_sentence() -> None:
    body = (
        "Dr. Olsen came at 3.15 p.m. with 1.5 kg of salt. He left, e.g. for lunch. Then J. Ek ran."
    )
    assert [s.text for s in split(body)] == [
        "Dr. Olsen came at 3.15 p.m. with 1.5 kg of salt.",
        "He left, e.g. for lunch.",
        "Then J. Ek ran.",
    ]


def test_list_items_and_labelled_lines_stand_alone() -> None:
    body = "**Severity:** high\n**Owner:** Ann Bell\n\n- first thing\n- second\n  goes on\n1. third"
    assert [s.plain for s in split(body)] == [
        "Severity: high",
        "Owner: Ann Bell",
        "first thing",
        "second goes on",
        "third",
    ]


def test_a_log_row_is_one_sentence_and_a_wide_row_one_a_cell() -> None:
    log = "| Time | Event |\n|---|---|\n| 14:05 | Alert fires |"
    wide = "| Service | Start | End |\n|---|---|---|\n| checkout | 14:05 | 14:52 |"
    assert [s.plain for s in split(log)] == ["14:05: Alert fires"]
    assert [s.plain for s in split(wide)] == ["checkout Start: 14:05", "checkout End: 14:52"]
    assert {s.text for s in split(wide)} == {"| checkout | 14:05 | 14:52 |"}


@given(st.text(alphabet="ab Z.!?\n-*|#1:_`>", max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_sentence_is_always_an_exact_slice(body: str) -> None:
    for sentence in split(body):
        assert body[sentence.start : sentence.end] == sentence.text


@pytest.mark.parametrize(
    ("text", "kind", "raw", "normal"),
    [
        ("It began at 2:05 pm.", "time", "2:05 pm", "14:05"),
        ("It began at 14:05 UTC.", "time", "14:05 UTC", "14:05"),
        ("It began at noon.", "time", "noon", "12:00"),
        ("On 12 March 2026 it began.", "date", "12 March 2026", "2026-03-12"),
        ("On March 12, 2026 it began.", "date", "March 12, 2026", "2026-03-12"),
        ("On 2026-03-12 it began.", "date", "2026-03-12", "2026-03-12"),
        ("It lasted 47 minutes.", "duration", "47 minutes", "2820 s"),
        ("It lasted 2h 10m.", "duration", "2h 10m", "7800 s"),
        ("It lasted half an hour.", "duration", "half an hour", "1800 s"),
        ("A 24-hour watch began.", "duration", "24-hour", "86400 s"),
        ("We lost 1,240 requests.", "number", "1,240 requests", "1240"),
        ("Three services broke.", "number", "Three services broke", "3"),
        ("There were no injuries.", "number", "no injuries", "0"),
        ("It fell to −12 °C.", "number", "−12 °C", "-12 °C"),
        ("It held 3 m³ of oil.", "number", "3 m³", "3000 l"),
        ("Two hundred people came.", "number", "Two hundred people came", "200"),
        ("It lasted an hour and a half.", "duration", "an hour and a half", "5400 s"),
        ("It was built in 1998.", "date", "1998", "1998"),
        ("About 3.5% failed.", "percent", "3.5%", "3.5 %"),
        ("It cost €42,000.", "money", "€42,000", "EUR 42000"),
        ("It cost $2.4 million.", "money", "$2.4 million", "USD 2400000"),
        ("We run v2.3.1 there.", "version", "v2.3.1", "2.3.1"),
        ("See ticket PAY-3391.", "identifier", "PAY-3391", "PAY-3391"),
        ("Severity: critical", "severity", "critical", "critical"),
        ("It was led by Dr. Ann Bell.", "name", "Dr. Ann Bell", "ann bell"),
        ("The fire was caused by a spark.", "cause", "a spark", "spark"),
        ("The log said “disk full” twice.", "quoted", "disk full", "disk full"),
    ],
)
def test_typed_values_are_read(text: str, kind: str, raw: str, normal: str) -> None:
    assert (kind, raw, normal) in [(v.kind, v.raw, v.normal) for v in values_of(text)]


@pytest.mark.parametrize("text", ["02/03/2026", "https://a.example/14:05/3", "1. 2. 3."])
def test_what_is_ambiguous_gets_no_comparable_value(text: str) -> None:
    assert [v for v in values_of(text) if v.kind in {"time", "date"} and v.normal] == []


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_read_for_values(text: str) -> None:
    for value in values_of(text):
        assert 0 <= value.at <= len(text)


def test_a_claim_carries_its_place_and_values() -> None:
    body = "The pump failed. It was not repaired before 14:05."
    section: dict[str, Any] = {"ordinal": 3, "heading": "Log", "body": body, "start": 100}
    claim = claims_of("doc", [section])[1]
    assert (claim.section_ordinal, claim.start, claim.end) == (3, 117, 150)
    assert claim.negated
    assert {"kind": "time", "raw": "14:05", "normal": "14:05"} in claim.as_dict()["values"]
