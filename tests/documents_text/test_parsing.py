"""Parsing: nothing of a readable file is lost, and nothing unreadable gets through."""

import io
import json
import re
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject

from handlers.documents.parsing import UnreadableDocument, parse, parse_bytes
from handlers.documents.sections import SECTION_CHARACTERS_TARGET

PAGE = b"""<!doctype html><html><head><title>Power cut</title><script>var x = 1;</script></head>
<body><h1>Power <b>cut</b></h1><p>The lights went out<br>at 9:00.</p><h2>Impact</h2>
<ul><li>Two sites</li><li>40 <i>users</i></li></ul>
<table><tr><th>Site</th><th>Minutes</th></tr><tr><td>North</td><td>12</td></tr></table>
<!-- a comment --><p>End.</p></body></html>"""


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


def kept(parsed: dict[str, Any]) -> list[str]:
    return words(" ".join(f"{s['heading']} {s['body']}" for s in parsed["sections"]))


def pdf(text: str, pages: int = 1, password: str | None = None) -> bytes:
    writer = PdfWriter()
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    for _ in range(pages):
        page = writer.add_blank_page(300, 300)
        fonts = DictionaryObject({NameObject("/F1"): font})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/Font"): fonts})
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode("latin-1"))
        page[NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def docx() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", "<w:document/>")
    return out.getvalue()


_lines = st.lists(
    st.one_of(
        st.text(alphabet="abc XYZ.,!?*#|-_`>[]()0123456789äé", max_size=60),
        st.sampled_from(["# One", "## Two *x*", "Title\n=====", "- item", "| a | b |\n|---|---|"]),
        st.just("Some longer sentence that says a thing. And another one. " * 12),
        st.just(""),
    ),
    max_size=30,
)


@given(_lines, st.sampled_from(["report.md", "report.txt"]))
@settings(max_examples=150, deadline=None)
def test_headings_and_bodies_together_hold_every_word_of_the_text(
    lines: list[str], name: str
) -> None:
    text = "\n".join(lines)
    try:
        parsed = parse_bytes(text.encode(), name)
    except UnreadableDocument:
        assert not words(text) or not text.strip()
        return
    assert Counter(words(text)) <= Counter(kept(parsed))


@given(_lines)
@settings(max_examples=100, deadline=None)
def test_each_body_is_the_slice_that_its_offsets_name(lines: list[str]) -> None:
    text = "x\n" + "\n".join(lines)
    sections = parse_bytes(text.encode(), "report.md")["sections"]
    assert all(s["body"] == text[s["start"] : s["end"]] for s in sections)
    ends = [s["end"] for s in sections]
    assert all(end <= s["start"] for end, s in zip(ends, sections[1:], strict=False))


def test_markdown_headings_nest() -> None:
    parsed = parse_bytes(b"# A\n\n## B\n\ntext\n\n### C\n\n## D\n\nmore\n", "a.md")
    tree = [(s["heading"], s["level"], s["parent_ordinal"]) for s in parsed["sections"]]
    assert tree == [("A", 1, None), ("B", 2, 0), ("C", 3, 1), ("D", 2, 0)]


def test_a_heading_inside_a_code_block_is_no_heading() -> None:
    parsed = parse_bytes(b"# A\n\n```\n# not one\n```\n", "a.md")
    assert [s["heading"] for s in parsed["sections"]] == ["A"]


def test_a_long_section_is_cut_at_sentence_ends_near_the_target() -> None:
    body = "The pump was checked again and nothing was found. " * 200
    sections = parse_bytes(f"# Log\n\n{body}".encode(), "log.md")["sections"]
    assert len(sections) >= len(body) // SECTION_CHARACTERS_TARGET
    assert {s["heading"] for s in sections} == {"Log"}
    assert all(len(s["body"]) <= SECTION_CHARACTERS_TARGET for s in sections)
    assert all(s["body"].endswith("found.") for s in sections)


def test_html_becomes_its_visible_text() -> None:
    parsed = parse_bytes(PAGE, "page.html", "text/html; charset=utf-8")
    assert parsed["title"] == "Power cut"
    assert [s["heading"] for s in parsed["sections"]] == ["Power cut", "Impact"]
    assert parsed["sections"][0]["body"] == "The lights went out\nat 9:00."
    expected = "- Two sites\n- 40 users\n\n| Site | Minutes |\n| North | 12 |\n\nEnd."
    assert parsed["sections"][1]["body"] == expected


def test_a_pdf_becomes_one_section_a_page() -> None:
    parsed = parse_bytes(pdf("The valve was closed at 9:15.", pages=2), "report.pdf")
    assert [s["heading"] for s in parsed["sections"]] == ["Page 1", "Page 2"]
    assert parsed["sections"][1]["body"] == "The valve was closed at 9:15."
    assert (parsed["doc_type"], parsed["media_type"]) == ("pdf", "application/pdf")


def test_a_csv_is_described_not_copied() -> None:
    rows = "\n".join(f"{n},north,{n * 2}" for n in range(1000))
    (section,) = parse_bytes(f"id,region,amount\n{rows}".encode(), "orders.csv")["sections"]
    assert "3 columns and 1,000 rows" in section["body"]
    assert "| id | region | amount |" in section["body"]
    assert "999" not in section["body"]


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_json_records_are_described_as_a_table(name: str) -> None:
    records = [{"id": 1, "ok": True}, {"id": 2, "ok": False}]
    lines = "\n".join(json.dumps(record) for record in records)
    data = json.dumps(records) if name.endswith("json") else lines
    (section,) = parse_bytes(data.encode(), name)["sections"]
    assert "2 columns and 2 rows" in section["body"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_text_is_decoded_whatever_its_encoding(encoding: str) -> None:
    data = "Der Zug fährt über Köln nach Süden.\r\nUnd zurück.".encode(encoding)
    parsed = parse_bytes(data, "zug.txt")
    assert parsed["sections"][0]["body"] == "Der Zug fährt über Köln nach Süden.\nUnd zurück."


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (PAGE, "html"),
        (b"# Title\n\ntext", "markdown"),
        (b'{"a": 1}', "json"),
        (b'{"a": 1}\n{"a": 2}', "jsonl"),
        (b"a,b\n1,2\n3,4", "csv"),
        (b"Just some prose, as it comes.", "text"),
    ],
)
def test_a_file_without_a_telling_name_is_known_by_its_bytes(data: bytes, kind: str) -> None:
    assert parse_bytes(data, "attachment", "application/octet-stream")["doc_type"] == kind


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.md", "empty"),
        (b" \n", "a.md", "empty"),
        (docx(), "a.docx", "Word"),
        (docx(), "a.md", "Word"),
        (b"PK\x03\x04" + bytes(100), "a.zip", "ZIP"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "a.md", "PNG"),
        (b"MZ\x90\x00" + bytes(100), "a.txt", "program"),
        (bytes(range(256)) * 10, "a.txt", "binary"),
        (b"# hello", "a.pdf", "not a PDF"),
        (b"# hello", "a.md (1).PDF", "not a PDF"),
        (pdf("x"), "a.md", "content is pdf"),
        (PAGE, "a.md", "HTML page"),
        (b"plain words", "a.html", "no HTML"),
        (b"{broken", "a.json", "not valid JSON"),
        (b"%PDF-1.7\n" + bytes(50), "a.pdf", "damaged"),
        (pdf("secret", password="pw"), "a.pdf", "password"),  # pragma: allowlist secret
        (pdf(""), "a.pdf", "no text"),
        (b"x" * 10_000_000, "a.txt", "line"),
        (b"x" * 10_000_000, "a.md", "line"),
        (b"a," * 5_000_000, "a.csv", "line"),
        (b"x\n" * 9_000_000, "a.txt", "bytes"),
        (b"<div>" * 100_000 + b"x", "a.html", "nests"),
        (b"[" * 100_000, "a.json", "not valid JSON"),
        (b"# h\n" * 6_000, "a.md", "sections"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_reason_and_soon(
    data: bytes, name: str, reason: str
) -> None:
    began = time.perf_counter()
    with pytest.raises(UnreadableDocument, match=re.escape(reason)):
        parse_bytes(data, name)
    assert time.perf_counter() - began < 5


def test_a_declared_type_that_the_bytes_contradict_is_refused() -> None:
    with pytest.raises(UnreadableDocument, match="declared as application/pdf"):
        parse_bytes(b"# hello", "a.md", "application/pdf")


def test_a_pdf_bomb_is_refused() -> None:
    bomb = pdf(" " * 20_000_000)
    assert len(bomb) < 100_000
    with pytest.raises(UnreadableDocument, match=r"unpacks|damaged or hostile"):
        parse_bytes(bomb, "a.pdf")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"<p>a\n<li>b" * 20_000, "a.html"),
        (b"> " * 50_000 + b"x", "a.md"),
        (b"- " * 50_000 + b"x", "a.md"),
        (b"*a **b " * 20_000, "a.md"),
        (b"|a" * 50_000 + b"\n" + b"|-" * 50_000, "a.md"),
        (b"\n" * 1_000_000 + b"x", "a.txt"),
    ],
)
def test_odd_but_readable_files_are_read_in_seconds(data: bytes, name: str) -> None:
    began = time.perf_counter()
    assert parse_bytes(data, name)["sections"]
    assert time.perf_counter() - began < 15


def test_parse_reads_the_file_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "blob"
    path.write_bytes(b"# Title\n\nThe text of it.")
    parsed = parse({"name": "a.md", "media_type": None}, {"document": path})
    assert (parsed["title"], parsed["doc_type"]) == ("Title", "markdown")
