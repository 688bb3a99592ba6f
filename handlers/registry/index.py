"""Search in memory over everything that answers: services, operations, tools.

Rebuilt when something changed, not for each question. Entries share few distinct words, so each
word of the query is first matched with those words (as it is, as a beginning, or misspelt), and
entries are then found by them; a word in a name counts more than one in a summary, a rare word more
than a common one.
"""

import heapq
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, islice, takewhile

import orjson
from rapidfuzz import fuzz, process, utils

from handlers.registry import rules
from schemas.contract import Json
from schemas.registry import Chosen, Entry, EntryStatus, Found, Hit, Service
from schemas.tools import Tool, invoke

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
BUILTIN = "tools"
"""The service whose own the built-in tools are."""

Fits = Callable[[Entry], bool]
Key = tuple[str, str, str]
Rank = tuple[float, int, str, str, str]


class Index:
    """Entries by name, and where each word stands: in names, in summaries."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = sorted(entries, key=key_of)
        self._keys = [key_of(entry) for entry in self._entries]
        self._names = [prepared(entry.name) for entry in self._entries]
        self._providers = {e.name: e.service for e in self._entries if e.kind == "tool"}
        self._places: dict[str, dict[int, float]] = defaultdict(dict)
        for index, entry in enumerate(self._entries):
            for word in prepared(entry.summary[:SUMMARY_CHARACTERS_MAX]).split():
                self._places[word][index] = SUMMARY_WEIGHT
            for word in self._names[index].split():
                self._places[word][index] = 1.0
        self._lines = "\n".join(self._names)
        self._begins = [0, *accumulate(len(name) + 1 for name in self._names)][:-1]
        self._words = sorted(self._places)
        self._by_start: dict[tuple[str, int], list[str]] = defaultdict(list)
        for word in self._places:
            self._by_start[word[0], len(word)].append(word)

    def provider_of(self, tool_name: str) -> str | None:
        """The service that offers a tool."""
        return self._providers.get(tool_name)

    def named(self, name: str) -> list[Entry]:
        """The entries of this name."""
        begin = bisect_left(self._keys, (name, "", ""))
        later = islice(self._entries, begin, None)
        return list(takewhile(lambda entry: entry.name == name, later))

    def listed(self, fits: Fits, after: Key | None, limit: int) -> list[Entry]:
        """Entries by name, from behind a key on."""
        begin = bisect_right(self._keys, after) if after else 0
        return list(islice(filter(fits, islice(self._entries, begin, None)), limit))

    def search(
        self, query: str, limit: int, fits: Fits = bool, after: Rank | None = None
    ) -> list[Hit]:
        """The entries that fit, best first, from behind a rank on."""
        wanted = prepared(query)
        if not wanted:
            return []
        scores = self._by_words(wanted) | self._by_name(wanted)
        ranks = (
            (rank_of(round(score, 3), *self._keys[i]), i)
            for i, score in scores.items()
            if fits(self._entries[i])
        )
        later = (each for each in ranks if after is None or each[0] > after)
        return [
            Hit(score=-rank[0], **shown(self._entries[i]))
            for rank, i in heapq.nsmallest(limit, later)
        ]

    def _by_name(self, wanted: str) -> dict[int, float]:
        """Names that hold the query as it is: found in all of them as one text, each a line."""
        found: dict[int, float] = {}
        at = self._lines.find(wanted)
        while at >= 0:
            index = bisect_right(self._begins, at) - 1
            found[index] = exactness(wanted, self._names[index])
            at = self._lines.find(wanted, self._begins[index] + len(self._names[index]))
        return found

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
        later = islice(self._words, bisect_left(self._words, word), None)
        alike = dict.fromkeys(takewhile(lambda w: w.startswith(word), later), BEGINNING)
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


def key_of(entry: Found) -> Key:
    """By what entries are sorted; no two have the same."""
    return entry.name, entry.kind, entry.service


def rank_of(score: float, name: str, kind: str, provider: str) -> Rank:
    """By what hits are sorted."""
    return -score, len(name), name, kind, provider


def shown(entry: Entry) -> Json:
    """What a hit shows of an entry."""
    return {name: getattr(entry, name) for name in Found.model_fields}


def chosen(wanted: Chosen) -> Fits:
    """Whether an entry is one of those that a request asks for; what is lost only by that name."""
    tags = frozenset(wanted.tags)

    def fits(entry: Entry) -> bool:
        return (
            (entry.status == wanted.status if wanted.status else entry.status != "lost")
            and wanted.kind in (None, entry.kind)
            and wanted.layer in (None, entry.layer)
            and tags.issubset(entry.tags)
        )

    return fits


def entries(services: Iterable[Service], tools: Iterable[Tool]) -> list[Entry]:
    """Everything that can be found."""
    by_name = {service.name: service for service in services}
    found = [each for service in by_name.values() for each in service_entries(service)]
    return found + tool_entries(tools, by_name)


def service_entries(service: Service) -> Iterator[Entry]:
    """A service and its operations; its tools are known to the domain of tools."""
    tags = rules.tags_of(service.metadata)
    yield Entry(
        service=service.name, name=service.name, kind="service", subject="",
        summary=service.description, status=service.status, layer=service.layer, tags=tags,
    )  # fmt: skip
    for each in service.endpoints:
        if not each.subject.startswith("tool."):
            yield Entry(
                service=service.name,
                name=str(each.metadata.get("operation") or each.name),
                kind="operation",
                subject=each.subject,
                summary=each.summary,
                status=service.status,
                layer=service.layer,
                tags=tuple(dict.fromkeys((*rules.tags_of(each.metadata), *tags))),
                permission=str(each.metadata.get("permission", "")) or None,
                input_schema=schema_in(each.metadata.get("schema")),
            )


def schema_in(text: object) -> Json | None:
    """The JSON Schema in a text of metadata, if it is an object."""
    try:
        schema = orjson.loads(str(text))
    except orjson.JSONDecodeError:
        return None
    return schema if isinstance(schema, dict) else None


def tool_entries(tools: Iterable[Tool], services: Mapping[str, Service]) -> list[Entry]:
    """One entry for each tool, in the version that can be used, or else the last one seen."""
    by_name: dict[str, Tool] = {}
    for tool in tools:
        before = by_name.get(tool.name)
        if before is None or before.status != "active" or tool.status == "active":
            by_name[tool.name] = tool
    return [tool_entry(tool, services) for tool in by_name.values()]


def provider_of(tool: Tool) -> str:
    """The service that offers a tool, or who registered it by hand."""
    return BUILTIN if tool.kind == "builtin" else tool.created_by.removeprefix("service:")


def tool_entry(tool: Tool, services: Mapping[str, Service]) -> Entry:
    """A tool is as well as the service that offers it; one registered by hand has none."""
    provider = provider_of(tool)
    service = services.get(provider) if provider != tool.created_by else None
    tags = (tool.category, *(rules.tags_of(service.metadata) if service else ()))
    status: dict[str, EntryStatus] = {
        "active": service.status if service else "ready",
        "deprecated": "deprecated",
        "unavailable": "lost",
    }
    return Entry(
        service=provider,
        name=tool.name,
        kind="tool",
        subject=tool.subject or "",
        summary=tool.description,
        status=status[tool.status],
        layer=service.layer if service else None,
        tags=tuple(dict.fromkeys(tags)),
        permission=invoke.may,
        input_schema=tool.input_schema,
    )
