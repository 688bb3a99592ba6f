"""Extractive summary, outline and exact counts: statements that need no model.

`summarize` ranks sentences by TextRank over shared key words: a sentence matters if sentences that
matter share its words. What it returns are exact sentences with their place, in reading order, so
a page built on them is true to the document even when the language model is tiny. With a query,
sentences near it gain weight. Everything is pure and deterministic.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handlers.documents import sentences
from handlers.documents.words import keys_of, words_of

RANKED_SENTENCES_MAX = 600
RANK_ROUNDS = 30
DAMPING = 0.85
KEYS_MIN = 3
REDUNDANT_SHARE = 0.6
LEAD_BONUS = 0.15
QUERY_WEIGHT = 2.0
TERM_CHARACTERS_MAX = 200


@dataclass(frozen=True)
class Quote:
    """An exact sentence of a section, and its rank among all (1 is the most central)."""

    section_ordinal: int
    heading: str
    start: int
    end: int
    text: str
    plain: str
    rank: int


@dataclass(frozen=True)
class OutlineEntry:
    """A heading with its depth and the number of words under it."""

    ordinal: int
    level: int
    heading: str
    words: int


Sections = Sequence[Mapping[str, Any]]


def summarize(sections: Sections, sentences_max: int, query: str | None = None) -> list[Quote]:
    """The `sentences_max` most central sentences, without near repetitions, in reading order."""
    candidates = _candidates(sections)
    keys = [frozenset(keys_of(quote.plain)) for quote in candidates]
    scores = _ranks(keys, frozenset(keys_of(query or "")))
    order = sorted(range(len(candidates)), key=lambda i: (-scores[i], i))
    chosen: list[int] = []
    for index in order:
        if len(chosen) >= sentences_max:
            break
        if not any(_repeats(keys[index], keys[other]) for other in chosen):
            chosen.append(index)
    ranked = {index: rank for rank, index in enumerate(chosen, start=1)}
    return [_ranked(candidates[index], ranked[index]) for index in sorted(chosen)]


def outline(sections: Sections) -> list[OutlineEntry]:
    """The headings in order; the parts of a long section are counted together."""
    entries: list[OutlineEntry] = []
    for section in sections:
        level, heading = int(section["level"]), str(section["heading"])
        words = len(words_of(str(section["body"])))
        last = entries[-1] if entries else None
        if last and (last.level, last.heading) == (level, heading):
            entries[-1] = OutlineEntry(last.ordinal, level, heading, last.words + words)
        else:
            entries.append(OutlineEntry(int(section["ordinal"]), level, heading, words))
    return entries


def count_words(sections: Sections) -> int:
    """The number of words and numbers in bodies and headings; parts repeat no heading."""
    headings = sum(len(words_of(entry.heading)) for entry in outline(sections))
    return headings + sum(len(words_of(str(section["body"]))) for section in sections)


def count_term(sections: Sections, term: str) -> dict[int, int]:
    """Occurrences of a term in bodies, as whole words in any case, by section ordinal."""
    wanted = " ".join(term.split())[:TERM_CHARACTERS_MAX]
    if not wanted:
        return {}
    spaced = r"\s+".join(re.escape(part) for part in wanted.split())
    pattern = re.compile(rf"(?<!\w){spaced}(?!\w)", re.IGNORECASE)
    counts = {int(s["ordinal"]): len(pattern.findall(str(s["body"]))) for s in sections}
    return {ordinal: count for ordinal, count in counts.items() if count}


def _candidates(sections: Sections) -> list[Quote]:
    found: list[Quote] = []
    for section in sections:
        for sentence in sentences.split(str(section["body"])):
            if len(found) < RANKED_SENTENCES_MAX and len(keys_of(sentence.plain)) >= KEYS_MIN:
                found.append(_quote(section, sentence))
    return found


def _quote(section: Mapping[str, Any], sentence: sentences.Sentence) -> Quote:
    start = int(section["start"])
    return Quote(
        section_ordinal=int(section["ordinal"]),
        heading=str(section["heading"]),
        start=start + sentence.start,
        end=start + sentence.end,
        text=sentence.text,
        plain=sentence.plain,
        rank=0,
    )


def _ranked(quote: Quote, rank: int) -> Quote:
    return Quote(**{**quote.__dict__, "rank": rank})


def _ranks(keys: Sequence[frozenset[str]], query: frozenset[str]) -> list[float]:
    """PageRank over the graph of shared words, with the query and the lead as starting weight."""
    rarity = _rarity(keys)
    start = [_interest(own, query, rarity, index, len(keys)) for index, own in enumerate(keys)]
    total = sum(start) or 1.0
    start = [weight / total for weight in start]
    edges = _edges(keys, rarity)
    out = [sum(weight for _, weight in near) for near in edges]
    scores = start
    for _ in range(RANK_ROUNDS):
        scores = [
            (1 - DAMPING) * start[i] + DAMPING * sum(scores[j] * w / out[j] for j, w in edges[i])
            for i in range(len(keys))
        ]
    return scores


def _rarity(keys: Sequence[frozenset[str]]) -> dict[str, float]:
    counts = Counter(k for own in keys for k in own)
    return {k: math.log(1 + len(keys) / count) for k, count in counts.items()}


def _interest(
    own: frozenset[str], query: frozenset[str], rarity: Mapping[str, float], index: int, count: int
) -> float:
    asked = sum(rarity[k] for k in own & query)
    return 1.0 + QUERY_WEIGHT * asked + LEAD_BONUS * (1 - index / count)


def _edges(
    keys: Sequence[frozenset[str]], rarity: Mapping[str, float]
) -> list[list[tuple[int, float]]]:
    edges: list[list[tuple[int, float]]] = [[] for _ in keys]
    for i, left in enumerate(keys):
        for j in range(i + 1, len(keys)):
            if shared := left & keys[j]:
                weight = sum(rarity[k] for k in shared) / math.log(len(left) * len(keys[j]) + 1)
                edges[i].append((j, weight))
                edges[j].append((i, weight))
    return edges


def _repeats(a: frozenset[str], b: frozenset[str]) -> bool:
    return len(a & b) >= REDUNDANT_SHARE * min(len(a), len(b))
