"""Questions in plain English about any table: compiled to one aggregate SELECT, or refused.

    question + columns --compile_question--> Plan --sql--> DuckDB --> rows, Markdown, sentences

No model is involved: the figures are the engine's, and every phrase is explained, so that a reader
can check how it was understood. The rule throughout: a refusal with its reason is better than a
figure that answers another question. `ask` runs inside `bus.confined`.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from handlers.tools import question_reading, tables
from handlers.tools.question_answers import answer
from handlers.tools.question_figures import read_figures
from handlers.tools.question_groups import group_of, read_groups
from handlers.tools.question_linking import VALUES_LINKED_MAX, Ambiguous, Linker
from handlers.tools.question_plan import Condition, Figure, Plan
from handlers.tools.question_ranking import read_ranking
from handlers.tools.question_reading import GLUE, NEUTRAL, NotAnswerable, Reading
from handlers.tools.question_words import name_stems, words
from handlers.tools.tables import Column

QUESTION_CHARS_MAX = 1000
GROUPS_ANSWERED_MAX = 1000
# Words that ask for more than one aggregate can say, or for a clock.
UNSUPPORTED = {
    "percentage", "percentages", "share", "ratio", "trend", "correlation", "correlate", "growth",
    "compare", "why", "predict", "forecast", "difference", "versus", "vs", "cumulative", "fraction",
    "proportion", "today", "yesterday", "tomorrow", "last", "next", "recent", "recently", "change",
    "consecutive", "previous", "if", "nor", "second", "third", "variance", "deviation",
    "percentile",
}  # fmt: skip
ROW_WORDS = {"row", "record", "entry", "line"}


def ask(argument: dict[str, Any], files: dict[str, Path]) -> dict[str, Any]:
    """Answer `argument["question"]` from `argument["file"]`, or from the file that fits best.

    `answered` tells the two shapes apart: figures with their `sql`, `rows`, `markdown`,
    `sentences`, `explanation`, `not_understood` and `confidence` (0..1); or a `reason`.
    """
    question = str(argument["question"])
    if len(question) > QUESTION_CHARS_MAX:
        raise ValueError(f"the question is longer than {QUESTION_CHARS_MAX} characters")
    names = (
        [tables.chosen(argument, files)] if len(files) == 1 or "file" in argument else list(files)
    )
    replies = [_ask_one(question, name, files[name], alone=len(names) == 1) for name in names]
    if not replies:
        raise ValueError("no file is attached")
    return max(replies, key=lambda reply: reply.get("confidence", 0.0))


def _ask_one(question: str, name: str, path: Path, *, alone: bool) -> dict[str, Any]:
    try:
        table = tables.load(path)
    except ValueError as error:
        if alone:
            raise
        return {"answered": False, "file": name, "reason": str(error)}
    known = tables.columns(table, VALUES_LINKED_MAX)
    shown = {"file": name, "table_rows": table.rows}
    try:
        plan, reading = compile_question(question, known, table.rows, PurePath(name).stem)
    except NotAnswerable as error:
        listed = [{"name": c.name, "type": c.kind, "notes": c.notes} for c in known]
        return {"answered": False, **shown, "reason": str(error), "columns": listed}
    selected = tables.select(table, plan.sql(), GROUPS_ANSWERED_MAX)
    return {
        "answered": True,
        **shown,
        "question": question,
        "sql": selected["sql"],
        **answer(plan, selected),
        "explanation": reading.explanation,
        "not_understood": reading.doubts,
        "confidence": round(reading.confidence, 2),
    }


def compile_question(
    question: str, columns: Sequence[Column], rows: int, table_name: str = ""
) -> tuple[Plan, Reading]:
    """The plan for a question, and the reading that explains it. Pure.

    Raises:
        NotAnswerable: something the question needs is not in the table, or may mean two things.
    """
    linker = Linker(columns, rows)
    reading = Reading(question, linker, _subject(linker, table_name))
    try:
        _refuse_unsupported(reading)
        return _plan(reading), reading
    except Ambiguous as error:
        raise NotAnswerable(str(error)) from error


def _subject(linker: Linker, table_name: str) -> frozenset[str]:
    """The words for a row: generic ones, the file's name, and the noun of its key (order_id)."""
    keys = [k for k in linker.known if k.is_key and k.stems & {"id", "number", "no", "code"}]
    nouns = {s for k in keys[:1] for s in k.core if not s.isdigit()} - {
        "id",
        "number",
        "no",
        "code",
    }
    firsts = [name_stems(k.name)[:1] for k in linker.known]
    nouns |= {first[0] for first in firsts if first and firsts.count(first) > 1}
    named = {w.stem for w in words(re.sub(r"[_\d]", " ", table_name)) if w.text.endswith("s")}
    return frozenset(ROW_WORDS | nouns | named)


def _refuse_unsupported(reading: Reading) -> None:
    named = {s for known in reading.linker.known for s in known.stems}
    for word in reading.words:
        in_table = word.stem in named or reading.linker.values([word])
        if word.lower in UNSUPPORTED and not in_table:
            raise NotAnswerable(f"questions with {word.text!r} are not supported")


def _plan(reading: Reading) -> Plan:
    question_reading.read_quoted(reading)
    question_reading.read_periods(reading)
    question_reading.read_comparisons(reading)
    ranking, which = read_ranking(reading)
    groups = which + read_groups(reading)
    first_places = _figure_places(reading)
    figures = read_figures(reading)
    question_reading.read_values(reading)
    plan = Plan(figures, list(dict.fromkeys(groups)), _merged(reading.conditions))
    if ranking:
        plan.rank, plan.descending, plan.rank_count = (
            ranking.figure, ranking.descending, ranking.count,
        )  # fmt: skip
        plan.figures = list(dict.fromkeys([ranking.figure, *figures]))
    subject_named = any(w.stem in reading.subject for w in reading.words)
    if not plan.figures and (which or (plan.groups and subject_named)):
        reading.confidence *= 0.9
        plan.figures = [Figure("count", "count")]
    _check_clauses(reading, plan, first_places)
    _check_complete(reading, plan)
    return plan


def _figure_places(reading: Reading) -> list[int]:
    """Where a clause of its own asks for a figure: "how many", "what was the ..."."""
    return [i for i, w in enumerate(reading.words) if w.lower in ("how", "what", "which")]


def _merged(conditions: list[tuple[int, Condition]]) -> list[Condition]:
    """Values of one column are alternatives; everything else must hold together."""
    alternatives: dict[str, list[str]] = {}
    others: list[Condition] = []
    for _, condition in sorted(conditions, key=lambda c: c[0]):
        if condition.sql.startswith("lower(") or re.search(r" = \d", condition.sql):
            alternatives.setdefault(condition.column, []).append(condition.sql)
        else:
            others.append(condition)
    joined = [
        Condition(column, sqls[0] if len(sqls) == 1 else f"({' OR '.join(sqls)})")
        for column, sqls in alternatives.items()
    ]
    return joined + others


def _check_clauses(reading: Reading, plan: Plan, starts: list[int]) -> None:
    """Two clauses must not have different conditions; "how many A and how many B" become groups."""
    valued = [(p, c) for p, c in reading.conditions if "DATE '" not in c.sql]
    if len(starts) <= 1 or not valued:
        return
    second = starts[1]
    early = [c for p, c in valued if p < second]
    late = [c for p, c in valued if p >= second]
    later_words = {w.lower for w in reading.words[second:]}
    if not late:
        if {"all", "overall"} & later_words and len(plan.figures) > 1:
            raise NotAnswerable("whether the conditions hold for all figures is not clear")
        return
    counts_only = [f.kind for f in plan.figures] == ["count"]
    if early and counts_only and len({c.column for c in early + late}) == 1 and not plan.groups:
        known = next(k for k in reading.linker.known if k.name == late[0].column)
        plan.groups = [group_of(known)]
        return
    if reading.lower(starts[0]) == "which" and not early:
        return
    raise NotAnswerable("the parts of the question have different conditions; ask them separately")


def _check_complete(reading: Reading, plan: Plan) -> None:
    """No word with meaning may be left, and there must be something to compute."""
    named = {c.column for c in plan.conditions} | {g.column for g in plan.groups}
    named |= {f.column for f in plan.figures}
    understood = {s for k in reading.linker.known if k.name in named for s in k.stems}
    understood |= set(reading.subject)
    left = [
        word.text
        for place, word in enumerate(reading.words)
        if reading.is_free(place) and word.lower not in GLUE and word.stem not in understood
    ]
    reading.doubts += [text for text in left if text.lower() in NEUTRAL]
    left = [text for text in left if text.lower() not in NEUTRAL]
    if left:
        raise NotAnswerable(f"nothing in the table was found for {', '.join(map(repr, left))}")
    if not plan.figures:
        raise NotAnswerable("nothing to count or to compute was found in the question")
