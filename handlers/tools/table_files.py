"""What an attached file really is, and its rows as one UTF-8 CSV file.

A name proves nothing: the bytes decide. CSV (any delimiter and encoding that can be told), JSON (an
array of objects, or an object holding one) and JSON lines all leave here in one shape, so that
types are decided in one place (`table_types`). Numbers in JSON keep their own digits and never
pass through a float. What is not a table is refused with a `ValueError` that says what it is.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE_BYTES_MAX = 64 << 20
COLUMNS_MAX = 500
ROWS_MAX = 2_000_000
SNIFF_CHARS = 64 << 10
SNIFF_ROWS = 200
CELL_CHARS_MAX = 100_000

_SIGNATURES = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook (save the sheet as CSV)",
    b"\x1f\x8b": "gzip-compressed data",
    b"\xd0\xcf\x11\xe0": "an old Office document (save the sheet as CSV)",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PAR1": "a Parquet file",
    b"SQLite format 3": "an SQLite database",
    b"\x7fELF": "a program",
    b"BZh": "bzip2-compressed data",
    b"7z\xbc\xaf": "a 7-Zip archive",
}
_DELIMITERS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class CsvFile:
    """A UTF-8 file without byte order mark, and how to read it."""

    path: Path
    delimiter: str
    names: tuple[str, ...]
    has_header: bool


def normalise(path: Path, scratch: Path) -> CsvFile:
    """Bring the file into one shape; `scratch` is a path that may be written.

    Raises:
        ValueError: it is empty, not a table, too large, or its rows do not fit its header.
    """
    text = _text(path)
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, scratch)
    if text.lstrip()[:200].lower().startswith(("<!doctype html", "<html", "<?xml")):
        raise ValueError("the file is HTML or XML, not a table")
    scratch.write_text(text, encoding="utf-8", newline="")
    return _from_csv(text, scratch)


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > FILE_BYTES_MAX:
        raise ValueError(f"the file has {size} bytes; at most {FILE_BYTES_MAX} can be read")
    data = path.read_bytes()
    for signature, meaning in _SIGNATURES.items():
        if data.startswith(signature):
            raise ValueError(f"the file is {meaning}, not a table")
    text = _decoded(data)
    if not text.strip():
        raise ValueError("the file is empty")
    if "\0" in text:
        raise ValueError("the file is binary data, not a table")
    return text


def _decoded(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return _utf16(data)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    if b"\0" in data:
        raise ValueError("the file is binary data, not a table")
    text = data.decode("cp1252", errors="replace")
    odd = sum(
        (not c.isprintable() and c not in "\r\n\t") or c == "\ufffd" for c in text[:SNIFF_CHARS]
    )
    if odd * 100 > min(len(text), SNIFF_CHARS):
        raise ValueError("the file is binary data, not a table")
    return text


def _utf16(data: bytes) -> str:
    try:
        return data.decode("utf-16").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError("the file says that it is UTF-16 text, and is not") from error


def _from_csv(text: str, path: Path) -> CsvFile:
    head = text[:SNIFF_CHARS]
    if len(text) > SNIFF_CHARS and "\n" in head:
        head = head[: head.rindex("\n")]
    delimiter = _delimiter(head)
    sample = _sample(head, delimiter)
    width = len(sample[0])
    if width > COLUMNS_MAX:
        raise ValueError(f"the table has more than {COLUMNS_MAX} columns ({width} or more)")
    has_header = _has_header(sample)
    names = _unique_names(sample[0] if has_header else [""] * width)
    return CsvFile(path, delimiter, names, has_header)


def _sample(head: str, delimiter: str) -> list[list[str]]:
    csv.field_size_limit(max(CELL_CHARS_MAX, SNIFF_CHARS * 2))
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(head, newline=""), delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) >= SNIFF_ROWS:
                break
    except csv.Error as error:
        raise ValueError(f"the file is not CSV: {error}") from error
    return rows


def _delimiter(head: str) -> str:
    """The one that cuts the first rows alike, into most columns; else the header's."""
    widths = {d: [len(row) for row in _sample(head, d)] for d in _DELIMITERS}
    even = {d: w[0] for d, w in widths.items() if w[0] > 1 and len(set(w)) == 1}
    if even:
        return max(even, key=lambda d: even[d])
    return max(widths, key=lambda d: widths[d][0])


def _has_header(rows: list[list[str]]) -> bool:
    """A header is a row of names: none is a bare number while its column holds numbers."""
    first, rest = rows[0], rows[1:]
    if not rest:
        return True
    if any(not cell.strip() for cell in first) and len(first) == 1:
        return False
    numeric = [_starts_like_a_value(cell) for cell in first]
    below = [any(_starts_like_a_value(r[i]) for r in rest if i < len(r)) for i in range(len(first))]
    named = [not n and b for n, b in zip(numeric, below, strict=True)]
    return any(named) or not any(n and b for n, b in zip(numeric, below, strict=True))


def _starts_like_a_value(cell: str) -> bool:
    return cell.strip().lstrip("+-($€£")[:1].isdigit()


def _unique_names(cells: Iterable[str]) -> tuple[str, ...]:
    names: list[str] = []
    taken: set[str] = set()
    for place, cell in enumerate(cells, start=1):
        base = " ".join(cell.split())[:100] or f"column_{place}"
        name, copy = base, 2
        while name.casefold() in taken:
            name, copy = f"{base}_{copy}", copy + 1
        taken.add(name.casefold())
        names.append(name)
    return tuple(names)


def _from_json(text: str, path: Path) -> CsvFile:
    records = _records(text)
    flat = [dict(_flat("", record)) for record in records[:ROWS_MAX]]
    keys = list(dict.fromkeys(key for record in flat for key in record))
    if not keys:
        raise ValueError("the JSON holds no objects with fields")
    if len(keys) > COLUMNS_MAX:
        raise ValueError(f"the table has {len(keys)} columns; at most {COLUMNS_MAX} can be read")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(keys)
        writer.writerows([record.get(key, "") for key in keys] for record in flat)
    return CsvFile(path, ",", _unique_names(keys), has_header=True)


class _Digits(str):
    """A JSON number, as it was written."""

    __slots__ = ()


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, parse_float=_Digits, parse_int=_Digits)
    except RecursionError as error:
        raise ValueError("the JSON is nested too deeply") from error


def _records(text: str) -> list[dict[str, Any]]:
    try:
        found = _parsed(text)
    except json.JSONDecodeError as error:
        found = _lines(text, error)
    if isinstance(found, dict):
        lists = [v for v in found.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        found = lists[0] if len(lists) == 1 else [found]
    if not isinstance(found, list) or not all(isinstance(r, dict) for r in found):
        raise ValueError("the JSON is not a list of objects")
    if not found:
        raise ValueError("the JSON list is empty")
    return found


def _lines(text: str, whole: json.JSONDecodeError) -> list[Any]:
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) <= 1:
        raise ValueError(f"the file is not JSON: {whole}") from whole
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_parsed(line))
        except json.JSONDecodeError as error:
            raise ValueError(f"line {number} is not JSON: {error}") from error
    return records


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """Fields of nested objects as `outer.inner`; lists stay JSON text."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, str):
        yield prefix, value
    elif value is None:
        yield prefix, ""
    else:
        yield prefix, json.dumps(value)
