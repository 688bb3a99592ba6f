"""What a file is, judged from its bytes.

The name and the declared media type are only claims about a file. The bytes decide: first known
binary signatures, then text encodings, then the shape of the text. A claim that contradicts the
bytes is refused here, so no reader further down ever meets a file of the wrong kind.

It does not extract anything; `parsing` does that with the kind found here.
"""

import csv
import json
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

DOCUMENT_BYTES_MAX = 16 * 1024 * 1024
LINE_CHARACTERS_MAX = 200_000
CONTROL_CHARACTERS_SHARE_MAX = 0.001
SNIFFED_CHARACTERS = 20_000
PDF_HEADER_WITHIN_BYTES = 1024
UTF16_ZERO_SHARE_MIN = 0.3
TABLE_LINES_MIN = 3

MEDIA_TYPES = {
    "markdown": "text/markdown",
    "text": "text/plain",
    "html": "text/html",
    "pdf": "application/pdf",
    "csv": "text/csv",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
}
_KIND_OF_SUFFIX = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".log": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_KIND_OF_MEDIA_TYPE = {
    "text/markdown": "markdown",
    "text/x-markdown": "markdown",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/tab-separated-values": "csv",
    "application/json": "json",
    "application/x-ndjson": "jsonl",
    "application/jsonl": "jsonl",
}
_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"RIFF", "a RIFF media file"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a Linux program"),
    (b"\xcf\xfa\xed\xfe", "a macOS program"),
    (b"\xca\xfe\xba\xbe", "a program"),
    (b"\x00asm", "a WebAssembly program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Microsoft Office file"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"OggS", "an Ogg media file"),
    (b"ID3", "an MP3 file"),
    (b"%!PS", "a PostScript file"),
    (b"{\\rtf", "an RTF file"),
)
_ZIP_CONTENTS = (
    (b"word/", "a Word document (docx)"),
    (b"xl/", "an Excel workbook (xlsx)"),
    (b"ppt/", "a PowerPoint file (pptx)"),
    (b"opendocument", "an OpenDocument file"),
    (b"epub", "an EPUB book"),
)
_BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_HTML_PAGE = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html\b)", re.IGNORECASE
)
_HTML_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9-]*(?:\s[^<>]*)?/?>")
_MARKDOWN_SIGN = re.compile(r"^(?:#{1,6} \S|\|? *:?-{3,}:? *\||[*+-] +\S|```)", re.MULTILINE)


class UnreadableDocument(ValueError):
    """The file is not a document that can be read; the message says why, for people."""


@dataclass(frozen=True)
class Recognised:
    """The kind that the bytes show, and the decoded text (empty for a PDF)."""

    kind: str
    text: str

    @property
    def media_type(self) -> str:
        """The media type of the kind, which may differ from the declared one."""
        return MEDIA_TYPES[self.kind]


def recognise(data: bytes, name: str, declared: str | None = None) -> Recognised:
    """Decide what `data` is, or raise `UnreadableDocument` if it is unsupported or not as named."""
    if not data.strip():
        raise UnreadableDocument("The file is empty.")
    if len(data) > DOCUMENT_BYTES_MAX:
        raise UnreadableDocument(
            f"The file has {len(data):,} bytes; the limit is {DOCUMENT_BYTES_MAX:,}."
        )
    claims = _claimed_kinds(name, declared)
    if b"%PDF-" in data[:PDF_HEADER_WITHIN_BYTES]:
        _refuse_contradiction("pdf", claims)
        return Recognised("pdf", "")
    _refuse_binary(data)
    text = decode(data)
    for claimed, source in claims:
        _check_claim(claimed, source, text)
    kind = claims[0][0] if claims else _kind_of_text(text)
    return Recognised(kind, text)


def decode(data: bytes) -> str:
    """The text of `data` with line ends as newlines; UTF-8, UTF-16, UTF-32 or Windows-1252."""
    text = _decoded(data).replace("\r\n", "\n").replace("\r", "\n")
    controls = len(_CONTROL.findall(text))
    if controls > CONTROL_CHARACTERS_SHARE_MAX * len(text):
        raise UnreadableDocument("The file is binary data, not text.")
    return _CONTROL.sub(" ", text) if controls else text


def refuse_long_lines(text: str) -> None:
    """Refuse text whose lines no person wrote: readers cost too much on them."""
    longest = max(map(len, text.split("\n")))
    if longest > LINE_CHARACTERS_MAX:
        raise UnreadableDocument(
            f"A line has {longest:,} characters; the limit is {LINE_CHARACTERS_MAX:,}."
        )


def _decoded(data: bytes) -> str:
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), None)
    encoding = encoding or _utf16_without_bom(data)
    for candidate in (encoding,) if encoding else ("utf-8", "cp1252", "latin-1"):
        try:
            return data.decode(candidate)
        except UnicodeDecodeError:
            continue
    raise UnreadableDocument(f"The file starts like {encoding} text but cannot be decoded.")


def _utf16_without_bom(data: bytes) -> str | None:
    """Latin text in UTF-16 has a zero in every second byte, always on the same side."""
    head = data[:SNIFFED_CHARACTERS]
    even, odd = head[0::2].count(0), head[1::2].count(0)
    enough = UTF16_ZERO_SHARE_MIN * len(head) / 2
    if len(data) % 2 == 0 and max(even, odd) > enough and min(even, odd) == 0:
        return "utf-16-be" if even else "utf-16-le"
    return None


def _refuse_binary(data: bytes) -> None:
    for signature, what in _SIGNATURES:
        if data.startswith(signature) and not _is_plain_ascii(data[:64]):
            raise UnreadableDocument(f"The file is {_zip_content(data) or what}: not supported.")
    if data.startswith((b"{\\rtf", b"%!PS")):
        raise UnreadableDocument("The file is a typeset document (RTF or PostScript).")


def _is_plain_ascii(head: bytes) -> bool:
    """Prose may begin with the letters of a short signature, as in `MZ` or `ID3`."""
    return head.decode("latin-1").isascii() and not _CONTROL.search(head.decode("latin-1"))


def _zip_content(data: bytes) -> str | None:
    if not data.startswith(b"PK"):
        return None
    return next((what for mark, what in _ZIP_CONTENTS if mark in data), None)


def _claimed_kinds(name: str, declared: str | None) -> list[tuple[str, str]]:
    """(kind, where it is claimed); plain text and unknown types claim nothing worth checking."""
    suffix = PurePosixPath(name.replace("\\", "/")).suffix.lower()
    media_type = (declared or "").split(";")[0].strip().lower()
    claims = []
    if kind := _KIND_OF_SUFFIX.get(suffix):
        claims.append((kind, f"named {suffix}"))
    if kind := _KIND_OF_MEDIA_TYPE.get(media_type):
        claims.append((kind, f"declared as {media_type}"))
    return claims


def _refuse_contradiction(kind: str, claims: list[tuple[str, str]]) -> None:
    for claimed, source in claims:
        if claimed != kind:
            raise UnreadableDocument(f"The file is {source} but its content is {kind}.")


def _check_claim(claimed: str, source: str, text: str) -> None:
    if claimed == "pdf":
        raise UnreadableDocument(f"The file is {source} but its content is not a PDF.")
    if claimed == "html" and not _HTML_TAG.search(text):
        raise UnreadableDocument(f"The file is {source} but holds no HTML element.")
    if claimed in {"markdown", "csv", "json", "jsonl"} and _HTML_PAGE.match(text):
        raise UnreadableDocument(f"The file is {source} but its content is an HTML page.")
    if claimed == "json" and not _is_json(text):
        raise UnreadableDocument(f"The file is {source} but its content is not valid JSON.")
    if claimed == "jsonl" and not _is_jsonl(text):
        raise UnreadableDocument(f"The file is {source} but a line of it is not valid JSON.")


def _kind_of_text(text: str) -> str:
    if _HTML_PAGE.match(text):
        return "html"
    if text.lstrip()[:1] in {"{", "["}:
        if _is_json(text):
            return "json"
        if _is_jsonl(text):
            return "jsonl"
    if _MARKDOWN_SIGN.search(text[:SNIFFED_CHARACTERS]):
        return "markdown"
    return "csv" if _is_table(text[:SNIFFED_CHARACTERS]) else "text"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_jsonl(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return bool(lines) and all(_is_json(line) for line in lines)


def _is_table(text: str) -> bool:
    """At least three lines that a delimiter cuts into the same number (two or more) of cells."""
    lines = text.splitlines()[:20]
    for delimiter in ",;\t":
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        if len(lines) >= TABLE_LINES_MIN and len(widths) == 1 and widths.pop() > 1:
            return True
    return False
