"""The reader of data files: CSV, JSON and JSON lines become one section that describes them.

The rows are not copied into sections: tools query the original file exactly. The section names
the columns, counts the rows and shows a sample, so that search and a model find the table.
"""

import csv
import io
import json

from handlers.documents.recognition import UnreadableDocument, refuse_long_lines

SAMPLE_ROWS = 5
COLUMNS_MAX = 500
CELL_CHARACTERS_SHOWN = 60
JSON_SHOWN_CHARACTERS = 1_000

Row = dict[str, object]


def csv_description(text: str) -> str:
    """Columns, number of rows and a sample of a CSV file, delimiter detected."""
    refuse_long_lines(text)
    delimiter = max(",;\t|", key=text.split("\n", 1)[0].count)
    try:
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    except csv.Error as failure:
        raise UnreadableDocument(f"The CSV cannot be read: {failure}.") from failure
    if not rows:
        raise UnreadableDocument("The CSV holds no row.")
    header, *records = rows
    _refuse_wide(header)
    sample: list[Row] = [
        dict(zip(header, record, strict=False)) for record in records[:SAMPLE_ROWS]
    ]
    return _description(header, len(records), sample)


def json_description(text: str) -> str:
    """What a JSON file holds: a table if it is a list of objects, else its beginning."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise UnreadableDocument(f"The JSON cannot be read: {failure}.") from failure
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        return _records_description(value)
    kind = "object" if isinstance(value, dict) else "list" if isinstance(value, list) else "value"
    count = f" with {len(value):,} entries" if isinstance(value, (dict, list)) else ""
    shown = json.dumps(value, ensure_ascii=False, indent=1)
    cut = " (beginning)" if len(shown) > JSON_SHOWN_CHARACTERS else ""
    return f"JSON {kind}{count}{cut}:\n\n{shown[:JSON_SHOWN_CHARACTERS]}"


def jsonl_description(text: str) -> str:
    """Columns, number of rows and a sample of a file with one JSON value a line."""
    try:
        values = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError) as failure:
        raise UnreadableDocument(f"A line is not valid JSON: {failure}.") from failure
    records = [value if isinstance(value, dict) else {"value": value} for value in values]
    return _records_description(records)


def _records_description(records: list[Row]) -> str:
    header = list(dict.fromkeys(key for record in records for key in record))
    _refuse_wide(header)
    return _description(header, len(records), records[:SAMPLE_ROWS])


def _refuse_wide(header: list[str]) -> None:
    if len(header) > COLUMNS_MAX:
        raise UnreadableDocument(f"The table has more than {COLUMNS_MAX} columns.")


def _description(header: list[str], rows: int, sample: list[Row]) -> str:
    lines = [
        f"Table with {len(header)} columns and {rows:,} rows.",
        "",
        f"Columns: {', '.join(header)}",
        "",
        _line(header),
        "|" + " --- |" * len(header),
        *(_line([record.get(column, "") for column in header]) for record in sample),
    ]
    return "\n".join(lines)


def _line(cells: list[str] | list[object]) -> str:
    shown = [_cell(cell) for cell in cells]
    return f"| {' | '.join(shown)} |"


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(text.split()).replace("|", "\\|")
    return text if len(text) <= CELL_CHARACTERS_SHOWN else text[: CELL_CHARACTERS_SHOWN - 1] + "…"
