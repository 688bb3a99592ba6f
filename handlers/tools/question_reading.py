"""Reading a question against a table, step by step; every step marks the words it has understood.

The order matters: quoted values, periods and comparisons have their own grammar and go first; then
"which/top", groups, figures; then the values that are left become conditions. Words that no step
understood and that carry meaning end the reading: a figure that ignores "escalated" is wrong.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from handlers.tools import question_phrases as phrases
from handlers.tools import question_plan as plans
from handlers.tools.question_linking import (
    SPAN_WORDS_MAX,
    Ambiguous,
    KnownColumn,
    Linker,
    ValueMatch,
)
from handlers.tools.question_plan import Condition
from handlers.tools.question_words import Word, words

GROUP_SCORE_MIN = 0.65
NEAR_WORDS = 4

GLUE = set(
    """
    a an the of in on at to for from with and or is are was were be been being do does did has have
    had what which who whose how many much there it its they them their these those this that me us
    i we please show give list tell find calculate compute get report table csv file data record row
    entry value values number count all any each every per by as so also then than here come came
    made make placed happened happen occurred occur recorded exist exists belong belongs went go got
    listed overall altogether combined respectively would could can will about into within during
    across currently only just what's there's s dollars dollar euros euro usd eur gbp pounds percent
    degrees figure figures result results answer grouped group broken down split respective one ones
    whole records rows entries column columns work works worked our your my his her say out up where
    when
    """.split()
)
NEGATIONS = {"not", "never", "no", "except", "excluding", "without", "isn't", "aren't", "wasn't",
             "weren't", "didn't", "doesn't", "don't", "haven't", "hasn't", "non", "neither",
             "besides", "apart", "unless"}  # fmt: skip
NEGATION_REACH = {
    "the", "been", "be", "for", "in", "from", "a", "any", "have", "has", "than", "were", "was",
    "are", "is", "with", "of", "status", "to", "get", "being",
}  # fmt: skip
# Verbs that every row of a table has done anyway, unless they are a value of it.
NEUTRAL = {"sold", "bought", "earned", "logged", "reported", "measured", "purchased", "taken",
           "spent", "held", "stored", "available", "earn", "earns", "ordered"}  # fmt: skip


class NotAnswerable(ValueError):
    """The question cannot be answered from this table; the text says what is missing."""


@dataclass
class Reading:
    """A question being read: its words, which of them are understood, and what was found."""

    text: str
    linker: Linker
    subject: frozenset[str]
    words: list[Word] = field(init=False)
    used: set[int] = field(default_factory=set)
    conditions: list[tuple[int, Condition]] = field(default_factory=list)
    explanation: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    confidence: float = 1.0
    last_negated: tuple[str, int] | None = None

    def __post_init__(self) -> None:
        self.words = words(self.text)

    def phrase(self, first: int, after: int) -> str:
        """The question's own text of a span of words."""
        return self.text[self.words[first].start : self.words[after - 1].end]

    def use(self, first: int, after: int) -> None:
        """Mark words as understood."""
        self.used.update(range(first, after))

    def use_text(self, start: int, end: int) -> int:
        """Mark the words of a piece of text as understood; returns the first one's place."""
        inside = [i for i, w in enumerate(self.words) if w.start < end and start < w.end]
        self.used.update(inside)
        return inside[0] if inside else 0

    def explain(self, phrase: str, meaning: str, sure: float = 1.0) -> None:
        """Record how a phrase was understood, and how surely."""
        self.explanation.append(f"{phrase!r}: {meaning}")
        self.confidence *= sure

    def is_free(self, place: int) -> bool:
        """Nothing has understood this word yet."""
        return 0 <= place < len(self.words) and place not in self.used

    def lower(self, place: int) -> str:
        """The word in small letters; empty outside the question."""
        return self.words[place].lower if 0 <= place < len(self.words) else ""

    def column_at(
        self, place: int, score_min: float = GROUP_SCORE_MIN
    ) -> tuple[KnownColumn, int, float] | None:
        """The column named by the words that start here, with the place after it: longest first."""
        fits = 0
        while fits < SPAN_WORDS_MAX - 1 and self.is_free(place + fits):
            fits += 1
        for length in range(fits, 0, -1):
            found = self.linker.column(self.words[place : place + length])
            if found and found[1] >= score_min:
                return found[0], place + length, found[1]
        return None

    def columns_between(
        self, first: int, after: int
    ) -> Iterator[tuple[KnownColumn, int, int, float]]:
        """Columns named by free words of a stretch: column, place, place after, score."""
        place = first
        while place < after:
            found = None
            if self.is_free(place) and not self._says_nothing(place):
                found = self._unless_subject(place)
            if found and found[1] <= after:
                yield found[0], place, found[1], found[2]
                place = found[1]
            else:
                place += 1

    def _unless_subject(self, place: int) -> tuple[KnownColumn, int, float] | None:
        """A word for a row may begin several columns' names, and then means none of them."""
        try:
            return self.column_at(place)
        except Ambiguous:
            if self.words[place].stem in self.subject:
                return None
            raise

    def _says_nothing(self, place: int) -> bool:
        lower = self.lower(place)
        return lower in GLUE and lower not in ("value", "values", "number", "count", "result")

    def is_negated(self, place: int) -> bool:
        """A negation stands before the word, with at most small words between."""
        for back in range(place - 1, max(-1, place - 5), -1):
            lower = self.lower(back)
            if lower in NEGATIONS or (lower == "other" and self.lower(back + 1) == "than"):
                self.use(back, back + (2 if lower == "other" else 1))
                return True
            if lower not in NEGATION_REACH:
                return False
        return False


def read_quoted(reading: Reading) -> None:
    """Values in quotation marks must exist as they are written."""
    for match in re.finditer(r"[\"“”]([^\"“”]{1,200})[\"“”]", reading.text):
        wanted = match.group(1).strip().casefold()
        hits = [
            ValueMatch(k, tuple(v for v in k.column.values if v.casefold() == wanted), 1, 1.0)
            for k in reading.linker.known
            if k.column.kind == "text" and any(v.casefold() == wanted for v in k.column.values)
        ]
        if not hits:
            raise NotAnswerable(f"no column holds the value {match.group()}")
        place = reading.use_text(match.start(), match.end())
        _add_value(reading, _preferred(reading, hits, place, place + 1), place, place + 1)


def read_periods(reading: Reading) -> None:
    """Dates and months become conditions on a date column."""
    dates = [k for k in reading.linker.known if k.is_date]
    found = phrases.periods(reading.text, _only_year(dates))
    for period in found:
        if not dates and (_year_column(reading, period) or not period.year_said):
            continue
        if not dates:
            if re.fullmatch(r"(?:for|of|from|on)\s+\d+", period.text, re.IGNORECASE):
                continue
            raise NotAnswerable(f"{period.text!r} needs a date column, and the table has none")
        place = reading.use_text(period.start, period.end)
        known = _date_near(reading, dates, place)
        reading.conditions.append((place, plans.within(known.name, period.first, period.after)))
        until = f" before {period.after}" if period.after else ""
        since = f" from {period.first} on" if period.first else ""
        reading.explain(period.text, f"{known.name}{since}{until}")


def _only_year(dates: list[KnownColumn]) -> int | None:
    """The year of a month without one: that of the data, if they lie in a single year."""
    years = {(k.column.lowest or "")[:4] for k in dates} | {
        (k.column.highest or "")[:4] for k in dates
    }
    return int(years.pop()) if len(years) == 1 and "" not in years else None


def _year_column(reading: Reading, period: phrases.Period) -> bool:
    """A column of years, where the period is one whole year."""
    known = next((k for k in reading.linker.known if "year" in k.stems), None)
    year = re.search(r"\b(\d{4})$", period.text)
    if known is None or year is None or known.column.kind != "integer":
        return False
    place = reading.use_text(period.start, period.end)
    reading.conditions.append((place, plans.compared(known.name, "=", (year.group(1),))))
    reading.explain(period.text, f"{known.name} = {year.group(1)}")
    return True


def _date_near(reading: Reading, dates: list[KnownColumn], place: int) -> KnownColumn:
    """The only date column, or the one whose words stand near the period."""
    if len(dates) == 1:
        _use_word_of(reading, dates[0], place)
        return dates[0]
    near = [k for k in dates if _use_word_of(reading, k, place)]
    if len(near) == 1:
        return near[0]
    names = ", ".join(repr(k.name) for k in dates)
    raise NotAnswerable(f"the period may be meant for any of the columns {names}")


def _use_word_of(reading: Reading, known: KnownColumn, place: int) -> bool:
    for back in range(max(0, place - NEAR_WORDS), place):
        if reading.is_free(back) and reading.words[back].stem in known.stems - {"at", "on"}:
            reading.use(back, back + 1)
            return True
    return False


def read_comparisons(reading: Reading) -> None:
    """Numbers compared become conditions on the numeric column that stands nearest."""
    taken = phrases.periods(reading.text, 2000)
    for found in phrases.comparisons(reading.text, taken):
        place = reading.use_text(found.start, found.end)
        after = max(i for i, w in enumerate(reading.words) if w.start < found.end) + 1
        if reading.is_free(after) and reading.words[after].stem in reading.subject:
            raise NotAnswerable(f"conditions on groups ({found.text!r}) are not supported")
        known = _number_near(reading, place, after)
        condition = plans.compared(known.name, found.operator, found.numbers)
        reading.conditions.append((place, condition))
        reading.explain(found.text, f"{known.name} {found.operator} {' and '.join(found.numbers)}")


def _number_near(reading: Reading, place: int, after: int) -> KnownColumn:
    before = [
        (known, first, end)
        for known, first, end, _ in reading.columns_between(max(0, place - NEAR_WORDS), place)
        if known.is_measure or known.column.kind == "integer"
    ]
    behind = [
        (known, first, end)
        for known, first, end, _ in reading.columns_between(after, after + 2)
        if known.is_measure
    ]
    near = [hit for hit in before if hit[0].name not in _subject_keys(reading)][-1:] or behind[:1]
    if near:
        reading.use(near[0][1], near[0][2])
        return near[0][0]
    measures = [k for k in reading.linker.known if k.is_measure and not k.is_truth]
    amount = reading.linker.column(words("amount")) if measures else None
    if len(measures) == 1 or (amount and amount[0].is_measure):
        known = measures[0] if len(measures) == 1 or not amount else amount[0]
        reading.explain(reading.lower(place), f"what is compared is taken to be {known.name}", 0.85)
        return known
    raise NotAnswerable(
        f"no numeric column stands near {reading.lower(place)!r} for the comparison"
    )


def _subject_keys(reading: Reading) -> set[str]:
    return {k.name for k in reading.linker.known if k.is_key and k.stems & reading.subject}


def read_values(reading: Reading) -> None:
    """What is left and names a value, or a yes-or-no column, becomes a condition."""
    place = 0
    while place < len(reading.words):
        place = _value_at(reading, place) or place + 1


def _value_at(reading: Reading, place: int) -> int | None:
    """Read a value that starts here; returns the place after it."""
    longest = 0
    while longest < SPAN_WORDS_MAX and reading.is_free(place + longest):
        longest += 1
    for length in range(longest, 0, -1):
        span = reading.words[place : place + length]
        if all(w.lower in GLUE or w.lower in NEGATIONS for w in span):
            continue
        hits = reading.linker.values(span)
        if hits:
            hit = _preferred(reading, hits, place, place + length)
            _add_value(reading, hit, place, place + length)
            return place + length
    if longest and (_read_truth(reading, place) or _read_equal(reading, place)):
        return place + 1
    return None


def _preferred(reading: Reading, hits: list[ValueMatch], place: int, after: int) -> ValueMatch:
    """Of several columns that hold the value, the one named beside it."""
    if len(hits) == 1:
        return hits[0]
    near = {
        reading.words[i].stem for i in range(max(0, place - 2), min(len(reading.words), after + 2))
    }
    named = [hit for hit in hits if hit.known.core & near]
    if len(named) == 1:
        return named[0]
    columns = ", ".join(repr(hit.known.name) for hit in hits)
    raise Ambiguous(f"{reading.phrase(place, after)!r} is a value of each of the columns {columns}")


def _add_value(reading: Reading, hit: ValueMatch, place: int, after: int) -> None:
    negated = reading.is_negated(place) or _continues_negation(reading, hit, place)
    reading.last_negated = (hit.known.name, after) if negated else None
    reading.use(place, after)
    _use_name_beside(reading, hit.known, place, after)
    name = hit.known.name
    condition = plans.one_of(name, hit.values, negated=negated)
    reading.conditions.append((place, condition))
    listed = ", ".join(repr(value) for value in hit.values)
    meaning = (
        f"{name} is {'not ' if negated else ''}{'one of ' if len(hit.values) > 1 else ''}{listed}"
    )
    if negated and hit.known.column.empty:
        meaning += " (rows where it is empty are counted)"
    reading.explain(reading.phrase(place, after), meaning, hit.score)


def _continues_negation(reading: Reading, hit: ValueMatch, place: int) -> bool:
    """For "except failed and cancelled": the second value of the same column is excluded too."""
    if reading.last_negated is None or reading.last_negated[0] != hit.known.name:
        return False
    between = range(reading.last_negated[1], place)
    return all(reading.lower(i) in ("and", "or", "get", "was", "were", "the") for i in between)


def _use_name_beside(reading: Reading, known: KnownColumn, place: int, after: int) -> None:
    """In "status failed" and "the North region" the column's own words add nothing."""
    for beside in (*range(max(0, place - 3), place), *range(after, after + 2)):
        if reading.is_free(beside) and reading.words[beside].stem in known.stems:
            reading.use(beside, beside + 1)


def _read_truth(reading: Reading, place: int) -> bool:
    word = reading.words[place]
    opposite = word.stem.startswith("un") and len(word.stem) > len("un") + 2
    for known in reading.linker.known:
        after = place + len(known.core)
        stems = {w.stem for w in reading.words[place:after]}
        plain = stems == known.core
        turned = opposite and known.core == {word.stem.removeprefix("un")}
        free = all(reading.is_free(i) for i in range(place, after))
        if not known.is_truth or not free or not (plain or turned):
            continue
        wanted = reading.is_negated(place) != plain
        reading.use(place, after)
        reading.conditions.append(
            (place, plans.is_true(known.name, known.column.kind, wanted=wanted))
        )
        meaning = f"{known.name} is {'true' if wanted else 'not true'}"
        reading.explain(reading.phrase(place, after), meaning, 0.95)
        return True
    return _read_opposite(reading, place, word) if opposite else False


def _read_opposite(reading: Reading, place: int, word: Word) -> bool:
    """For "unshipped" where there is a value "shipped"."""
    hits = reading.linker.values(words(word.lower.removeprefix("un")))
    if len(hits) != 1:
        return False
    reading.use(place, place + 1)
    reading.conditions.append(
        (place, plans.one_of(hits[0].known.name, hits[0].values, negated=True))
    )
    reading.explain(word.text, f"{hits[0].known.name} is not {', '.join(hits[0].values)}", 0.8)
    return True


def _read_equal(reading: Reading, place: int) -> bool:
    """For "priority 1", "floor 3": a numeric column's name followed by a number."""
    found = reading.column_at(place, 0.8)
    if not found or found[0].column.kind not in ("integer", "decimal"):
        return False
    known, after, score = found
    number = reading.lower(after)
    if not reading.is_free(after) or not re.fullmatch(r"\d+(\.\d+)?", number):
        return False
    reading.use(place, after + 1)
    reading.conditions.append((place, plans.compared(known.name, "=", (number,))))
    reading.explain(reading.phrase(place, after + 1), f"{known.name} = {number}", score)
    return True
