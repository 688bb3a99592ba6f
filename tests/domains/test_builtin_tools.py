"""Built-in tools over attached documents: exact figures, exact quotes, written once."""

import pytest

from schemas import documents, tools
from schemas.documents import AttachDocument, GetContent
from schemas.tools import InvokeTool, ToolFailed
from tests.conftest import eventually

pytestmark = pytest.mark.usefixtures("platform")

ORDERS = b"region,status,amount\nNorth,failed,10.50\nSouth,ok,3.00\nNorth,failed,1.25\n"


async def attach(ask, name, content):
    document = await ask(documents.attach, AttachDocument(name=name, content=content))

    async def read():
        now = await ask(documents.get, documents.GetDocument(id=document.id))
        return now if now.status == "indexed" else None

    return await eventually(read, 60)


async def test_a_table_is_described_queried_and_asked_with_exact_figures(ask):
    table = await attach(ask, "orders.csv", ORDERS)

    async def result(name, **arguments):
        given = {"document_id": table.id} | arguments
        return (await ask(tools.invoke, InvokeTool(name=name, arguments=given))).result

    described = await result("table.describe")
    assert (described["rows"], len(described["columns"])) == (3, 3)
    asked = await result("table.ask", question="How many orders failed in each region?")
    assert asked["answered"]
    assert asked["rows"] == [["North", 2], ["South", 0]]
    sql = "SELECT region, sum(amount) AS total FROM data WHERE status = 'failed' GROUP BY region"
    assert (await result("table.query", sql=sql))["rows"] == [["North", "11.75"]]
    with pytest.raises(ToolFailed):
        await result("table.query", sql="COPY data TO '/tmp/x'")


A = b"# Outage A\n\n## Timeline\n\nThe outage began at 14:05. In all 120 orders failed.\n"
B = b"# Outage B\n\n## Timeline\n\nThe outage began at 14:35. In all 120 orders failed.\n"


async def test_a_report_cites_what_it_quotes_and_is_written_once(ask):
    first, second = await attach(ask, "a.md", A), await attach(ask, "b.md", B)
    ids = [first.id, second.id]
    compare = InvokeTool(name="documents.compare", arguments={"document_ids": ids})
    compared = (await ask(tools.invoke, compare)).result
    assert compared["disagreements"]
    part = {"heading": "Differences", "kind": "disagreements", "value": compared["disagreements"]}
    report = InvokeTool(name="artifact.report", arguments={"title": "Outage", "parts": [part]})
    written = (await ask(tools.invoke, report, key="r")).result
    assert "“The outage began at 14:05." in written["markdown"]
    assert f"[{first.title} §" in written["markdown"]
    assert {s["document_id"] for s in written["provenance"][0]["sources"]} == set(ids)
    assert (await ask(tools.invoke, report, key="r")).result == written
    stored = await ask(documents.content, GetContent(id=written["document_id"]))
    assert stored.content.decode() == written["markdown"]


async def test_sections_outlines_and_words_of_a_document_are_exact(ask):
    document = await attach(ask, "a.md", A)

    async def result(name, **arguments):
        given = {"document_id": document.id} | arguments
        return (await ask(tools.invoke, InvokeTool(name=name, arguments=given))).result

    outline = await result("documents.outline")
    assert "Timeline" in [entry["heading"] for entry in outline["items"]]
    passage = await result("documents.read", first=0, last=9)
    assert "14:05" in " ".join(item["body"] for item in passage["items"])
    assert (await result("text.find", term="outage"))["count"] == 2
    assert (await result("text.count"))["sentences"] == 2


async def test_a_document_that_is_not_there_fails_the_tool(ask):
    nowhere = "00000000-0000-7000-8000-000000000000"
    with pytest.raises(ToolFailed) as failed:
        await ask(
            tools.invoke, InvokeTool(name="documents.outline", arguments={"document_id": nowhere})
        )
    assert failed.value.details["cause"] == "ERR_001"
