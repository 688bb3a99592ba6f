"""Search in memory over everything that answers: services, operations, tools.

Rebuilt when something changed, not for each question. Entries share few distinct words, so each
word of the query is first matched with those words (as it is, as a beginning, or misspelt), and
entries are then found by them; a word in a name counts more than one in a summary, a rare word more
than a common one.
"""

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from rapidfuzz import fuzz, process, utils

from schemas.registry import Hit, Service
from schemas.tools import Tool

EXACT, LEADING, INSIDE, OTHER_MAX = 100.0, 97.0, 94.0, 93.0
SCORE_MIN = 35.0
BEGINNING, MISSPELT = 0.9, 0.9
SUMMARY_WEIGHT = 0.7
LIKENESS_MIN = 70.0
SUMMARY_CHARACTERS_MAX = 300
QUERY_WORDS_MAX = 12
UNKNOWN_WORDS_MAX = 4
TYPO_LETTERS_MIN = 3
WORDS_ALIKE_MAX = 20


@dataclass(frozen=True)
class Entry:
    """One thing that can be found."""

    service: str
    name: str
    kind: Literal["service", "operation", "tool"]
    subject: str
    summary: str
    status: str


class Index:
    """Entries, and where each word stands: in names, in summaries."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = list(entries)
        self._names = [prepared(entry.name) for entry in self._entries]
        self._places: dict[str, dict[int, float]] = defaultdict(dict)
        for index, entry in enumerate(self._entries):
            for word in prepared(entry.summary[:SUMMARY_CHARACTERS_MAX]).split():
                self._places[word][index] = SUMMARY_WEIGHT
            for word in self._names[index].split():
                self._places[word][index] = 1.0
        self._by_start: dict[tuple[str, int], list[str]] = defaultdict(list)
        for word in self._places:
            self._by_start[word[0], len(word)].append(word)

    def search(self, query: str, limit: int) -> tuple[Hit, ...]:
        """The entries that fit, best first."""
        wanted = prepared(query)
        if not wanted:
            return ()
        scores = self._by_words(wanted) | self._by_name(wanted)
        best = heapq.nsmallest(limit, ((-s, len(self._names[i]), i) for i, s in scores.items()))
        return tuple(Hit(score=round(-score, 1), **vars(self._entries[i])) for score, _, i in best)

    def _by_name(self, wanted: str) -> dict[int, float]:
        return {
            index: exactness(wanted, name)
            for index, name in enumerate(self._names)
            if wanted in name
        }

    def _by_words(self, wanted: str) -> dict[int, float]:
        words = list(dict.fromkeys(wanted.split()))[:QUERY_WORDS_MAX]
        unknown = [word for word in words if word not in self._places][:UNKNOWN_WORDS_MAX]
        total, sums = 0.0, defaultdict[int, float](float)
        for word in words:
            found = self._places_of(word, unknown)
            weight = 1 / (1 + math.log1p(len(found)))
            total += weight
            for index, value in found.items():
                sums[index] += value * weight
        scores = {index: OTHER_MAX * value / total for index, value in sums.items()}
        return {index: score for index, score in scores.items() if score >= SCORE_MIN}

    def _places_of(self, word: str, unknown: Sequence[str]) -> dict[int, float]:
        alike = self._alike(word, unknown)
        if alike == {word: 1.0}:
            return self._places[word]
        found: dict[int, float] = {}
        for other, likeness in sorted(alike.items(), key=lambda pair: pair[1]):
            found |= {i: weight * likeness for i, weight in self._places[other].items()}
        return found

    def _alike(self, word: str, unknown: Sequence[str]) -> dict[str, float]:
        if word in self._places:
            singular = word.removesuffix("s")
            return {word: 1.0} | ({singular: BEGINNING} if singular in self._places else {})
        if word not in unknown:
            return {}
        alike = {w: BEGINNING for w in self._places if w.startswith(word)}
        if len(word) >= TYPO_LETTERS_MIN and not word.isdigit():
            starts = [(start, len(word) + n) for start in set(word[:2]) for n in range(-2, 3)]
            near = [other for start in starts for other in self._by_start.get(start, ())]
            for other, score, _ in process.extract(
                word, near, scorer=fuzz.ratio, limit=WORDS_ALIKE_MAX, score_cutoff=LIKENESS_MIN
            ):
                alike.setdefault(other, MISSPELT * score / 100)
        return alike


def exactness(wanted: str, name: str) -> float:
    """The score of a name that holds the query as it is."""
    if wanted == name:
        return EXACT
    return LEADING if name.startswith(wanted) else INSIDE


def prepared(text: str) -> str:
    """Lower-case words without punctuation."""
    return " ".join(utils.default_process(text.replace("_", " ")).split())


def entries(services: Iterable[Service], tools: Iterable[Tool]) -> list[Entry]:
    """Everything that can be found."""
    found: list[Entry] = []
    for service in services:
        found.append(Entry(service.name, service.name, "service", "", service.description,
                           service.status))  # fmt: skip
        found.extend(
            Entry(service.name, str(each.metadata.get("operation") or each.name), "operation",
                  each.subject, each.summary, service.status)
            for each in service.endpoints
            if not each.subject.startswith("tool.")
        )  # fmt: skip
    found.extend(tool_entries(tools))
    return found


def tool_entries(tools: Iterable[Tool]) -> list[Entry]:
    """One entry for each tool, in the version that can be used, or else the last one seen."""
    by_name: dict[str, Tool] = {}
    for tool in tools:
        before = by_name.get(tool.name)
        if before is None or before.status != "active" or tool.status == "active":
            by_name[tool.name] = tool
    return [
        Entry(tool.created_by.removeprefix("service:"), tool.name, "tool", tool.subject or "",
              tool.description, tool.status)
        for tool in by_name.values()
    ]  # fmt: skip
