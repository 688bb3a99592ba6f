"""Figures of a question: "how many", "total amount", "lowest and highest price".

A figure takes only words that nothing before it has understood. One whose column is not named takes
the table's only amount; where there are several, the question is refused.
"""

import re
from dataclasses import dataclass

from handlers.tools.question_linking import Ambiguous, KnownColumn
from handlers.tools.question_plan import Figure
from handlers.tools.question_reading import GLUE, NotAnswerable, Reading
from handlers.tools.question_words import words

KINDS = {
    "average": "average", "mean": "average", "avg": "average", "median": "median",
    "total": "sum", "totals": "sum", "sum": "sum", "combined": "sum",
    "maximum": "max", "max": "max", "highest": "max", "largest": "max", "biggest": "max",
    "greatest": "max", "latest": "max", "newest": "max",
    "minimum": "min", "min": "min", "lowest": "min", "smallest": "min", "earliest": "min",
    "oldest": "min", "cheapest": "min",
}  # fmt: skip
EXACT_SCORE = 0.95
NAMED_SCORE = 0.85
_AMOUNT = words("amount")


@dataclass(frozen=True)
class _Asked:
    """An aggregate's words: where they start and end, and what they ask for."""

    place: int
    after: int
    kind: str


def read_figures(reading: Reading) -> list[Figure]:
    """Every aggregate that the question asks for, in its order, without repeats."""
    asked = _asked(reading)
    figures: list[Figure] = []
    open_kinds: list[str] = []
    for number, one in enumerate(asked):
        end = asked[number + 1].place if number + 1 < len(asked) else len(reading.words)
        if one.kind == "count":
            figures.append(_counted(reading, one.after, end))
            continue
        columns = _measures_of(reading, one, end)
        if not columns and end < len(reading.words) and _joined_to_next(reading, one, end):
            open_kinds.append(one.kind)
            continue
        if not columns and one.kind == "sum" and _use_subject_next(reading, one.after):
            figures.append(Figure("count", "count"))
            continue
        for known in columns or [_before(reading, one) or default_measure(reading)]:
            figures += [figure_of(reading, kind, known) for kind in (*open_kinds, one.kind)]
        open_kinds = []
    return list(dict.fromkeys(figures))


def _asked(reading: Reading) -> list[_Asked]:
    asked: list[_Asked] = []
    place = 0
    while place < len(reading.words):
        one = _asked_at(reading, place) if reading.is_free(place) else None
        if one and one.kind:
            asked.append(one)
        if one:
            reading.use(one.place, one.after)
        place = one.after if one else place + 1
    return asked


def _asked_at(reading: Reading, place: int) -> _Asked | None:  # noqa: PLR0911 - a table of forms
    word, following = reading.lower(place), reading.lower(place + 1)
    if word == "how" and following in ("many", "often", "frequently"):
        return _Asked(place, place + 2, "count")
    if word == "how" and following == "much":
        return _Asked(place, place + 2, "sum")
    if word == "number" and following == "of":
        return _Asked(place, place + 2, "count")
    if word in ("count", "counts") and not _is_exact_column(reading, place):
        return _Asked(place, place + 1 + (following == "of"), "count")
    if word == "total" and following in ("number", "count"):
        return _Asked(place, place + 1, "")
    if word == "total" and reading.lower(place - 1) == "in":
        return _Asked(place, place + 1, "sum" if _amount_before(reading, place - 1) else "")
    if word == "most" and following == "expensive":
        return _Asked(place, place + 2, "max")
    kind = KINDS.get(word)
    earlier = reading.lower(place - 1) in KINDS
    if kind is None or (earlier and _is_exact_column(reading, place)):
        return None
    return None if _ends_a_name(reading, place) else _Asked(place, place + 1, kind)


def _ends_a_name(reading: Reading, place: int) -> bool:
    """For "Order Total": the word belongs to a column's name that began before it."""
    for start in range(max(0, place - 2), place):
        span = reading.words[start : place + 1]
        if any({w.stem for w in span} == known.stems for known in reading.linker.known):
            return all(w.lower not in KINDS for w in span[:-1])
    return False


def _amount_before(reading: Reading, place: int) -> bool:
    """For "what did they spend in total" asks for a sum; "how many in total" does not."""
    before = reading.columns_between(max(0, place - 2), place)
    return any(known.is_measure for known, *_ in before)


def _is_exact_column(reading: Reading, place: int) -> bool:
    found = reading.linker.column(reading.words[place : place + 1])
    return bool(found and found[1] >= EXACT_SCORE)


def _measures_of(reading: Reading, one: _Asked, end: int) -> list[KnownColumn]:
    """The numeric column after the words, and those joined to it with "and"."""
    found: list[KnownColumn] = []
    last = None
    for known, first, after, score in reading.columns_between(one.after, end):
        numeric = known.is_measure or (known.is_date and one.kind in ("min", "max"))
        if not numeric and known.column.notes and score >= NAMED_SCORE:
            raise NotAnswerable(f"the column {known.name!r}: {known.column.notes[0]}")
        if not numeric or known.is_truth:
            continue
        if last is not None and any(reading.lower(i) != "and" for i in range(last, first)):
            break
        phrase = reading.phrase(first, after)
        reading.use(first, after)
        reading.explain(
            f"{reading.phrase(one.place, one.after)} {phrase}", f"{one.kind} of {known.name}", score
        )
        found.append(known)
        last = after
    return found


def _joined_to_next(reading: Reading, one: _Asked, end: int) -> bool:
    return all(reading.lower(i) in ("and", "or", "the") for i in range(one.after, end))


def _use_subject_next(reading: Reading, place: int) -> bool:
    if reading.is_free(place) and reading.words[place].stem in reading.subject:
        reading.use(place, place + 1)
        return True
    return False


def _before(reading: Reading, one: _Asked) -> KnownColumn | None:
    """For "salary on average": the column stands before the aggregate."""
    for known, first, after, _ in reading.columns_between(max(0, one.place - 3), one.place):
        if known.is_measure:
            reading.use(first, after)
            return known
    return None


def default_measure(reading: Reading) -> KnownColumn:
    """The only amount of the table, for a figure whose column is not named."""
    measures = [k for k in reading.linker.known if k.is_measure and not k.is_truth]
    if len(measures) != 1:
        found = reading.linker.column(_AMOUNT) if measures else None
        if found is None or not found[0].is_measure:
            names = ", ".join(repr(k.name) for k in measures) or "none"
            raise NotAnswerable(f"which numeric column is meant is not clear (there are: {names})")
        measures = [found[0]]
    reading.explain("(column not named)", f"the amount is taken to be {measures[0].name}", 0.85)
    return measures[0]


def figure_of(reading: Reading, kind: str, known: KnownColumn) -> Figure:
    """A figure over a column, under the name that the answer gives it."""
    said = {"sum": "total", "min": "lowest", "max": "highest"}.get(kind, kind)
    if known.is_date and kind in ("min", "max"):
        said = "earliest" if kind == "min" else "latest"
    column = known.column
    exact = column.kind in ("integer", "decimal")
    if not exact and kind in ("sum", "average"):
        reading.explain(column.name, "written with exponents, so added up as floating point")
    name = column.name if re.match(said, column.name, re.IGNORECASE) else f"{said} {column.name}"
    return Figure(kind, name, column.name, column.scale, exact, column.unit)


def _counted(reading: Reading, start: int, end: int) -> Figure:
    """What "how many" counts: rows, distinct values of a column, or units of a quantity."""
    distinct = False
    for place in range(start, min(end, start + 5)):
        lower = reading.lower(place)
        if lower in ("different", "distinct", "unique"):
            distinct = True
            reading.use(place, place + 1)
            continue
        if not reading.is_free(place) or reading.linker.values(reading.words[place : place + 1]):
            continue
        if reading.words[place].stem in reading.subject and not distinct:
            reading.use(place, place + 1)
            break
        if lower in GLUE and lower not in ("value", "values"):
            if place > start or lower not in ("of", "the", "all"):
                break
            continue
        figure = _counted_column(reading, place, distinct=distinct)
        if figure:
            return figure
        if _guess_subject(reading, place):
            break
    if distinct:
        raise NotAnswerable("what is to be counted as different was not found")
    return Figure("count", "count")


def _counted_column(reading: Reading, place: int, *, distinct: bool) -> Figure | None:
    try:
        found = reading.column_at(place, 0.8)
    except Ambiguous:
        return None
    if found is None or found[0].is_truth:
        return None
    known, after, score = found
    phrase = reading.phrase(place, after)
    if known.is_measure and not distinct:
        if known.column.kind != "integer":
            raise NotAnswerable(f"{phrase!r} may mean rows or the column {known.name!r}")
        reading.use(place, after)
        reading.explain(phrase, f"total of {known.name}", score)
        return figure_of(reading, "sum", known)
    if known.column.kind == "date" and not distinct:
        return None
    reading.use(place, after)
    if known.is_key:
        reading.explain(phrase, f"rows (every {known.name} occurs once)", score)
        return Figure("count", "count")
    reading.explain(phrase, f"different values of {known.name}", min(score, 0.9))
    return Figure("distinct", f"different {known.name}", known.name)


def _guess_subject(reading: Reading, place: int) -> bool:
    """A plural that names nothing in the table is taken for its rows, and said so."""
    word = reading.words[place]
    plural = word.lower.endswith("s") and not word.lower.endswith("ss")
    following = reading.words[place + 1] if place + 1 < len(reading.words) else None
    goes_on = following and following.lower.endswith("s") and following.lower not in GLUE
    if not plural or goes_on:
        return False
    reading.use(place, place + 1)
    reading.subject |= {word.stem}
    reading.explain(word.text, "the rows of the table (a guess)", 0.75)
    reading.doubts.append(word.text)
    return True
