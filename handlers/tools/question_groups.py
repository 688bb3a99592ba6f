"""Groups of a question: "in each region", "per month", "by status and region"."""

from handlers.tools import question_plan as plans
from handlers.tools.question_linking import KnownColumn
from handlers.tools.question_plan import Group
from handlers.tools.question_reading import NotAnswerable, Reading

UNITS = {"day": "day", "daily": "day", "week": "week", "weekly": "week", "month": "month",
         "monthly": "month", "quarter": "quarter", "quarterly": "quarter", "year": "year",
         "yearly": "year", "annual": "year", "annually": "year"}  # fmt: skip
MARKERS = {"each", "every", "per", "by", "across"}


def read_groups(reading: Reading) -> list[Group]:
    """For "in each region", "per month", "by status and region"."""
    groups: list[Group] = []
    for place, word in enumerate(reading.words):
        if not reading.is_free(place):
            continue
        if word.lower in UNITS and word.lower not in ("day", "week", "month", "quarter", "year"):
            groups.append(_by_unit(reading, place, place))
        elif word.lower in MARKERS and reading.lower(place + 1) not in ("each", "every"):
            groups += _marked(reading, place)
    return groups


def _marked(reading: Reading, place: int) -> list[Group]:
    start = place + 1
    while reading.lower(start) in ("the", "of", "different", "individual", "single", "all"):
        start += 1
    if not reading.is_free(start) or _is_value(reading, place, start):
        return []
    first = _group_at(reading, place, start)
    if first is None:
        return []
    group, after = first
    groups = [group]
    while reading.lower(after) in ("and", "then") or _comma_before(reading, after):
        after += reading.lower(after) in ("and", "then")
        after += reading.lower(after) in ("each", "per", "by", "every", "the")
        found = reading.column_at(after, 0.8) if reading.is_free(after) else None
        if not found or found[0].is_measure:
            break
        groups.append(use_group(reading, found[0], after, found[1], found[2]))
        after = found[1]
    return groups


def _comma_before(reading: Reading, place: int) -> bool:
    if not 0 < place < len(reading.words):
        return False
    between = reading.text[reading.words[place - 1].end : reading.words[place].start]
    return "," in between and reading.is_free(place)


def _is_value(reading: Reading, marker: int, start: int) -> bool:
    """For "placed by Alice": a value, not a column."""
    return reading.lower(marker) in ("by", "across") and bool(
        reading.linker.values(reading.words[start : start + 1])
        or reading.linker.values(reading.words[start : start + 2])
    )


def _group_at(reading: Reading, place: int, start: int) -> tuple[Group, int] | None:
    found = reading.column_at(start)
    stem = reading.words[start].stem
    if found and not (found[0].is_measure and reading.lower(place) in ("by", "across")):
        known, after, score = found
        if known.is_key and stem in reading.subject and reading.lower(place) != "by":
            reading.use(place, after)
            return None
        reading.use(place, start)
        return use_group(reading, known, start, after, score), after
    if stem in UNITS:
        return _by_unit(reading, place, start), start + 1
    if stem in reading.subject or stem in ("row", "record", "entry", "line"):
        reading.use(place, start + 1)
        return None
    raise NotAnswerable(f"no column to group by was found for {reading.phrase(place, start + 1)!r}")


def use_group(reading: Reading, known: KnownColumn, start: int, after: int, score: float) -> Group:
    """Group by the column that these words name."""
    phrase = reading.phrase(start, after)
    reading.use(start, after)
    reading.explain(phrase, f"one line for each {known.name}", score)
    return group_of(known)


def group_of(known: KnownColumn) -> Group:
    """Group by a column as it is."""
    column = known.column
    folded = {value.lower() for value in column.values}
    folds = column.kind == "text" and len(folded) < len(column.values)
    in_full = column.distinct <= plans.GROUPS_SHOWN_IN_FULL_MAX
    return plans.group_by_column(column.name, column.kind, folds=folds, in_full=in_full)


def _by_unit(reading: Reading, place: int, start: int) -> Group:
    dates = [k for k in reading.linker.known if k.is_date]
    if len(dates) != 1:
        raise NotAnswerable(f"{reading.lower(start)!r} needs exactly one date column")
    unit = UNITS[reading.words[start].stem if start != place else reading.lower(start)]
    reading.explain(
        reading.phrase(place, start + 1), f"one line for each {unit} of {dates[0].name}"
    )
    reading.use(place, start + 1)
    return plans.group_by_period(dates[0].name, unit)
