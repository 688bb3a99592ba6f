"""Comparison: on what two or more documents agree, and on what they disagree.

Points of the same kind are aligned across documents by what they are about: shared key words,
rare ones weighing more, and the embeddings of their topics if given. Points with compatible values
agree and leave the field first. Of the rest each point gets at most one opponent, best pairs first,
and a pair is a disagreement only above the bar of its kind. Two times of two different kinds of
event (an alarm and its end) are never opponents.

Everything is deterministic. A disagreement cites the exact sentences; nothing is paraphrased.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from operator import mul
from typing import Any

from handlers.documents.claims import Claim, Point
from handlers.documents.compatibility import COMPARED_KINDS, comparable, compatible
from handlers.documents.words import events_of, key, words_of

DISAGREEMENTS_MAX = 200
POINTS_MAX = 3_000
AGREEMENT_SCORE_MIN = 0.30
SCORE_MIN = {
    "time": 0.42,
    "date": 0.42,
    "weekday": 0.5,
    "duration": 0.36,
    "number": 0.40,
    "percent": 0.45,
    "money": 0.40,
    "version": 0.35,
    "severity": 0.0,
    "name": 0.5,
    "cause": 0.45,
    "negation": 0.55,
}
EVENT_BONUS = 0.12
DENIED_COUNT_SCORE = 0.5
TOPIC_WORDS_MAX = 6

Vectors = Mapping[str, Sequence[float]]
_GENERIC_EFFECTS = frozenset(
    (
        "incident failur problem fire accident event delay leak breach exposur explod crash error "
        "issu collaps spill collision derail fault loss lose burst"
    ).split()
)


@dataclass(frozen=True)
class Position:
    """What one document says on a topic: the exact quote and where it stands."""

    document: str
    section_ordinal: int
    heading: str
    start: int
    end: int
    quote: str
    raw: str
    value: str


@dataclass(frozen=True)
class Disagreement:
    """A topic on which documents state values that cannot all be true."""

    topic: str
    kind: str
    confidence: float
    positions: tuple[Position, ...]

    def as_dict(self) -> dict[str, Any]:
        """The disagreement as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Agreement:
    """A value that two documents both state of the same thing."""

    topic: str
    kind: str
    positions: tuple[Position, ...]


@dataclass(frozen=True)
class Comparison:
    """The result; `only_in` holds, for each document, the claims that no other takes up."""

    disagreements: tuple[Disagreement, ...]
    agreements: tuple[Agreement, ...]
    only_in: Mapping[str, tuple[Claim, ...]]


@dataclass(frozen=True)
class _Spot:
    """A point in its claim, with what scoring needs of it."""

    claim: Claim
    point: Point
    events: frozenset[str]
    order: int

    @property
    def identity(self) -> tuple[str, int]:
        return self.claim.document, self.order


@dataclass
class _Pairing:
    agreed: list[tuple[_Spot, _Spot, float]] = field(default_factory=list)
    opposed: list[tuple[_Spot, _Spot, float]] = field(default_factory=list)


def compare(documents: Sequence[Sequence[Claim]], vectors: Vectors | None = None) -> Comparison:
    """Compare the claims of two or more documents.

    Args:
        documents: the claims of each document.
        vectors: unit embeddings of `claims.topics(...)` by text; without them, words decide.
    """
    spots = [_spots(claims) for claims in documents]
    likeness = _Likeness([spot for each in spots for spot in each], vectors or {})
    whole = _Pairing()
    for left, right in combinations(spots, 2):
        pairing = _pair(left, right, likeness)
        whole.agreed += pairing.agreed
        whole.opposed += pairing.opposed
    disagreements = _grouped(whole.opposed)
    agreements = [
        Agreement(_topic(a, b), a.point.kind, (_position(a), _position(b)))
        for a, b, _ in whole.agreed
        if a.point.kind != "negation"
    ]
    return Comparison(
        tuple(disagreements[:DISAGREEMENTS_MAX]),
        tuple(agreements),
        _only_in(documents, [*whole.agreed, *whole.opposed]),
    )


class _Likeness:
    """How much two points are about the same thing, from 0 to about 1.2."""

    def __init__(self, spots: list[_Spot], vectors: Vectors) -> None:
        self._vectors = vectors
        counts = Counter(k for spot in spots for k in set(spot.point.keys))
        self._weights = {k: 1 / (1 + math.log(count)) for k, count in counts.items()}

    def score(self, a: _Spot, b: _Spot) -> float:
        words = self._words(a.point.keys, b.point.keys)
        if not words:
            return 0.0
        meaning = self._meaning(a.point.topic, b.point.topic)
        score = words if meaning is None else 0.5 * words + 0.5 * meaning
        if a.events & b.events:
            return score + EVENT_BONUS
        return score

    def _words(self, a: tuple[str, ...], b: tuple[str, ...]) -> float:
        shared, left, right = (self._weight(keys) for keys in (set(a) & set(b), set(a), set(b)))
        return shared / math.sqrt(left * right) if shared else 0.0

    def _weight(self, keys: set[str]) -> float:
        return sum(self._weights[k] for k in keys)

    def _meaning(self, a: str, b: str) -> float | None:
        if a not in self._vectors or b not in self._vectors:
            return None
        cosine: float = sum(map(mul, self._vectors[a], self._vectors[b]))
        return max(0.0, cosine)


def _spots(claims: Sequence[Claim]) -> list[_Spot]:
    pairs = [(claim, point) for claim in claims for point in claim.points]
    usable = [(c, p) for c, p in pairs if p.kind in COMPARED_KINDS and p.normal][:POINTS_MAX]
    return [
        _Spot(claim, point, events_of(point.keys), order)
        for order, (claim, point) in enumerate(usable)
    ]


def _pair(left: list[_Spot], right: list[_Spot], likeness: _Likeness) -> _Pairing:
    pairing = _Pairing()
    candidates = sorted(
        _candidates(left, right, likeness), key=lambda c: (-c[2], c[0].order, c[1].order)
    )
    settled: set[tuple[str, int]] = set()
    for a, b, score in candidates:
        if score < AGREEMENT_SCORE_MIN or not compatible(a.point, b.point):
            continue
        if a.point.kind == "negation":
            continue  # polarity has two values only: the closest pair decides, below
        if not {a.identity, b.identity} <= settled:
            pairing.agreed.append((a, b, score))
        settled |= {a.identity, b.identity}
    for a, b, score in candidates:
        if score < SCORE_MIN[a.point.kind] or {a.identity, b.identity} & settled:
            continue
        if compatible(a.point, b.point):
            pairing.agreed.append((a, b, score))
            settled |= {a.identity, b.identity}
        else:
            pairing.opposed.append((a, b, score))
            settled |= {spot.identity for spot in _same_value(a, left)}
            settled |= {spot.identity for spot in _same_value(b, right)}
    pairing.opposed = _without_echoes(pairing.opposed)
    return pairing


def _candidates(
    left: list[_Spot], right: list[_Spot], likeness: _Likeness
) -> Iterator[tuple[_Spot, _Spot, float]]:
    by_kind: dict[str, list[_Spot]] = {}
    for spot in right:
        by_kind.setdefault(spot.point.kind, []).append(spot)
    for a in left:
        for b in by_kind.get(a.point.kind, []):
            if comparable(a.point, b.point) and _same_event(a, b):
                yield a, b, _scored(a, b, likeness)


def _same_event(a: _Spot, b: _Spot) -> bool:
    """Times and dates of different kinds of event are not about the same thing."""
    if a.point.kind not in {"time", "date", "duration"} or not (a.events and b.events):
        return True
    return bool(a.events & b.events)


def _scored(a: _Spot, b: _Spot, likeness: _Likeness) -> float:
    score = likeness.score(a, b)
    if a.point.kind == "cause":
        shared = set(a.point.keys) & set(b.point.keys)
        generic = [not s.point.value or _is_generic(s.point.value.about) for s in (a, b)]
        return max(score, 0.75 if shared else 0.6 if all(generic) else 0.5 if any(generic) else 0.0)
    if a.point.kind == "number" and _denies_count(a, b):
        return max(score, DENIED_COUNT_SCORE)
    return score


def _denies_count(a: _Spot, b: _Spot) -> bool:
    """`Nobody was injured` against `two employees were injured`: few words, but a clear clash."""
    zeros = [s.point.value is not None and s.point.value.amount == 0 for s in (a, b)]
    shared = set(a.point.keys) & set(b.point.keys) - {"person"}
    return (
        any(zeros) and not all(zeros) and {"injur", "die", "harm", "hospitalis"} & shared != set()
    )


def _is_generic(effect: tuple[str, ...]) -> bool:
    return not effect or bool(set(effect) & _GENERIC_EFFECTS)


def _same_value(spot: _Spot, spots: list[_Spot]) -> Iterator[_Spot]:
    """The spot and its repetitions in the same document (a summary repeats a timeline)."""
    for other in spots:
        same = (other.point.kind, other.point.normal) == (spot.point.kind, spot.point.normal)
        if other is spot or (same and spot.point.kind != "negation"):
            yield other


def _without_echoes(
    pairs: list[tuple[_Spot, _Spot, float]],
) -> list[tuple[_Spot, _Spot, float]]:
    """A pair of sentences that differ in a value need not be reported for their polarity too."""
    valued = {(a.claim.start, b.claim.start) for a, b, _ in pairs if a.point.kind != "negation"}
    return [
        (a, b, score)
        for a, b, score in pairs
        if a.point.kind != "negation" or (a.claim.start, b.claim.start) not in valued
    ]


def _grouped(pairs: list[tuple[_Spot, _Spot, float]]) -> list[Disagreement]:
    """One disagreement for all pairs that share a point (three documents make three pairs)."""
    groups: list[dict[tuple[str, int], _Spot]] = []
    scores: list[float] = []
    for a, b, score in pairs:
        group = next((g for g in groups if a.identity in g or b.identity in g), None)
        if group is None:
            groups.append(group := {})
            scores.append(score)
        group.setdefault(a.identity, a)
        group.setdefault(b.identity, b)
    found = [
        _disagreement(list(group.values()), score)
        for group, score in zip(groups, scores, strict=True)
    ]
    return sorted(found, key=lambda d: (-d.confidence, d.positions[0].start))


def _disagreement(spots: list[_Spot], score: float) -> Disagreement:
    topic = _topic(spots[0], spots[1])
    confidence = round(min(0.99, 0.35 + 0.6 * score), 2)
    positions = tuple(_position(spot) for spot in spots)
    return Disagreement(topic, spots[0].point.kind, confidence, positions)


def _position(spot: _Spot) -> Position:
    claim, point = spot.claim, spot.point
    return Position(
        claim.document,
        claim.section_ordinal,
        claim.heading,
        claim.start,
        claim.end,
        claim.text,
        point.raw,
        point.normal,
    )


def _topic(a: _Spot, b: _Spot) -> str:
    """A short label: the words of the first topic that both share, as first written."""
    if a.point.kind in {"severity", "cause"}:
        return a.point.kind
    shared = set(a.point.keys) & set(b.point.keys)
    words = [word for word in words_of(a.claim.plain) if key(word) in shared]
    label = " ".join(dict.fromkeys(word.lower() for word in words[:TOPIC_WORDS_MAX]))
    return label or " ".join(a.point.keys[:TOPIC_WORDS_MAX])


def _only_in(
    documents: Sequence[Sequence[Claim]], pairs: Iterable[tuple[_Spot, _Spot, float]]
) -> dict[str, tuple[Claim, ...]]:
    taken = {id(spot.claim) for a, b, _ in pairs for spot in (a, b)}
    return {
        claims[0].document: tuple(claim for claim in claims if id(claim) not in taken)
        for claims in documents
        if claims
    }
