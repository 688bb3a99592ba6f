"""Rankings of a question: "top 3 customers by revenue", "which region has the most orders".

Ties are never cut: whoever has the same figure as the last one shown is shown too.
"""

from dataclasses import dataclass, replace

from handlers.tools.question_figures import KINDS, default_measure, figure_of
from handlers.tools.question_groups import use_group
from handlers.tools.question_linking import KnownColumn
from handlers.tools.question_plan import Figure, Group
from handlers.tools.question_reading import GLUE, NotAnswerable, Reading
from handlers.tools.question_words import Word, words

HIGH = {"most", "highest", "largest", "greatest", "biggest", "maximum", "best", "top"}
LOW = {"least", "lowest", "fewest", "smallest", "minimum", "worst", "bottom"}
NUMBER_WORDS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
                "eight": 8, "nine": 9, "ten": 10}  # fmt: skip
NOT_ADDITIVE = {"temperature", "price", "rate", "score", "age", "humidity", "level", "speed",
                "pressure", "rating", "percent", "latency"}  # fmt: skip
RANK_COUNT_MAX = 1000


@dataclass(frozen=True)
class Ranking:
    """The first `count` groups by a figure; ties are all kept."""

    group: Group
    figure: Figure
    descending: bool
    count: int


def read_ranking(reading: Reading) -> tuple[Ranking | None, list[Group]]:
    """For "top 3 customers by revenue", "which region has the most orders", "which regions"."""
    place = next((i for i, w in enumerate(reading.words) if _ranks(reading, i, w)), None)
    which = _which(reading)
    if place is None:
        if which is None:
            return None, []
        known, first, after = which
        group = use_group(reading, known, first, after, 0.9)
        return None, [replace(group, in_full=False)]  # "which" asks for those that have any
    ranked = which or _ranked_beside(reading, place)
    if ranked is None:
        return None, []
    known, first, after = ranked
    count = _count_beside(reading, place, first)
    word = reading.lower(place)
    figure_start = _figure_start(reading, place, after)
    group = use_group(reading, known, first, after, 0.95)
    reading.use(place, place + 1)
    figure = _rank_figure(reading, figure_start, known, word)
    return Ranking(group, figure, word not in LOW, count), [group]


def _ranks(reading: Reading, place: int, word: Word) -> bool:
    at_least = reading.lower(place - 1) == "at"
    return reading.is_free(place) and word.lower in HIGH | LOW and not at_least


def _which(reading: Reading) -> tuple[KnownColumn, int, int] | None:
    for place, word in enumerate(reading.words):
        if word.lower not in ("which", "what", "who"):
            continue
        start = place + 1
        while reading.lower(start).isdigit() or reading.lower(start) in (
            "of",
            "the",
            *NUMBER_WORDS,
        ):
            start += 1
        if word.lower == "who":
            return _person(reading, place)
        if not reading.is_free(start) or reading.lower(start) in KINDS | dict.fromkeys(GLUE | HIGH):
            continue
        found = reading.column_at(start)
        if found and not found[0].is_measure:
            return found[0], start, found[1]
    return None


def _person(reading: Reading, place: int) -> tuple[KnownColumn, int, int] | None:
    found = reading.linker.column(words("person"))
    return (found[0], place, place + 1) if found else None


def _ranked_beside(reading: Reading, place: int) -> tuple[KnownColumn, int, int] | None:
    """For "top 3 customers by ...", "the customer with the most ..."."""
    start = place + 1
    while reading.lower(start).isdigit() or reading.lower(start) in NUMBER_WORDS:
        start += 1
    counted = start > place + 1 or _number(reading.lower(place - 1)) is not None
    top = reading.lower(place) in ("top", "bottom", "best", "worst")
    if counted or top:
        found = reading.column_at(start) if reading.is_free(start) else None
        if found is None:
            raise NotAnswerable(f"no column was found for what is ranked {reading.lower(place)!r}")
        return found[0], start, found[1]
    before = place - 1
    while reading.lower(before) in ("the", "with", "has", "have", "had"):
        before -= 1
    if "with" in (reading.lower(i) for i in range(before + 1, place)):
        for known, first, after, _ in reading.columns_between(max(0, before - 1), before + 1):
            if not known.is_measure:
                return known, first, after
    return None


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else NUMBER_WORDS.get(text)


def _count_beside(reading: Reading, place: int, first: int) -> int:
    for beside in (place + 1, place - 1, first - 1):
        number = _number(reading.lower(beside))
        if number is not None and reading.is_free(beside):
            reading.use(beside, beside + 1)
            return max(1, min(number, RANK_COUNT_MAX))
    return 1


def _figure_start(reading: Reading, place: int, after: int) -> int:
    """The words that say by what is ranked follow "by", or the superlative itself."""
    for i in range(max(place, after - 1), len(reading.words)):
        if reading.lower(i) == "by" and reading.is_free(i):
            reading.use(i, i + 1)
            return i + 1
    if reading.lower(place) in ("top", "bottom", "best", "worst"):
        for i in range(after, len(reading.words)):
            if reading.lower(i) in HIGH | LOW:
                reading.use(i, i + 1)
                return i + 1
        raise NotAnswerable(f"by what is {reading.phrase(place, after)!r} to be ranked?")
    return place + 1


def _rank_figure(reading: Reading, start: int, ranked: KnownColumn, word: str) -> Figure:
    while reading.lower(start) in ("the", "their", "its"):
        start += 1
    kind = KINDS.get(reading.lower(start))
    counted = reading.lower(start) in ("number", "count")
    if kind or counted:
        reading.use(start, start + 1)
        start += 1
        while reading.lower(start) in ("of", "number"):
            start += 1
            counted = counted or reading.lower(start - 1) == "number"
    hit = next(
        (h for h in reading.columns_between(start, start + 4) if h[0].is_measure and not counted),
        None,
    )
    if hit is None:
        if kind and not counted:
            return figure_of(reading, kind, default_measure(reading))
        if not counted and reading.is_free(start) and _unknown(reading, start):
            raise NotAnswerable(f"no numeric column was found for {reading.words[start].text!r}")
        reading.explain(word, "ranked by the number of rows, ties included", 0.95)
        _use_subject(reading, start)
        return Figure("count", "count")
    known, first, after, score = hit
    reading.use(first, after)
    if kind is None:
        literal_extreme = word in ("highest", "largest", "greatest", "biggest", "maximum", "lowest",
                                   "smallest", "minimum")  # fmt: skip
        extreme = "min" if word in LOW else "max"
        single = literal_extreme or known.core & NOT_ADDITIVE
        kind = extreme if single and not ranked.is_key else "sum"
    figure = figure_of(reading, kind, known)
    reading.explain(reading.phrase(first, after), f"ranked by {figure.name}, ties included", score)
    return figure


def _unknown(reading: Reading, place: int) -> bool:
    word = reading.words[place]
    known = (
        word.lower in GLUE or word.stem in reading.subject or word.lower in ("often", "frequent")
    )
    return not known and not reading.linker.values([word])


def _use_subject(reading: Reading, start: int) -> None:
    for place in range(start, min(start + 4, len(reading.words))):
        if reading.words[place].stem in reading.subject or reading.lower(place) == "often":
            reading.use(place, place + 1)
