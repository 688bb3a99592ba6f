"""What the text in a column means: numbers, dates, booleans or text, decided by *all* its cells.

A column has a type only if every cell that is not empty can be read that way without guessing; one
odd cell, two currencies or days that could be months leave it text, with a note that says why, so
that a total can be refused instead of being wrong. Amounts become DECIMAL with the digits they were
written with. Comma or point as the decimal sign is decided once for the whole file.
"""

# Names are quoted, texts are literals and the engine is locked:
# ruff: noqa: S608

from dataclasses import dataclass, field

import duckdb

SAMPLE_VALUES = 100
DATE_CHARS_MAX = 40
DECIMAL_DIGITS_MAX = 38
BIGINT_DIGITS_MAX = 18

_MISSING = "('n/a','na','null','none','nan','-','--','—','#n/a')"
_CURRENCY = (
    "[$€£¥₹₽₩]|(?i:USD|EUR|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|BRL|MXN|ZAR|TRY)"
)
_SPACES = " '\u2019\u00a0\u202f"
_MINUS = "\u2212"
_SIGN = f"[+\\-{_MINUS}]?"


def _number(thousands: str, decimal: str) -> str:
    whole = f"\\d{{1,3}}(?:{thousands}\\d{{3}})+|\\d{{1,3}}(?:[{_SPACES}]\\d{{3}})+|\\d+"
    core = f"(?:(?:{whole})(?:{decimal}\\d+)?|{decimal}\\d+)"
    marked = f"{_SIGN}\\s*(?:{_CURRENCY})?\\s*{_SIGN}{core}\\s*(?:{_CURRENCY}|%)?"
    return f"(?:{marked}|\\({marked}\\))"


_POINT = _number(",", "\\.")
_COMMA = _number("\\.", ",")
_EXPONENT = "[+-]?\\d+(?:\\.\\d+)?[eE][+-]?\\d+"
_LED_BY_ZERO = f"{_SIGN}0\\d+"
_TRUE, _FALSE = "('true','yes','y','t')", "('false','no','n','f')"
_STAMP = (
    "\\d{4}-\\d\\d-\\d\\d[T ]\\d\\d:\\d\\d(?::\\d\\d(?:\\.\\d+)?)?(?:Z|[+-]\\d\\d(?::\\d\\d)?)?"
)
_DATES = {
    "iso": ("date", "try_cast({t} AS DATE)"),
    "iso moment": ("timestamp", "make_timestamp(epoch_us(try_cast({t} AS TIMESTAMPTZ)))"),
    "month": ("date", "try_cast({t} || '-01' AS DATE)"),
} | {
    form: (
        "timestamp" if "%H" in form else "date",
        f"try_strptime({{t}}, '{form}')" + ("" if "%H" in form else "::DATE"),
    )
    for day in (
        *("%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
        *("%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y"),
    )
    for form in (day, f"{day} %H:%M", f"{day} %H:%M:%S")
}
_DATE_SHAPES = {
    "iso": "\\d{4}-\\d{1,2}-\\d{1,2}",
    "iso moment": _STAMP,
    "month": "\\d{4}-\\d\\d",
}


@dataclass
class ColumnType:
    """A column's type and the SQL expression that reads it from its text."""

    name: str
    kind: str
    expression: str
    scale: int = 0
    unit: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass
class _Evidence:
    """How many of a column's cells can be read in which way."""

    cells: int
    point: int
    comma: int
    exponent: int
    led_by_zero: int
    truth: int
    percent: int
    units: list[str]

    @property
    def point_only(self) -> bool:
        return self.point == self.cells > self.comma

    @property
    def comma_only(self) -> bool:
        return self.comma == self.cells > self.point


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def decide(
    connection: duckdb.DuckDBPyConnection, raw: dict[str, str], *, semicolons: bool
) -> list[ColumnType]:
    """Types for `raw` (column of table `raw` -> its name in the file)."""
    evidence = {column: _evidence(connection, column) for column in raw}
    points = sum(e.point_only for e in evidence.values())
    commas = sum(e.comma_only for e in evidence.values())
    comma = commas > points or (commas == points == 0 and semicolons)
    return [_decide(connection, c, n, evidence[c], comma=comma) for c, n in raw.items()]


def _evidence(connection: duckdb.DuckDBPyConnection, column: str) -> _Evidence:
    def full(pattern: str) -> str:
        return f"count(*) FILTER (regexp_full_match(t, {literal(pattern)}))"

    row = connection.execute(
        f"SELECT count(*), {full(_POINT)}, {full(_COMMA)}, {full(_EXPONENT)},"
        f" {full(_LED_BY_ZERO)}, count(*) FILTER (lower(t) IN {_TRUE}),"
        f" count(*) FILTER (lower(t) IN {_FALSE}), count(*) FILTER (t LIKE '%\\%%' ESCAPE '\\'),"
        f" list(DISTINCT upper(regexp_extract(t, {literal(_CURRENCY)})))"
        f" FROM ({_cells(column)})"
    ).fetchone()
    if row is None:
        raise ValueError("the table cannot be read")
    cells, point, comma, exponent, led_by_zero, true, false, percent, units = row
    marks = sorted(unit for unit in units or [] if unit)
    return _Evidence(cells, point, comma, exponent, led_by_zero, true + false, percent, marks)


def _cells(column: str) -> str:
    return (
        f"SELECT trim({column}) AS t FROM raw"
        f" WHERE trim({column}) <> '' AND lower(trim({column})) NOT IN {_MISSING}"
    )


def _decide(
    connection: duckdb.DuckDBPyConnection, column: str, name: str, seen: _Evidence, *, comma: bool
) -> ColumnType:
    text = f"nullif(trim({column}), '')"
    if seen.cells == 0:
        return ColumnType(name, "text", text, notes=["every cell is empty"])
    if seen.truth == seen.cells:
        return ColumnType(name, "boolean", f"lower({text}) IN {_TRUE}")
    if seen.exponent and seen.exponent + seen.point == seen.cells and not seen.units:
        return ColumnType(name, "float", f"try_cast({text} AS DOUBLE)")
    if seen.cells in (seen.point, seen.comma) and not seen.led_by_zero:
        return _numeric(connection, column, name, seen, comma=comma)
    return _date(connection, column, name) or ColumnType(
        name, "text", text, notes=_why_text(connection, column, seen)
    )


def _numeric(
    connection: duckdb.DuckDBPyConnection, column: str, name: str, seen: _Evidence, *, comma: bool
) -> ColumnType:
    text = f"nullif(trim({column}), '')"
    if len(seen.units) > 1:
        note = f"amounts in several currencies ({', '.join(seen.units)}) cannot be added up"
        return ColumnType(name, "text", text, notes=[note])
    if 0 < seen.percent < seen.cells:
        return ColumnType(name, "text", text, notes=["some cells are percentages, others not"])
    comma = seen.comma == seen.cells and (comma or seen.point < seen.cells)
    digits = _digits(column, comma=comma)
    scale, whole = connection.execute(
        f"SELECT max(length(split_part(d, '.', 2))), max(length(split_part(d, '.', 1)))"
        f" FROM (SELECT ltrim({digits}, '-') AS d FROM raw)"
    ).fetchone() or (0, 0)
    if whole + scale > DECIMAL_DIGITS_MAX:
        return ColumnType(name, "text", text, notes=["its numbers have more than 38 digits"])
    unit = seen.units[0] if seen.units else "%" if seen.percent else ""
    if scale == 0 and whole <= BIGINT_DIGITS_MAX:
        return ColumnType(name, "integer", f"try_cast({digits} AS BIGINT)", 0, unit)
    column_type = ColumnType(
        name, "decimal", f"try_cast({digits} AS DECIMAL(38,{scale}))", scale, unit
    )
    if comma:
        column_type.notes.append("the comma is its decimal sign")
    return column_type


def _digits(column: str, *, comma: bool) -> str:
    """SQL for the number's own digits with a point; brackets and either minus mean below zero."""
    text = f"trim({column})"
    core = f"regexp_extract({text}, '[0-9.,][0-9.,{_SPACES.replace(chr(39), chr(39) * 2)}]*')"
    kept = f"regexp_replace({core}, '[^0-9{',' if comma else '.'}]', '', 'g')"
    kept = f"replace({kept}, ',', '.')" if comma else kept
    sign = f"CASE WHEN regexp_matches({text}, '^\\(|[-{_MINUS}]') THEN '-' ELSE '' END"
    return f"CASE WHEN regexp_matches({text}, '\\d') THEN {sign} || {kept} END"


def _date(connection: duckdb.DuckDBPyConnection, column: str, name: str) -> ColumnType | None:
    sample = connection.execute(
        f"SELECT DISTINCT t FROM ({_cells(column)}) ORDER BY t LIMIT {SAMPLE_VALUES}"
    ).fetchall()
    if not all(
        any(c.isdigit() for c in cell) and len(cell) <= DATE_CHARS_MAX for (cell,) in sample
    ):
        return None
    fitting = _all_read(connection, column, list(_DATES), SAMPLE_VALUES)
    fitting = _all_read(connection, column, fitting, None)
    if not fitting:
        return None
    kind, expression = _DATES[fitting[0]]
    text = f"nullif(trim({column}), '')"
    if len(fitting) > 1 and "%m" in fitting[0] and "." not in fitting[0]:
        note = "day and month cannot be told apart in its dates"
        return ColumnType(name, "text", text, notes=[note])
    notes = ["moments are in UTC"] if fitting[0] == "iso moment" else []
    return ColumnType(name, kind, expression.format(t=text), notes=notes)


def _all_read(
    connection: duckdb.DuckDBPyConnection, column: str, forms: list[str], cells_max: int | None
) -> list[str]:
    """The forms in which all cells (or the first `cells_max`) can be read."""
    if not forms:
        return []
    tests = ", ".join(f"bool_and({_reads(form)})" for form in forms)
    limit = f" LIMIT {cells_max}" if cells_max else ""
    row = connection.execute(f"SELECT {tests} FROM ({_cells(column)}{limit})").fetchone() or ()
    return [form for form, fits in zip(forms, row, strict=True) if fits]


def _reads(form: str) -> str:
    shape = _DATE_SHAPES.get(form)
    test = _DATES[form][1].format(t="t") + " IS NOT NULL"
    return f"{test} AND regexp_full_match(t, {literal(shape)})" if shape else test


def _why_text(connection: duckdb.DuckDBPyConnection, column: str, seen: _Evidence) -> list[str]:
    """For a column that is nearly numeric: the cells that are not numbers."""
    numbers = max(seen.point, seen.comma)
    if numbers * 2 <= seen.cells:
        return []
    pattern = literal(_POINT if seen.point >= seen.comma else _COMMA)
    odd = connection.execute(
        f"SELECT DISTINCT t FROM ({_cells(column)}) WHERE NOT regexp_full_match(t, {pattern})"
        " ORDER BY t LIMIT 3"
    ).fetchall()
    if not odd:
        return []
    shown = ", ".join(repr(cell[:40]) for (cell,) in odd)
    return [f"{seen.cells - numbers} of {seen.cells} cells are not numbers, such as {shown}"]
