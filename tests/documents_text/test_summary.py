"""Summary, outline and counts are exact."""

from report_pairs import REPORTS

from handlers.documents.parsing import parse_bytes
from handlers.documents.summary import count_term, count_words, outline, summarize

SECTIONS = parse_bytes((REPORTS / "outage-a.md").read_bytes(), "outage-a.md")["sections"]


def test_a_summary_consists_of_exact_sentences_in_reading_order() -> None:
    quotes = summarize(SECTIONS, 5)
    bodies = {section["ordinal"]: section["body"] for section in SECTIONS}
    assert len(quotes) == 5
    assert all(quote.text in bodies[quote.section_ordinal] for quote in quotes)
    assert [quote.start for quote in quotes] == sorted(quote.start for quote in quotes)
    assert sorted(quote.rank for quote in quotes) == [1, 2, 3, 4, 5]


def test_a_query_draws_its_sentences_in() -> None:
    texts = [quote.text for quote in summarize(SECTIONS, 2, "What was the root cause?")]
    assert any("root cause" in text for text in texts)


def test_a_summary_of_nothing_is_empty() -> None:
    assert summarize([], 5) == []
    assert summarize(SECTIONS, 0) == []


def test_the_same_input_gives_the_same_summary() -> None:
    assert summarize(SECTIONS, 4) == summarize(SECTIONS, 4)


def test_the_outline_lists_each_heading_once() -> None:
    long = "The pump was checked and nothing was found. " * 100
    sections = parse_bytes(f"# Log\n\n{long}\n\n## End\n\nDone.".encode(), "log.md")["sections"]
    assert len(sections) > 2
    entries = [(entry.level, entry.heading, entry.words) for entry in outline(sections)]
    assert entries == [(1, "Log", 800), (2, "End", 1)]
    assert count_words(sections) == 803


def test_terms_are_counted_as_whole_words_in_any_case() -> None:
    sections = parse_bytes(b"# Cat\n\nA cat, a CAT; concatenate.\n\n# B\n\nroot\ncause", "a.md")[
        "sections"
    ]
    assert count_term(sections, "cat") == {0: 2}
    assert count_term(sections, "Root  cause") == {1: 1}
    assert count_term(sections, " ") == {}
