"""Loading any file, and SQL over it: exact values, one SELECT, no way out of the engine."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bus import confined
from handlers.tools import tables

Described = Callable[[str | bytes], dict[str, Any]]


@pytest.fixture
def described(tmp_path: Path) -> Described:
    def describing(content: str | bytes) -> dict[str, Any]:
        path = tmp_path / "file"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        reply = tables.describe({}, {"file.csv": path})
        return {c["name"]: c for c in reply["columns"]}

    return describing


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (['"$1,234.50"', "$12.00"], "decimal", ["12.00", "1234.50"]),
        (["12.00 EUR", "7 EUR"], "decimal", ["7.00", "12.00"]),
        (["(3.00)", "-4.00"], "decimal", ["-4.00", "-3.00"]),
        (["1 234.5", "2"], "decimal", ["2.0", "1234.5"]),
        (["12%", "7%"], "integer", ["7", "12"]),
        (["001", "002"], "text", ["001", "002"]),
        (["9007199254740993", "1"], "integer", ["1", "9007199254740993"]),
        (["12345678901234567890.5", "1"], "decimal", ["1.0", "12345678901234567890.5"]),
        (["1e-3", "2.5"], "float", ["0.001", "2.5"]),
        (["yes", "No"], "boolean", ["false", "true"]),
        (["2026-03-01", "2026-02-01"], "date", ["2026-02-01", "2026-03-01"]),
        (["13/04/2026", "01/04/2026"], "date", ["2026-04-01", "2026-04-13"]),
        (["03/04/2026", "01/04/2026"], "text", ["01/04/2026", "03/04/2026"]),
        (["1 March 2026", "2 March 2026"], "date", ["2026-03-01", "2026-03-02"]),
        (["2026-03-01T01:30:00+02:00", "2026-03-01T00:00:00Z"], "timestamp",
         ["2026-02-28 23:30:00", "2026-03-01 00:00:00"]),
        (["5", "n/a"], "integer", ["5"]),
        (["5", "abc"], "text", ["5", "abc"]),
    ],
)  # fmt: skip
def test_a_column_has_the_type_of_all_its_cells(
    described: Described, cells: list[str], kind: str, values: list[str]
) -> None:
    column = described("k,x\n" + "".join(f"{i},{c}\n" for i, c in enumerate(cells, 3)))["x"]
    assert (column["kind"], column["values"]) == (kind, values)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffid;amount;name\n1;1.234,50;Ä\n2;2,00;b\n",
        "\ufeffid;amount;name\n1;1.234,50;Ä\n2;2,00;b\n".encode("utf-16"),
        "id;amount;name\n1;1.234,50;Ä\n2;2,00;b\n".encode("cp1252"),
        'id\tamount\tname\r\n1\t"1,234.50"\tÄ\r\n2\t2.00\tb\r\n',
        '[{"id": 1, "amount": 1234.50, "name": "Ä"}, {"id": 2, "amount": 2.00, "name": "b"}]',
        '{"id": 1, "amount": 1234.50, "name": "Ä"}\n{"id": 2, "amount": 2.00, "name": "b"}\n',
        '{"items": [{"id": 1, "amount": 1234.50, "name": "Ä"}, {"id": 2, "amount": 2, "name": "b"}]}',
    ],
)
def test_encodings_delimiters_and_json_all_give_the_same_table(
    described: Described, content: str | bytes
) -> None:
    found = described(content)
    assert {n: c["values"] for n, c in found.items()} == {
        "id": ["1", "2"], "amount": ["2.00", "1234.50"], "name": ["b", "Ä"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"PK\x03\x04....", "ZIP"),
        (b"\x00\x01\x02\x03", "binary"),
        (bytes(range(1, 256)) * 20, "binary"),
        (b"\xff\xfe\x00", "UTF-16"),
        (b"<!DOCTYPE html><p>a,b", "HTML"),
        (b"a,b\n1,2\n3\n", "Expected Number of Columns: 2"),
        (b"a,b\n1,2,3\n", "Expected Number of Columns: 2"),
        (b'a,b\n1,"open\n', "regular CSV"),
        (",".join(f"c{i}" for i in range(1_000_000)).encode(), "columns"),
        (b'{"a": 1}\n{"a": ', "line 2"),
        (b"[1, 2, 3]", "list of objects"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[]", "empty"),
    ],
)
def test_what_is_not_a_table_is_refused_in_plain_words(
    described: Described, content: bytes, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        described(content)


def _query(tmp_path: Path, sql: str, **argument: Any) -> dict[str, Any]:
    path = tmp_path / "x.csv"
    path.write_text("name,amount,day\na,0.10,2026-01-01\nb,0.20,2026-01-02\nc,9007199254740993,\n")
    return tables.query({"sql": sql, **argument}, {"x.csv": path})


def test_values_leave_without_loss(tmp_path: Path) -> None:
    reply = _query(
        tmp_path, "SELECT sum(amount), max(day), 9007199254740993, 'nan'::DOUBLE FROM data"
    )
    assert reply["rows"] == [["9007199254740993.30", "2026-01-02", "9007199254740993", None]]
    assert json.dumps(reply, allow_nan=False)


def test_rows_beyond_the_limit_are_cut_and_said_to_be(tmp_path: Path) -> None:
    reply = _query(tmp_path, "SELECT name FROM data ORDER BY 1", limit=2)
    assert (reply["rows"], reply["truncated"]) == ([["a"], ["b"]], True)


@pytest.mark.parametrize(
    "sql",
    [
        "DROP TABLE data",
        "SELECT 1; SELECT 2",
        "COPY data TO 'out.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('x.csv')",
        "SELECT * FROM '/etc/passwd'",
        "ATTACH 'x.db'",
        "SET threads = 4",
        "INSTALL httpfs",
        "SELECT nothing FROM data",
        "not sql at all",
        "",
    ],
)
def test_only_one_select_runs_and_reaches_nothing_outside(tmp_path: Path, sql: str) -> None:
    with pytest.raises(ValueError, match=r"SELECT|the SQL fails"):
        _query(tmp_path, sql)


async def test_a_question_is_answered_inside_a_child_process() -> None:
    orders = (Path(__file__).parent / "data" / "orders.csv").read_bytes()
    reply: Any = await confined.run(
        "handlers.tools.questions:ask",
        {"question": "How many orders failed in each region?"},
        attachments={"orders.csv": orders},
        wall_s=20,
        cpu_s=10,
        memory_mb=1024,
        output_bytes_max=1 << 20,
    )
    assert reply["rows"] == [["East", 0], ["North", 2], ["South", 1]]


@pytest.mark.parametrize(
    ("sql", "ends"),
    [
        ("SELECT count(*) FROM range(100000000000) a", confined.TimedOut),
        (
            "SELECT list(i) FROM range(1000000000) t(i)",
            confined.OutOfMemory,
        ),
    ],
)
async def test_runaway_sql_ends_at_its_limits(sql: str, ends: type[Exception]) -> None:
    with pytest.raises(ends):
        await confined.run(
            "handlers.tools.tables:query",
            {"sql": sql},
            attachments={"x.csv": b"a,b\n1,2\n"},
            wall_s=15,
            cpu_s=3,
            memory_mb=1024,
            output_bytes_max=1 << 20,
        )
