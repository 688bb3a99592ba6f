"""SQL is text that stands in the source: nothing is put into it, except at the places listed here."""

import ast
import re
from pathlib import Path

from tests.tidy import project

RUNS_SQL = {
    "Statement", "row", "rows", "execute", "execute_many", "executemany", "fetch", "fetchrow",
    "fetchval", "exec_driver_sql", "prepare", "_ask", "_names",
}  # fmt: skip
MADE_FROM_DECLARATIONS = {
    "bus/recording.py": "names of an entity's table and columns",
    "bus/rebuild.py": "names of an entity's table and columns",
    "bus/rewrap.py": "names of declared columns",
    "migrations/grants.py": "names that the catalogue of the database gives, and roles of its page",
    "migrations/statements.py": "a revision's own text; the driver reads % as a placeholder",
    "deploy/embedded/postgres_server.py": "names of its own roles, databases and extensions",
}
VERB = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|TRUNCATE|CREATE|ALTER|DROP|GRANT|REVOKE|SET|COMMENT)\s"
)
TABLES_OF_FILES = {
    "handlers/tools/tables.py",
    "handlers/tools/table_types.py",
    "handlers/tools/question_plan.py",
}
"""DuckDB in a confined process over the user's own file; `tests/tables` attacks it."""


def test_nothing_is_put_into_sql_except_where_it_is_listed():
    made = {place for file in sources() for place in places(file)}
    unlisted = sorted(p for p in made if p.partition(":")[0] not in MADE_FROM_DECLARATIONS)

    assert unlisted == []


def test_every_listed_place_still_makes_sql():
    making = {place.partition(":")[0] for file in sources() for place in places(file)}

    assert set(MADE_FROM_DECLARATIONS) == making


def sources() -> list[Path]:
    """Everything that may speak to the database."""
    folders = ("bus", "handlers", "edge", "deploy", "migrations")
    found = [file for file in project.named(".py") if file.parts[0] in folders]
    return [file for file in found if str(file) not in TABLES_OF_FILES]


def places(file: Path) -> list[str]:
    """Where a call that runs SQL is given text that was put together."""
    return [
        f"{file}:{node.lineno}"
        for node in ast.walk(ast.parse(project.read(file)))
        if (begins_as_sql(node) and put_together(node))
        or (
            isinstance(node, ast.Call)
            and name_of(node.func) in RUNS_SQL
            and node.args
            and put_together(node.args[0])
        )
    ]


def begins_as_sql(text: ast.AST) -> bool:
    """Whether it is an f-string that begins as a statement does, wherever it goes."""
    first = text.values[0] if isinstance(text, ast.JoinedStr) and text.values else None
    return isinstance(first, ast.Constant) and bool(VERB.match(str(first.value)))


def name_of(called: ast.expr) -> str | None:
    """The last part of what is called."""
    return getattr(called, "attr", None) or getattr(called, "id", None)


def put_together(text: ast.expr) -> bool:
    """Whether it is an f-string, a sum, a `%` or `.format()` of more than constants of the source."""
    if isinstance(text, ast.JoinedStr):
        holes = [part.value for part in text.values if isinstance(part, ast.FormattedValue)]
        return not all(constant(hole) for hole in holes)
    if isinstance(text, ast.BinOp):
        return not (constant(text.left) and constant(text.right))
    called = text.func if isinstance(text, ast.Call) else None
    made = isinstance(called, ast.Attribute) and called.attr in ("format", "join", "replace")
    return made and not quoted_by_driver(called)


def constant(part: ast.expr) -> bool:
    """A literal, or a constant of the module."""
    return isinstance(part, ast.Constant) or (isinstance(part, ast.Name) and part.id.isupper())


def quoted_by_driver(called: ast.expr | None) -> bool:
    """`sql.SQL("…").format(…)`: the driver quotes names and values."""
    inner = getattr(called, "value", None)
    return isinstance(inner, ast.Call) and name_of(inner.func) == "SQL"


def test_the_search_sees_what_it_looks_for():
    for text in ('tx.row(f"SELECT {x}")', 'tx.row("SELECT " + x)', 'c.execute("%s" % x)',
                 'c.fetch("{}".format(x))', 'Statement(f"{a}")'):  # fmt: skip
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert put_together(call.args[0]), text
    for text in ('tx.row("SELECT 1", x)', "tx.rows(store.LIST, limit + 1)",
                 'Statement(f"SELECT {COLUMNS}")', 'c.execute(sql.SQL("{}").format(x))'):  # fmt: skip
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)
        assert not put_together(call.args[0]), text
