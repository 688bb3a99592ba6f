"""Comparison: real contradictions are found, different events are left alone."""

import pytest
from report_pairs import Embed, claims_of_file, compared, embedding, expectations, quality

from handlers.documents.claims import Claim, claims_of
from handlers.documents.comparison import Comparison, compare


@pytest.fixture(scope="module")
def embed() -> Embed:
    return embedding()


def claims(document: str, text: str) -> list[Claim]:
    section = {"ordinal": 0, "heading": "", "body": text, "start": 0, "end": len(text)}
    return claims_of(document, [section])


def between(*texts: str) -> Comparison:
    return compare([claims(f"d{index}", text) for index, text in enumerate(texts)])


@pytest.mark.parametrize(
    ("group", "precision", "recall"),
    [
        ("tuned", 0.95, 0.95),
        ("held out", 0.95, 0.95),
        ("fresh", 0.95, 0.95),
        ("blind", 0.95, 0.9),
        ("second round", 0.95, 0.95),
        ("blind, second round", 0.9, 0.7),
    ],
)
def test_disagreements_of_report_pairs_are_found_with_the_real_embeddings(
    embed: Embed, group: str, precision: float, recall: float
) -> None:
    measured = quality(group, embed)
    assert measured.precision >= precision
    assert measured.recall >= recall


@pytest.mark.parametrize(("group", "recall"), [("tuned", 0.9), ("held out", 0.9), ("fresh", 0.6)])
def test_words_alone_find_fewer_but_raise_no_more_false_alarms(group: str, recall: float) -> None:
    measured = quality(group, None)
    assert measured.precision >= 0.9
    assert measured.recall >= recall


@pytest.mark.parametrize("name", list(expectations()))
def test_facts_that_both_reports_state_are_not_reported(name: str, embed: Embed) -> None:
    found = compared(name, embed).disagreements
    raws = [{position.raw.lower() for position in d.positions} for d in found]
    for left, right in expectations()[name]["agreements"]:
        assert {left.lower(), right.lower()} not in raws


@pytest.mark.parametrize("name", list(expectations()))
def test_a_report_does_not_disagree_with_itself(name: str) -> None:
    own = claims_of_file(f"{name}-a.md")
    assert compare([own, own]).disagreements == ()


def test_every_position_quotes_its_document_exactly() -> None:
    for name in expectations():
        for disagreement in compared(name, None).disagreements:
            for position in disagreement.positions:
                assert position.raw in position.quote.replace("**", "").replace("*", "") or (
                    position.quote.startswith("|")
                )


def test_different_events_at_different_times_are_no_disagreement() -> None:
    result = between(
        "The problem was detected at 14:05 by monitoring.",
        "The problem was resolved at 14:52 by the network team.",
    )
    assert result.disagreements == ()


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Lift 1 stopped at 14:05.", "Lift 2 stopped at 14:20."),
        ("The east wing was dark for 25 minutes.", "The west wing was dark for 40 minutes."),
        ("The first alarm rang at 9:00.", "The second alarm rang at 9:10."),
    ],
)
def test_two_things_of_a_kind_are_not_confused(left: str, right: str) -> None:
    assert between(left, right).disagreements == ()


def test_the_same_event_at_different_times_is_one() -> None:
    result = between(
        "The problem was detected at 14:05 by monitoring.",
        "According to the log, the problem was first detected at 14:21.",
    )
    (found,) = result.disagreements
    assert (found.kind, [p.value for p in found.positions]) == ("time", ["14:05", "14:21"])


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("The pump stopped at 2:05 pm.", "The pump stopped at 14:05."),
        ("The pump stopped at 14:05 UTC.", "The pump stopped at 15:05 CET."),
        ("The repair lasted 130 minutes.", "The repair lasted 2h 10m."),
        ("About 1,200 orders failed.", "1,240 orders failed."),
        ("More than 500 parcels burned.", "The fire burned 612 parcels; 612 parcels were lost."),
        ("Some $1.2 million was paid.", "In total $1,204,331 was paid."),
        ("The bridge was closed on 3 May.", "The bridge was closed on 2025-05-03."),
        ("The outage lasted three and a half hours.", "The outage lasted 3 h 30 min."),
        ("The outage lasted 1h30m.", "The outage took an hour and a half."),
        ("The tank held 4.2 kg of salt.", "The tank held 4,200 g of salt."),
        ("The oven reached 212 °F.", "The oven reached 100 °C."),
        ("Twenty-five people were evacuated.", "25 people were evacuated."),
        ("Between 5 and 7 people were hurt.", "Six people were hurt."),
        ("The door was not locked.", "The door was unlocked."),
    ],
)
def test_other_ways_to_say_the_same_are_no_disagreement(left: str, right: str) -> None:
    assert between(left, right).disagreements == ()


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        ("The pump stopped at 2:05 pm.", "The pump stopped at 2:05 am.", "time"),
        ("The repair lasted 47 minutes.", "The repair lasted two hours.", "duration"),
        ("1,240 orders failed.", "1,310 orders failed.", "number"),
        ("12% of orders failed.", "21 percent of orders failed.", "percent"),
        ("The store rose to -9 °C.", "The store rose to -4 °C.", "number"),
        ("The store was at -4 °C.", "The store was at 4 °C.", "number"),
        ("The outage lasted 3 h 30 min.", "The outage lasted 4 h 15 min.", "duration"),
        ("Nobody became ill.", "Cases of illness: 16", "number"),
        ("People were told by loudspeaker vans.", "Loudspeaker vans were never used.", "negation"),
        ("The camera was working.", "The camera was out of order.", "negation"),
        ("The rollback failed.", "The rollback succeeded.", "negation"),
        ("Damage amounts to €5,000.", "Damage amounts to 7,500 euros.", "money"),
        ("The bridge was closed on 3 May.", "The bridge was closed on 5 May 2025.", "date"),
        ("Backups were encrypted.", "Backups were not encrypted.", "negation"),
        ("The backup link was available.", "The backup link was unavailable.", "negation"),
        ("The outage was caused by a cut cable.", "Root cause: an empty fuel tank.", "cause"),
        ("The shift was led by Ann Bell.", "The shift was led by Carl Dorn.", "name"),
        ("Severity: SEV-1", "The incident was rated SEV-3.", "severity"),
        ("We installed version 2.3.1 of the agent.", "The agent had version 2.3.4.", "version"),
    ],
)
def test_each_kind_of_value_can_disagree(left: str, right: str, kind: str) -> None:
    assert [d.kind for d in between(left, right).disagreements] == [kind]


def test_three_documents_give_one_disagreement_with_three_positions() -> None:
    said = "The crane fell at {} on the north side of the yard."
    (found,) = between(*(said.format(at) for at in ("9:10", "9:25", "9:40"))).disagreements
    assert [(p.document, p.value) for p in found.positions] == [
        ("d0", "09:10"),
        ("d1", "09:25"),
        ("d2", "09:40"),
    ]


def test_claims_that_only_one_document_makes_are_listed() -> None:
    result = between("Two doors were damaged. The roof leaked.", "Two doors were damaged.")
    assert [claim.text for claim in result.only_in["d0"]] == ["The roof leaked."]
    assert result.only_in["d1"] == ()


def test_nothing_to_compare_is_no_error() -> None:
    assert between("", "").disagreements == ()
    assert compare([]).disagreements == ()
