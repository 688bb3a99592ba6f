"""Documents: what is found, claimed, compared and summed up, each with its exact words."""

import pytest

from handlers.documents import operations
from schemas import documents
from schemas.documents import (
    CompareDocuments,
    ExtractClaims,
    GetContent,
    SearchDocuments,
    SummarizeDocuments,
    WriteArtifact,
)
from schemas.problems import Malformed, TooLarge
from tests.domains.papers import BAKERY, CRANE, REPORT_A, REPORT_B, indexed, settled


async def test_sections_are_found_by_words_and_by_meaning(platform, ask, ask_as):
    crane, bakery = await indexed(ask, CRANE), await indexed(ask, BAKERY)
    viewer = ask_as("viewer")

    async def best(q, mode, **fields):
        command = SearchDocuments(q=q, mode=mode, **fields)
        return [found.document_id for found in (await viewer(documents.search, command)).items]

    assert (await best("worn brake", "text"))[0] == crane.id
    assert (await best("who made pastry and rolls this morning", "vector"))[0] == bakery.id
    assert (await best("pastry and rolls from the baker", "hybrid"))[0] == bakery.id
    assert set(await best("bread", "hybrid", document_ids=(crane.id,))) == {crane.id}
    assert await best("bread", "text", document_ids=(crane.id,)) == []
    assert await best("xylophone", "text") == []
    assert len(await best("the crane or the oven", "vector", limit=1)) == 1


@pytest.mark.parametrize("q", ["'); --", "& | ! <-> :*", '"unclosed', "-", "\\", "ünï 漢字"])
async def test_no_query_breaks_the_search(platform, ask, q):
    await indexed(ask, CRANE)
    for mode in ("text", "vector", "hybrid"):
        await ask(documents.search, SearchDocuments(q=q, mode=mode))


async def test_claims_quote_their_sentences_exactly(platform, ask):
    document = await indexed(ask, REPORT_A)
    found = await ask(documents.claims, ExtractClaims(id=document.id))
    assert found.total == len(found.items) == 2
    text = REPORT_A.decode()
    assert all(claim["text"] == text[claim["start"] : claim["end"]] for claim in found.items)
    assert len((await ask(documents.claims, ExtractClaims(id=document.id, limit=1))).items) == 1


async def test_two_reports_disagree_on_time_and_number(platform, ask):
    one, other = await indexed(ask, REPORT_A), await indexed(ask, REPORT_B)
    compared = await ask(documents.compare, CompareDocuments(document_ids=(one.id, other.id)))
    values = {
        frozenset(position["raw"] for position in each["positions"])
        for each in compared.disagreements
    }
    assert frozenset({"14:05 UTC", "14:25 UTC"}) in values
    assert any({v.split()[0] for v in pair} == {"17", "23"} for pair in values)
    assert compared.claims == 4
    with pytest.raises(Malformed):
        await ask(documents.compare, CompareDocuments(document_ids=(one.id, one.id)))


async def test_documents_with_too_many_claims_are_not_compared(platform, ask, monkeypatch):
    monkeypatch.setattr(operations, "PAIRS_COMPARED_MAX", 2)
    one, other = await indexed(ask, REPORT_A), await indexed(ask, REPORT_B)
    with pytest.raises(TooLarge):
        await ask(documents.compare, CompareDocuments(document_ids=(one.id, other.id)))


async def test_a_summary_quotes_every_document(platform, ask):
    one, other = await indexed(ask, CRANE), await indexed(ask, BAKERY)
    command = SummarizeDocuments(document_ids=(one.id, other.id), sentences=3)
    items = (await ask(documents.summarize, command)).items
    assert {item["document_id"] for item in items} == {one.id, other.id}
    whole = (CRANE + BAKERY).decode()
    assert all(item["text"] in whole for item in items)


async def test_an_artifact_keeps_its_provenance_and_can_be_found(platform, ask):
    notes = ({"task_id": "t", "sources": [{"section": 1}]},)
    command = WriteArtifact(title="Sum / up", body="# Sum\n\nNo pump failed.", provenance=notes)
    written = await ask(documents.write, command, key="w")
    assert await ask(documents.write, command, key="w") == written
    document = await settled(ask, written)
    assert (document.status, document.doc_type, document.title) == (
        "indexed",
        "artifact",
        "Sum / up",
    )
    assert document.metadata == {"name": "Sum - up.md", "provenance": list(notes)}
    content = await ask(documents.content, GetContent(id=document.id))
    assert content.content.decode() == command.body
    assert (await ask(documents.write, command)).id != written.id
