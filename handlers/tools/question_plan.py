"""What a question asks of a table, as data, and that as SQL.

A plan is conditions, groups, figures and perhaps a ranking; every figure shares the conditions.
Where all groups can be shown, conditions become FILTER clauses, so that a group in which nothing
matches is answered with zero instead of being left out. An average is asked for as its sum and its
count, and divided exactly by `question_answers`.
"""

# Names are quoted, texts are literals and the engine is locked:
# ruff: noqa: S608

from dataclasses import dataclass, field

from handlers.tools.table_types import literal, quoted

GROUPS_SHOWN_IN_FULL_MAX = 50


@dataclass(frozen=True)
class Condition:
    """A condition on one column, in SQL; it refers to the column by `column`."""

    column: str
    sql: str


@dataclass(frozen=True)
class Group:
    """One key of the answer: what makes rows equal, and the label to show for it."""

    key: str
    label: str
    name: str
    column: str
    in_full: bool


@dataclass(frozen=True)
class Figure:
    """One aggregate; `kind` is count, distinct, sum, average, median, min or max."""

    kind: str
    name: str
    column: str = ""
    scale: int = 0
    exact: bool = True
    unit: str = ""

    def sql(self) -> str:
        """The aggregate itself, as used for ranking."""
        column = quoted(self.column)
        return {
            "count": "count(*)",
            "distinct": f"count(DISTINCT {column})",
            "sum": f"coalesce(sum({column}), 0)",
            "average": f"avg({column})",
            "median": f"median(CAST({column} AS DECIMAL(38,{self.scale + 1})))"
            if self.exact
            else f"median({column})",
            "min": f"min({column})",
            "max": f"max({column})",
        }[self.kind]

    def parts(self) -> list[str]:
        """What is selected for it: two columns for an exact average, else one."""
        if self.kind == "average" and self.exact:
            return [f"sum({quoted(self.column)})", f"count({quoted(self.column)})"]
        return [self.sql()]


@dataclass
class Plan:
    """A whole answerable question."""

    figures: list[Figure] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    conditions: list[Condition] = field(default_factory=list)
    rank: Figure | None = None
    descending: bool = True
    rank_count: int = 1

    def sql(self, table: str = "data") -> str:
        """One SELECT: the groups' labels, then the parts of the figures in order."""
        inside = self._filtered_inside()
        where = [c.sql for c in self.conditions if c not in inside]
        only = f" FILTER (WHERE {' AND '.join(c.sql for c in inside)})" if inside else ""
        selected = [f"{g.label} AS {quoted(g.name)}" for g in self.groups]
        for figure in self.figures:
            parts = figure.parts()
            names = [figure.name] if len(parts) == 1 else [f"{figure.name}: sum", "values"]
            selected += [
                f"{_filtered(part, only)} AS {quoted(name)}"
                for part, name in zip(parts, names, strict=True)
            ]
        sql = f"SELECT {', '.join(selected)} FROM {quoted(table)}"
        sql += f" WHERE {' AND '.join(where)}" if where else ""
        return sql + self._grouped_and_ordered()

    def _filtered_inside(self) -> list[Condition]:
        if self.rank or len(self.groups) != 1 or not self.groups[0].in_full:
            return []
        return [c for c in self.conditions if c.column != self.groups[0].column]

    def _grouped_and_ordered(self) -> str:
        if not self.groups:
            return ""
        keys = ", ".join(g.key for g in self.groups)
        sql = f" GROUP BY {keys}"
        if self.rank is None:
            return sql + f" ORDER BY {keys}"
        order = f"{self.rank.sql()} {'DESC' if self.descending else 'ASC'} NULLS LAST"
        sql += f" QUALIFY rank() OVER (ORDER BY {order}) <= {self.rank_count}"
        return sql + f" ORDER BY {order}, {keys}"


def _filtered(part: str, only: str) -> str:
    """Attach the FILTER to the aggregate, inside a coalesce around it."""
    if part.startswith("coalesce(") and only:
        return part.replace("), 0)", f"){only}, 0)")
    return part + only


def group_by_column(name: str, kind: str, *, folds: bool, in_full: bool) -> Group:
    """Group by a column; spellings that differ only in case are one group."""
    column = quoted(name)
    if kind == "timestamp":
        day = f"CAST({column} AS DATE)"
        return Group(day, day, name, name, in_full)
    if folds:
        return Group(f"lower({column})", f"min({column})", name, name, in_full)
    return Group(column, column, name, name, in_full)


def group_by_period(name: str, unit: str) -> Group:
    """Group the days of a column by month, week and so on; the label is the first day."""
    key = f"CAST(date_trunc('{unit}', {quoted(name)}) AS DATE)"
    form = {"month": "%Y-%m", "year": "%Y"}.get(unit)
    label = f"strftime({key}, '{form}')" if form else key
    return Group(key, label, unit, name, in_full=False)


def one_of(name: str, values: tuple[str, ...], *, negated: bool) -> Condition:
    """The column has, or has not, one of the values in any case; empty cells count as not."""
    listed = ", ".join(literal(value) for value in sorted({v.lower() for v in values}))
    sql = f"lower({quoted(name)}) IN ({listed})"
    return Condition(name, f"NOT coalesce({sql}, false)" if negated else sql)


def is_true(name: str, kind: str, *, wanted: bool) -> Condition:
    """The boolean (or 0/1) column is true, or is not; empty cells count as not."""
    sql = quoted(name) if kind == "boolean" else f"{quoted(name)} = 1"
    return Condition(name, sql if wanted else f"NOT coalesce({sql}, false)")


def compared(name: str, operator: str, numbers: tuple[str, ...]) -> Condition:
    """A comparison with numbers that were written in the question."""
    if operator == "between":
        return Condition(name, f"{quoted(name)} BETWEEN {numbers[0]} AND {numbers[1]}")
    return Condition(name, f"{quoted(name)} {operator} {numbers[0]}")


def within(name: str, first: object, after: object) -> Condition:
    """Days from `first` on and before `after`; None leaves that end open."""
    bounds = [f"{quoted(name)} >= DATE '{first}'"] if first else []
    bounds += [f"{quoted(name)} < DATE '{after}'"] if after else []
    return Condition(name, " AND ".join(bounds))
