"""What is believed of answers to $SRV.INFO, and what is found by words."""

import json
import random
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.registry import rules
from handlers.registry.index import Entry, Index

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def info(**fields: Any) -> dict[str, Any]:
    endpoint = {"name": "now", "subject": "tool.weather.now", "metadata": {"summary": "Weather."}}
    return {
        "type": "io.nats.micro.v1.info_response", "name": "weather", "id": "a", "version": "1.0.0",
        "description": "Weather", "metadata": None, "endpoints": [endpoint],
    } | fields  # fmt: skip


def instance(**fields: Any) -> rules.Instance:
    return rules.parse(json.dumps(info(**fields)).encode())


def rounds(*answers: list[rules.Instance]) -> dict[str, rules.Observation]:
    sightings: dict[str, rules.Sighting] = {}
    for number, each in enumerate(answers, start=1):
        sightings = rules.seen(sightings, each, number)
    return rules.observe(sightings.values())


@pytest.mark.parametrize(
    "odd",
    [
        {"name": "a.b"},
        {"name": "*"},
        {"name": None},
        {"version": "newest"},
        {"id": ""},
        {"description": "x" * 2_000},
        {"endpoints": [{}] * 201},
        {"endpoints": "all"},
        {"endpoints": [7]},
        {"endpoints": [{"name": "x", "subject": "y", "metadata": {"a": 1}}]},
        {"endpoints": [{"name": "x", "subject": "y", "metadata": {"a": "x" * 33_000}}]},
        {"endpoints": [{"name": "x", "subject": "y", "metadata": {"a": "b\x00"}}]},
        {"endpoints": [{"name": "x", "subject": f"y{n}", "metadata": {"a": "x" * 30_000}}
                       for n in range(40)]},
        {"metadata": {"a": {}}},
    ],
)  # fmt: skip
def test_a_malformed_or_oversized_answer_is_refused(odd: dict[str, Any]) -> None:
    with pytest.raises(rules.Malformed):
        instance(**odd)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.text() | st.integers(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)
    ).map(lambda v: json.dumps(v).encode())
)
def test_whatever_is_answered_is_believed_or_refused(data: bytes) -> None:
    try:
        rules.parse(data)
    except rules.Malformed:
        return


def test_a_service_is_lost_only_after_three_silent_rounds() -> None:
    there = [instance()]
    assert "weather" in rounds(there, [], [])
    assert rounds(there, [], [], []) == {}


def test_one_lost_answer_changes_nothing() -> None:
    both = [instance(id="a"), instance(id="b")]
    assert rounds(both, both[:1])["weather"].instances == 2
    assert rounds(both, both[:1], both[:1], both[:1])["weather"].instances == 1


def test_the_newest_version_speaks_for_the_service() -> None:
    old, new = instance(id="z", version="1.9.0"), instance(id="a", version="1.10.0")
    assert rounds([old, new])["weather"].newest.service_version == "1.10.0"
    assert rules.rank(instance(version="1.0.0")) > rules.rank(instance(version="1.0.0-rc1"))


def test_only_real_changes_count_and_a_return_keeps_the_id() -> None:
    [observation] = rounds([instance()]).values()
    first = rules.appeared(observation, None, AT)
    again = rules.appeared(observation, first, AT)
    assert not rules.differs(first, again)
    gone = rules.lost(first, AT)
    back = rules.appeared(observation, gone, AT)
    assert (gone.version, back.version, back.id) == (2, 3, first.id)
    assert rules.differs(gone, back)


def entries() -> list[Entry]:
    return [
        Entry("goals", "goals.submit", "operation", "req.goals.submit", "Submit a goal.", "ready"),
        Entry("goals", "goals.cancel", "operation", "req.goals.cancel", "Cancel a goal.", "ready"),
        Entry("weather", "weather", "service", "", "Temperatures everywhere", "ready"),
        Entry("platform", "documents.compare", "tool", "", "List disagreements.", "active"),
    ]


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("goals.submit", "goals.submit"),
        ("gaols sumbit", "goals.submit"),
        ("submit", "goals.submit"),
        ("wether", "weather"),
        ("disagreement", "documents.compare"),
        ("temperature", "weather"),
        ("compare", "documents.compare"),
    ],
)
def test_the_best_match_is_first_even_when_misspelt(query: str, first: str) -> None:
    assert Index(entries()).search(query, 5)[0].name == first


def test_nothing_is_found_for_nothing_and_for_noise() -> None:
    assert Index(entries()).search("...", 5) == ()
    assert Index(entries()).search("qqqqqq", 5) == ()


def test_ten_thousand_entries_are_searched_in_milliseconds() -> None:
    choose = random.Random(7)
    words = [
        "".join(choose.choices("abcdefghiklmnoprst", k=choose.randint(3, 9))) for _ in range(4_000)
    ]
    many = [
        Entry(
            "s",
            f"{choose.choice(words)}.{choose.choice(words)}",
            "operation",
            "",
            " ".join(choose.choices(words, k=12)),
            "ready",
        )
        for _ in range(10_000)
    ]
    index = Index([*many, *entries()])
    for query in ("goals submit", "gaols sumbit"):
        took_s = min(timed(index, query) for _ in range(5))
        assert index.search(query, 20)[0].name == "goals.submit"
        assert took_s < 0.02


def timed(index: Index, query: str) -> float:
    started = time.perf_counter()
    index.search(query, 20)
    return time.perf_counter() - started
