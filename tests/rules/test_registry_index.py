"""What is found by words, in which order, page by page."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handlers.registry.index import Index, chosen, key_of, rank_of
from schemas.registry import Entry, ListEntries

NAMES = st.sampled_from(["goals", "goal", "weather", "tools", "agent", "agents", "list"])
STATUSES = st.sampled_from(["ready", "degraded", "lost"])
ENTRIES = st.lists(
    st.builds(
        Entry,
        service=NAMES,
        name=st.tuples(NAMES, NAMES).map(".".join),
        kind=st.sampled_from(["operation", "tool"]),
        subject=st.just(""),
        summary=st.lists(NAMES, max_size=3).map(" ".join),
        status=STATUSES,
        layer=st.sampled_from([None, "L02"]),
        tags=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
    ),
    max_size=40,
    unique_by=key_of,
)
few = settings(max_examples=50)


def entry(name: str, summary: str, **fields: Any) -> Entry:
    given = {
        "service": name.split(".", maxsplit=1)[0],
        "kind": "operation",
        "subject": "",
        "status": "ready",
    }
    return Entry(name=name, summary=summary, **given | fields)


def entries() -> list[Entry]:
    return [
        entry("goals.submit", "Submit a goal."),
        entry("goals.cancel", "Cancel a goal."),
        entry("weather", "Temperatures everywhere", kind="service"),
        entry("documents.compare", "List disagreements.", kind="tool"),
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
    assert Index(entries()).search("...", 5) == []
    assert Index(entries()).search("qqqqqq", 5) == []


@few
@given(ENTRIES, st.integers(1, 7))
def test_pages_of_a_search_are_the_whole_search(found: list[Entry], limit: int) -> None:
    index = Index(found)
    whole = index.search("goal agent", 1000)
    paged, after = list[Any](), None
    while page := index.search("goal agent", limit, after=after):
        paged += page
        last = page[-1]
        after = rank_of(last.score, last.name, last.kind, last.service)
    assert paged == whole
    assert [hit.score for hit in whole] == sorted((hit.score for hit in whole), reverse=True)


@few
@given(ENTRIES, st.integers(1, 7), st.sampled_from([None, "ready", "lost"]),
       st.sampled_from([None, "L02"]), st.sampled_from([(), ("a",), ("a", "b")]))  # fmt: skip
def test_pages_of_a_list_are_every_entry_that_was_chosen(
    found: list[Entry], limit: int, status: Any, layer: Any, tags: Any
) -> None:
    index = Index(found)
    fits = chosen(ListEntries(status=status, layer=layer, tags=tags))
    paged, after = list[Entry](), None
    while page := index.listed(fits, after, limit):
        paged += page
        after = key_of(page[-1])
    wanted = [
        e for e in found
        if (e.status == status if status else e.status != "lost")
        and layer in (None, e.layer) and set(tags) <= set(e.tags)
    ]  # fmt: skip
    assert paged == sorted(wanted, key=key_of)


@few
@given(ENTRIES)
def test_each_entry_is_there_under_its_name(found: list[Entry]) -> None:
    index = Index(found)
    for each in found:
        assert each in index.named(each.name)
        assert {other.name for other in index.named(each.name)} == {each.name}
