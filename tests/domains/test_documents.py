"""Documents: what is attached is read, found, compared and forgotten."""

import asyncio
import base64
import contextlib
import hashlib

import pytest

from bus import process
from bus.clock import Clock
from bus.process import Health
from handlers.__main__ import load_service
from handlers.documents import indexing
from schemas import documents, models, supervision
from schemas.documents import (
    INLINE_BYTES_MAX,
    AttachDocument,
    CompareDocuments,
    DeleteDocument,
    ExtractClaims,
    GetContent,
    GetDocument,
    Ingest,
    ListDocuments,
    ListSections,
    NotIndexed,
    ReprocessDocument,
    SearchDocuments,
    Unreadable,
    UploadMissing,
    WriteArtifact,
)
from schemas.models import ReportUsage
from schemas.problems import Denied, IllegalMove, Malformed, NotFound, TooLarge, Unavailable
from schemas.supervision import GetJob
from tests.conftest import eventually, look
from tests.domains.papers import (
    BAKERY,
    CRANE,
    CSV,
    HTML,
    attach,
    indexed,
    pdf,
    settled,
    upload,
)
from tests.servers import free_port


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.md", CRANE, "markdown", "42 tonnes"),
        ("a.html", HTML, "html", "It failed."),
        ("a.csv", CSV, "csv", "region"),
        ("a.txt", b"Just a note on the weather.\n", "text", "weather"),
        ("a.pdf", pdf("Crane inspection", "It lifted 42 tonnes."), "pdf", "42 tonnes"),
    ],
)
async def test_a_file_is_read_as_what_it_is(platform, ask, name, content, kind, words):
    document = await indexed(ask, content, name)
    assert (document.doc_type, document.status_reason) == (kind, None)
    page = await ask(documents.sections, ListSections(id=document.id))
    assert len(page.items) == document.sections > 0
    assert words in " ".join(section.body for section in page.items)


async def test_every_state_on_the_way_is_one_event(platform, ask):
    document = await indexed(ask, CRANE)
    rows = await look(
        platform,
        "SELECT type FROM mcp_documents.events WHERE aggregate_id = $1 ORDER BY aggregate_version",
        document.id,
    )
    names = [row["type"].partition(".")[2] for row in rows]
    assert names == ["received", "parsing", "sectioned", "embedded", "indexed"]
    assert document.version == 5


async def test_the_same_file_of_the_same_owner_is_the_same_document(platform, ask, ask_as):
    first, *others = await asyncio.gather(
        *(ask(documents.attach, attach(CRANE, f"{n}.md")) for n in range(8))
    )
    assert {other.id for other in others} == {first.id}
    assert (await ask_as("developer")(documents.attach, attach(CRANE))).id != first.id
    [row] = await look(platform, "SELECT count(*) AS blobs FROM documents.blobs")
    assert row["blobs"] == 1


async def test_an_uploaded_file_comes_back_byte_for_byte(platform, ask, client):
    content = b"".join(b"Line %d of a long text.\n" % n for n in range(30_000))
    assert len(content) > INLINE_BYTES_MAX
    sent = AttachDocument(name="long.txt", upload=await upload(client, content))
    document = await ask(documents.attach, sent)
    got = b""
    while piece := (await ask(documents.content, GetContent(id=document.id, offset=len(got)))):
        if not piece.content:
            break
        got += piece.content
    assert got == content
    assert (piece.name, piece.size_bytes) == ("long.txt", len(content))
    far = GetContent(id=document.id, offset=10**15)
    assert (await ask(documents.content, far)).content == b""


async def test_an_upload_that_is_not_what_was_announced_is_refused(platform, ask, client):
    for wrong in ({"sha256": "0" * 64}, {"size_bytes": 4}, {"object": "nowhere"}):
        sent = AttachDocument(name="a.md", upload=await upload(client, b"abc", **wrong))
        with pytest.raises(UploadMissing):
            await ask(documents.attach, sent)


async def test_a_file_must_come_and_come_once(platform, ask):
    with pytest.raises(Malformed):
        await ask(documents.attach, AttachDocument(name="a.md"))
    with pytest.raises(Unreadable):
        await ask(documents.attach, attach(b""))
    with pytest.raises(TooLarge):
        await ask(documents.attach, attach(b"x" * (INLINE_BYTES_MAX + 1)))


async def test_small_files_come_as_base64_of_either_alphabet(platform, client, ask):
    content = b"\xff\xfe>>>???"
    for encoded in (base64.b64encode(content), base64.urlsafe_b64encode(content)):
        body = b'{"name": "a.bin", "content": "%s"}' % encoded
        answer = await client.ask_raw(documents.attach, body, ask.how())
        document = documents.Document.model_validate_json(answer.body)
        assert document.content_hash == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.pdf", pdf("Crane")[:200], "PDF"),
        ("liar.pdf", b"\x89PNG\r\n\x1a\n" + b"\x00" * 100, "PNG"),
        ("nul.txt", b"text \x00 and more\n" * 3, "binary"),
        ("zip.md", b"PK\x03\x04" + b"\x00" * 60, "not"),
        ("blank.txt", b"  \n\n ", "empty"),
    ],
)
async def test_a_file_that_cannot_be_read_says_why(platform, ask, name, content, words):
    document = await settled(ask, await ask(documents.attach, attach(content, name)))
    assert document.status == "failed"
    assert words in document.status_reason
    with pytest.raises(NotIndexed):
        await ask(documents.claims, ExtractClaims(id=document.id))

    async def job_is_over():  # it ends behind what it says of the document
        statement = "SELECT status, attempts FROM ops.jobs WHERE kind = 'documents.ingest'"
        [row] = await look(platform, statement)
        return row if row["status"] != "running" else None

    row = await eventually(job_is_over)
    assert (row["status"], row["attempts"]) == ("succeeded", 1)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [("PARSE_WALL_S", 0.01, "more than"), ("PARSED_BYTES_MAX", 10, "more text")],
)
async def test_a_file_that_takes_too_much_is_failed(
    platform, ask, monkeypatch, limit, value, words
):
    monkeypatch.setattr(indexing, limit, value)
    document = await settled(ask, await ask(documents.attach, attach(CRANE)))
    assert document.status == "failed"
    assert words in document.status_reason


async def test_a_failed_file_can_be_read_again(platform, ask, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(indexing, "PARSED_BYTES_MAX", 10)
        failed = await settled(ask, await ask(documents.attach, attach(CRANE)))
        assert failed.status == "failed"
    work = await ask(documents.reprocess, ReprocessDocument(id=failed.id))

    async def ended():
        job = await ask(supervision.job, GetJob(id=work.id))
        return job if job.finished_at else None

    assert (await eventually(ended)).status == "succeeded"
    again = await ask(documents.get, GetDocument(id=failed.id))
    assert (again.status, again.status_reason) == ("indexed", None)


async def test_reading_again_replaces_the_sections(platform, ask):
    document = await indexed(ask, CRANE)
    await ask(documents.reprocess, ReprocessDocument(id=document.id))

    async def read_twice():
        now = await ask(documents.get, GetDocument(id=document.id))
        return now if now.status == "indexed" and now.version > document.version else None

    assert (await eventually(read_twice)).sections == document.sections
    page = await ask(documents.sections, ListSections(id=document.id))
    assert [section.ordinal for section in page.items] == list(range(document.sections))


async def test_a_deleted_document_is_gone_but_can_be_attached_again(platform, ask):
    document = await indexed(ask, CRANE)
    deleted = await ask(documents.delete, DeleteDocument(id=document.id))
    assert (deleted.status, deleted.deleted_at is None) == ("deleted", False)
    for operation, command in (
        (documents.get, GetDocument(id=document.id)),
        (documents.content, GetContent(id=document.id)),
        (documents.sections, ListSections(id=document.id)),
        (documents.claims, ExtractClaims(id=document.id)),
    ):
        with pytest.raises(NotFound):
            await ask(operation, command)
    with pytest.raises(IllegalMove):
        await ask(documents.delete, DeleteDocument(id=document.id))
    with pytest.raises(NotFound):
        await ask(documents.delete, DeleteDocument(id=Clock().new_id()))
    assert (await ask(documents.search, SearchDocuments(q="crane"))).items == ()
    assert (await look(platform, "SELECT content_hash FROM documents.blobs")) == []
    assert (await indexed(ask, CRANE)).id != document.id


async def test_bytes_stay_while_another_document_has_the_same(platform, ask, ask_as):
    mine = await indexed(ask, CRANE)
    other = await ask_as("developer")(documents.attach, attach(CRANE))
    await ask(documents.delete, DeleteDocument(id=mine.id))
    assert (await ask(documents.content, GetContent(id=other.id))).content == CRANE


async def test_a_developer_deletes_only_documents_of_their_own(platform, ask, ask_as):
    document = await indexed(ask, CRANE)
    with pytest.raises(NotFound):
        await ask_as("developer")(documents.delete, DeleteDocument(id=document.id))
    with pytest.raises(Denied):
        await ask_as("viewer")(documents.attach, attach(CRANE))


async def test_lists_are_filtered_and_paged(platform, ask):
    for number in range(3):
        await ask(documents.attach, attach(b"Note %d.\n" % number, f"{number}.txt", tags=("n",)))
    await ask(documents.write, WriteArtifact(title="t", body="b"))
    first = await ask(documents.listing, ListDocuments(tag="n", limit=2))
    rest = await ask(documents.listing, ListDocuments(tag="n", limit=2, cursor=first.next))
    assert [len(first.items), len(rest.items), rest.next] == [2, 1, None]
    assert len((await ask(documents.listing, ListDocuments(doc_type="artifact"))).items) == 1
    assert (await ask(documents.listing, ListDocuments(status="deleted"))).items == ()


async def test_pages_of_long_sections_and_provenance_fit_the_bus(platform, ask):
    long = "".join(f"# Part {n}\n\n{'漢' * 7_000}\n\n" for n in range(60))
    document = await ask(documents.write, WriteArtifact(title="t", body=long[:99_000]))
    document = await settled(ask, document)
    for n in range(6):
        notes = ({"x": f"{n}" * 200_000},)
        await ask(documents.write, WriteArtifact(title="t", body=f"{n}", provenance=notes))
    seen, cursor = 0, None
    while True:
        page = await ask(documents.listing, ListDocuments(limit=200, cursor=cursor))
        seen, cursor = seen + len(page.items), page.next
        if cursor is None:
            break
    assert seen == 7


async def test_vectors_of_documents_are_counted_as_usage_of_the_service(platform, ask):
    await indexed(ask, CRANE)
    [line] = (await ask(models.usage, ReportUsage())).lines
    assert (line.purpose, line.calls) == ("embedding", 1)


async def test_a_document_too_long_for_one_job_is_finished_by_others(platform, ask, monkeypatch):
    monkeypatch.setattr(indexing, "VECTORS_BATCH", 1)
    monkeypatch.setattr(indexing, "VECTORS_S", 0.0)
    document = await ask(documents.attach, attach(CRANE))

    async def three_jobs():
        rows = await look(platform, "SELECT id FROM ops.jobs")
        return len(rows) >= 3

    await eventually(three_jobs)
    monkeypatch.setattr(indexing, "VECTORS_S", 60.0)
    done = await settled(ask, document)
    assert (done.status, done.status_reason, done.version) == ("indexed", None, 5)


@contextlib.asynccontextmanager
async def without_models(settings):
    """Documents over a model server that is down."""
    chosen = settings.model_copy(update={"ollama_url": f"http://127.0.0.1:{free_port()}"})
    services = [
        load_service(domain) for domain in ("identity", "documents", "models", "supervision")
    ]
    async with process.answering(chosen, services, Health("test")) as running:
        yield running.platform


async def test_without_the_model_server_a_document_is_found_by_its_words(
    settings, bus_ready, ask, monkeypatch
):
    monkeypatch.setattr(Ingest, "attempts", 2)
    async with without_models(settings) as platform:
        document = await indexed(ask, CRANE)
        assert "no vectors" in document.status_reason
        [job] = await look(platform, "SELECT status, attempts FROM ops.jobs")
        assert (job["status"], job["attempts"]) == ("succeeded", 2)
        found = await ask(documents.search, SearchDocuments(q="which brake was it", mode="hybrid"))
        assert found.items[0].document_id == document.id
        with pytest.raises(Unavailable):
            await ask(documents.search, SearchDocuments(q="brake", mode="vector"))
        other = await indexed(ask, BAKERY)
        command = CompareDocuments(document_ids=(document.id, other.id))
        assert (await ask(documents.compare, command)).claims > 0


async def test_a_worker_that_starts_again_continues_where_it_was(
    settings, bus_ready, ask, monkeypatch
):
    """The first process gets no vectors and stops; the second one has only those to make."""
    async with without_models(settings) as platform:
        document = await ask(documents.attach, attach(CRANE))

        async def cut():
            now = await ask(documents.get, GetDocument(id=document.id))
            return now.status == "sectioned"

        await eventually(cut)
        ids = await look(platform, "SELECT id FROM mcp_documents.sections")
    services = [load_service(domain) for domain in ("identity", "documents", "models")]
    async with process.answering(settings, services, Health("test")) as running:
        done = await settled(ask, document)
        assert (done.status, done.status_reason, done.version) == ("indexed", None, 5)
        again = await look(running.platform, "SELECT id FROM mcp_documents.sections")
        assert again == ids
