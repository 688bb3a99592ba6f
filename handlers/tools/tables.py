"""Questions of SQL over an attached CSV, JSON or JSONL file; runs inside `bus.confined`.

The file is loaded into a fresh in-memory DuckDB, typed (`table_types`), and then the database is
locked: no file, no network, no extension, no setting can be reached by the SQL that follows, and
only one SELECT is run. Figures stay exact: money is DECIMAL and leaves as a string with its own
digits; integers beyond 2**53 leave as strings too; dates are ISO texts. Natural language is not
understood here (see `questions`).
"""

# Names are quoted, texts are literals and the engine is locked:
# ruff: noqa: S608

import datetime as dt
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from handlers.tools import table_files, table_types
from handlers.tools.table_types import ColumnType, quoted

ENGINE_MEMORY = "384MB"
VALUES_SHOWN_MAX = 30
VALUE_CHARS_MAX = 200
ROWS_RETURNED_MAX = 1000
CELL_CHARS_MAX = 2000
SQL_CHARS_MAX = 20_000
SAFE_INTEGER = 2**53


@dataclass
class Column:
    """What is known of a column; `values` are the most frequent first, at most as asked for."""

    name: str
    kind: str
    distinct: int
    empty: int
    values: list[str]
    lowest: str | None = None
    highest: str | None = None
    scale: int = 0
    unit: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class Table:
    """A loaded table; its rows are in the DuckDB table named `name`."""

    connection: duckdb.DuckDBPyConnection
    name: str
    rows: int
    types: list[ColumnType]


def describe(argument: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """The columns of `argument["file"]` (or the only file): types, counts and sample values."""
    file = chosen(argument, files)
    table = load(files[file])
    shown = columns(table, VALUES_SHOWN_MAX)
    return {"file": file, "rows": table.rows, "columns": [asdict(c) for c in shown]}


def query(argument: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """Run `argument["sql"]`, one SELECT over the table `argument["table"]` ("data").

    Decimals and integers beyond 2**53 are strings, dates ISO strings, not-a-number is null.

    Raises:
        ValueError: the file is no table, or the SQL is not one SELECT, or it fails.
    """
    sql = str(argument["sql"])
    if len(sql) > SQL_CHARS_MAX:
        raise ValueError(f"the SQL is longer than {SQL_CHARS_MAX} characters")
    table = load(files[chosen(argument, files)], str(argument.get("table", "data")))
    rows_max = min(int(argument.get("limit", ROWS_RETURNED_MAX)), ROWS_RETURNED_MAX)
    return select(table, sql, rows_max)


def chosen(argument: dict[str, Any], files: dict[str, Path]) -> str:
    """The name of the file that is meant."""
    name = argument.get("file")
    if name is None and len(files) == 1:
        return next(iter(files))
    if name in files:
        return str(name)
    raise ValueError(f"name one of the files: {', '.join(sorted(files)) or 'none is attached'}")


def load(path: Path, name: str = "data") -> Table:
    """Read the file into a locked in-memory database.

    Raises:
        ValueError: the file is not a table that can be read without guessing.
        MemoryError: it does not fit the engine's memory.
    """
    scratch = path.with_name(path.name + ".normal")
    file = table_files.normalise(path, scratch)
    connection = duckdb.connect(
        ":memory:",
        config={"threads": 1, "memory_limit": ENGINE_MEMORY, "temp_directory": ""},
    )
    try:
        types = _fill(connection, file, name)
        row = connection.execute(f"SELECT count(*) FROM {quoted(name)}").fetchone()
    except duckdb.OutOfMemoryException as error:
        raise MemoryError("the table does not fit the memory") from error
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return Table(connection, name, row[0] if row else 0, types)


def _fill(
    connection: duckdb.DuckDBPyConnection, file: table_files.CsvFile, name: str
) -> list[ColumnType]:
    places = {f"c{i}": column for i, column in enumerate(file.names)}
    texts = ", ".join(f"'{place}': 'VARCHAR'" for place in places)
    try:
        connection.execute(
            "CREATE TABLE raw AS SELECT * FROM read_csv(?, auto_detect=false, delim=?, quote='\"',"
            " escape='\"', header=?, strict_mode=true, null_padding=false, max_line_size=8000000,"
            f" columns={{{texts}}}) LIMIT {table_files.ROWS_MAX + 1}",
            [str(file.path), file.delimiter, file.has_header],
        )
    except duckdb.InvalidInputException as error:
        raise ValueError(_csv_fault(str(error))) from error
    row = connection.execute("SELECT count(*) FROM raw").fetchone()
    if row and row[0] > table_files.ROWS_MAX:
        raise ValueError(f"the table has more than {table_files.ROWS_MAX} rows")
    types = table_types.decide(connection, places, semicolons=file.delimiter == ";")
    cells = ", ".join(f"{t.expression} AS {quoted(t.name)}" for t in types)
    connection.execute(f"CREATE TABLE {quoted(name)} AS SELECT {cells} FROM raw")
    connection.execute("DROP TABLE raw")
    return types


def _csv_fault(message: str) -> str:
    """The engine's long report in one sentence."""
    lines = [line.strip() for line in message.splitlines()]
    where = next((li.split(":", 1)[-1].strip() for li in lines if "CSV Error on Line" in li), "")
    what = [li for li in lines if li.startswith(("Expected Number", "Value with", "Maximum line"))]
    why = what[0] if what else lines[0]
    return f"the file is not a regular CSV table: {where}: {why}".replace(": :", ":")[:400]


def columns(table: Table, values_max: int) -> list[Column]:
    """What is known of each column, with up to `values_max` of its values."""
    return [_column(table, column_type, values_max) for column_type in table.types]


def _column(table: Table, known: ColumnType, values_max: int) -> Column:
    name, source = quoted(known.name), quoted(table.name)
    distinct, empty, lowest, highest = table.connection.execute(
        f"SELECT count(DISTINCT {name}), count(*) - count({name}),"
        f" min({name})::VARCHAR, max({name})::VARCHAR FROM {source}"
    ).fetchone() or (0, 0, None, None)
    values = table.connection.execute(
        f"SELECT left({name}::VARCHAR, {VALUE_CHARS_MAX}) FROM {source} WHERE {name} IS NOT NULL"
        f" GROUP BY {name} ORDER BY count(*) DESC, {name} LIMIT {values_max}"
    ).fetchall()
    ordered = known.kind not in ("text", "boolean")
    return Column(
        name=known.name,
        kind=known.kind,
        distinct=distinct,
        empty=empty,
        values=[value for (value,) in values],
        lowest=lowest if ordered else None,
        highest=highest if ordered else None,
        scale=known.scale,
        unit=known.unit,
        notes=known.notes,
    )


def select(table: Table, sql: str, rows_max: int) -> dict[str, Any]:
    """Run one SELECT and return its first `rows_max` rows as JSON."""
    try:
        statements = table.connection.extract_statements(sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ValueError("only a single SELECT statement is run")
        cursor = table.connection.execute(statements[0])
        names = [(d[0], str(d[1])) for d in cursor.description]
        rows = cursor.fetchmany(rows_max + 1)
    except duckdb.OutOfMemoryException as error:
        raise MemoryError("the query needs more memory than it may have") from error
    except duckdb.Error as error:
        raise ValueError(f"the SQL fails: {str(error).strip()[:500]}") from error
    return {
        "sql": sql,
        "columns": [{"name": name, "type": kind} for name, kind in names],
        "rows": [[to_json(cell) for cell in row] for row in rows[:rows_max]],
        "truncated": len(rows) > rows_max,
    }


def to_json(cell: Any) -> Any:  # noqa: PLR0911 - one line for each kind of cell
    """A cell without loss: what JSON numbers cannot carry exactly becomes a string."""
    if cell is None or isinstance(cell, bool):
        return cell
    if isinstance(cell, int):
        return cell if abs(cell) <= SAFE_INTEGER else str(cell)
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else None
    if isinstance(cell, Decimal):
        return format(cell, "f")
    if isinstance(cell, dt.datetime | dt.date | dt.time):
        return cell.isoformat()
    if isinstance(cell, dict):
        return {str(k)[:CELL_CHARS_MAX]: to_json(v) for k, v in cell.items()}
    if isinstance(cell, Sequence) and not isinstance(cell, str | bytes):
        return [to_json(v) for v in cell[:ROWS_RETURNED_MAX]]
    return str(cell)[:CELL_CHARS_MAX]
