"""Which column, or which value of a column, some words of a question mean.

Columns are found by their own words first, then by words that stand for them, then by spelling;
values only by their words (exact first, then stems, then spelling), because a value found by
meaning would be a guess. What fits two columns equally well is ambiguous and reported as such.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz

from handlers.tools.question_words import STANDS_FOR, Word, name_stems, words
from handlers.tools.tables import Column

VALUES_LINKED_MAX = 2000
SPAN_WORDS_MAX = 5
SPELLING_MIN = 88
SPELLING_LETTERS_MIN = 5
SPELLED_WORDS_MAX = 2
_GENERIC = {"id", "name", "at", "is", "was", "has", "the", "of", "in", "on", "usd", "eur", "gbp",
            "num", "number", "date", "flag", "code"}  # fmt: skip
_NUMERIC = ("integer", "decimal", "float")


class Ambiguous(ValueError):
    """Words fit several columns equally well."""


@dataclass(frozen=True)
class KnownColumn:
    """A column with its name's words, and the words that tell it from others."""

    column: Column
    stems: frozenset[str]
    core: frozenset[str]
    is_key: bool

    @property
    def name(self) -> str:
        """The column's name in the file."""
        return self.column.name

    @property
    def is_measure(self) -> bool:
        """A number that may be added up or averaged, not one that names something."""
        identifier = self.stems & {"id", "code", "zip", "phone", "number", "year", "postcode"}
        return self.column.kind in _NUMERIC and not identifier

    @property
    def is_date(self) -> bool:
        """Days or moments."""
        return self.column.kind in ("date", "timestamp")

    @property
    def is_truth(self) -> bool:
        """Yes or no, also written as 1 and 0."""
        zero_one = self.column.kind == "integer" and set(self.column.values) <= {"0", "1"}
        return self.column.kind == "boolean" or zero_one


@dataclass(frozen=True)
class ValueMatch:
    """Values of one column that some words name."""

    known: KnownColumn
    values: tuple[str, ...]
    length: int
    score: float


class Linker:
    """The columns and values of one table, ready to be looked up by words."""

    def __init__(self, columns: Sequence[Column], rows: int) -> None:
        self.known = [_known(column, rows) for column in columns]
        self.rows = rows
        self._exact: dict[tuple[str, ...], list[tuple[KnownColumn, str]]] = {}
        self._stems: dict[tuple[str, ...], list[tuple[KnownColumn, str]]] = {}
        for known in self.known:
            if known.column.kind == "text":
                self._index(known)

    def _index(self, known: KnownColumn) -> None:
        for value in known.column.values:
            tokens = words(value)[: SPAN_WORDS_MAX + 1]
            exact, stems = tuple(w.lower for w in tokens), tuple(w.stem for w in tokens)
            if 0 < len(tokens) <= SPAN_WORDS_MAX:
                self._exact.setdefault(exact, []).append((known, value))
                self._stems.setdefault(stems, []).append((known, value))

    def column(self, span: Sequence[Word]) -> tuple[KnownColumn, float] | None:
        """The column that the whole span means, and how surely (0..1).

        Raises:
            Ambiguous: several columns fit equally well.
        """
        scores = [(self._score(span, known), known) for known in self.known]
        best = max((score for score, _ in scores), default=0.0)
        fitting = [known for score, known in scores if score == best]
        if best == 0:
            return None
        if len(fitting) > 1:
            names = ", ".join(repr(known.name) for known in fitting)
            phrase = " ".join(w.text for w in span)
            raise Ambiguous(f"{phrase!r} may mean any of the columns {names}")
        return fitting[0], best

    def _score(self, span: Sequence[Word], known: KnownColumn) -> float:
        asked = frozenset(w.stem for w in span)
        written = "".join(w.lower for w in span)
        if asked == known.stems or written == _compact(known.name):
            return 1.0
        if asked == known.core:
            return 0.95
        if asked < known.stems and asked & known.core:
            return 0.85
        if all(_stand_for(stem, known.core) for stem in asked) and self._may_stand(asked, known):
            return 0.8 if len(asked) == len(known.core) else 0.65
        text, name = " ".join(w.lower for w in span), " ".join(sorted(known.core))
        return 0.7 if _spelled_alike(text, name) else 0.0

    def _may_stand(self, asked: frozenset[str], known: KnownColumn) -> bool:
        """Prices of single pieces are not revenue; a money word needs a number."""
        if "amount" in STANDS_FOR[next(iter(asked))]:
            if known.stems & {"unit", "per", "tax", "rate", "discount"} or not known.is_measure:
                return False
            counted = any(k.stems & {"quantity", "unit"} and k.is_measure for k in self.known)
            return not (counted and known.stems & {"price", "cost"})
        return True

    def values(self, span: Sequence[Word]) -> list[ValueMatch]:
        """Values whose words are exactly the span's; one entry for each column."""
        exact = self._exact.get(tuple(w.lower for w in span), [])
        alike = self._stems.get(tuple(w.stem for w in span), [])
        if exact:
            where = {known.name for known, _ in exact}
            alike = [hit for hit in alike if hit[0].name in where and _same_aspect(span, hit[1])]
            score = 1.0 if len(alike) == len(exact) else 0.9
            return _by_column([*exact, *(h for h in alike if h not in exact)], len(span), score)
        if alike:
            done = [hit for hit in alike if _same_aspect(span, hit[1])]
            return _by_column(done or alike, len(span), 0.9 if done else 0.75)
        return self._misspelled(" ".join(w.lower for w in span), len(span))

    def _misspelled(self, text: str, length: int) -> list[ValueMatch]:
        if len(text) < SPELLING_LETTERS_MIN or length > SPELLED_WORDS_MAX:
            return []
        hits = [
            hit
            for tokens, found in self._exact.items()
            if len(tokens) == length and _spelled_alike(text, " ".join(tokens))
            for hit in found
        ]
        return _by_column(hits, length, 0.75)


def _known(column: Column, rows: int) -> KnownColumn:
    stems = frozenset(name_stems(column.name)) or frozenset({column.name})
    core = (stems - _GENERIC) or stems
    return KnownColumn(column, stems, core, column.distinct == rows and column.empty == 0)


def _compact(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _stand_for(stem: str, core: frozenset[str]) -> bool:
    return bool(STANDS_FOR.get(stem, set()) & core)


def _same_aspect(span: Sequence[Word], value: str) -> bool:
    """For "failed" and "Failure" are over; "shipping" goes on and is not "shipped"."""
    goes_on = [w.lower.endswith("ing") for w in words(value)]
    return [w.lower.endswith("ing") for w in span] == goes_on


def _spelled_alike(one: str, other: str) -> bool:
    if min(len(one), len(other)) < SPELLING_LETTERS_MIN or one[0] != other[0]:
        return False
    return fuzz.ratio(one, other) >= SPELLING_MIN


def _by_column(hits: list[tuple[KnownColumn, str]], length: int, score: float) -> list[ValueMatch]:
    grouped: dict[str, list[tuple[KnownColumn, str]]] = {}
    for known, value in hits:
        grouped.setdefault(known.name, []).append((known, value))
    return [
        ValueMatch(found[0][0], tuple(value for _, value in found), length, score)
        for found in grouped.values()
    ]
