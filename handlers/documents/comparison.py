"""Comparison: on what two or more documents agree, and on what they disagree.

Points of the same kind are aligned across documents by what they are about: shared key words,
rare ones weighing more, and the embeddings of their topics if given. Points with compatible values
agree and leave the field first. Of the rest each point gets at most one opponent, best pairs first,
and a pair is a disagreement only above the bar of its kind. Two times of two different kinds of
event (an alarm and its end) are never opponents.

Everything is deterministic. A disagreement cites the exact sentences; nothing is paraphrased.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from handlers.documents.claims import Claim
from handlers.documents.compatibility import (
    COMPARED_KINDS,
    comparable,
    compatible,
    denies_harm,
)
from handlers.documents.likeness import Likeness, Spot, Vectors, spots_of
from handlers.documents.words import contrast, harms_of, key, words_of

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
DENIED_COUNT_SCORE = 0.5
DENIED_CLAUSE_SCORE = 0.6
DENIED_CLAUSE_LIKENESS_MIN = 0.4
FLOOR = {"cause": 0.0, "severity": 0.0, "negation": DENIED_CLAUSE_LIKENESS_MIN}
TOPIC_WORDS_MAX = 6

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


@dataclass
class _Pairing:
    agreed: list[tuple[Spot, Spot, float]] = field(default_factory=list)
    opposed: list[tuple[Spot, Spot, float]] = field(default_factory=list)


def compare(documents: Sequence[Sequence[Claim]], vectors: Vectors | None = None) -> Comparison:
    """Compare the claims of two or more documents.

    Args:
        documents: the claims of each document.
        vectors: unit embeddings of `claims.topics(...)` by text; without them, words decide.
    """
    spots = [_spots(claims) for claims in documents]
    likeness = Likeness([spot for each in spots for spot in each], vectors or {})
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


def _spots(claims: Sequence[Claim]) -> list[Spot]:
    pairs = [(claim, point) for claim in claims for point in claim.points]
    return spots_of(
        [(c, p) for c, p in pairs if p.kind in COMPARED_KINDS and p.normal][:POINTS_MAX]
    )


def _pair(left: list[Spot], right: list[Spot], likeness: Likeness) -> _Pairing:
    candidates = sorted(
        _candidates(left, right, likeness), key=lambda c: (-c[2], c[0].order, c[1].order)
    )
    pairing = _Pairing()
    settled = _agree(candidates, pairing)
    _oppose(candidates, pairing, settled, _repetitions([*left, *right]))
    pairing.opposed = _without_echoes(pairing.opposed)
    return pairing


def _agree(candidates: list[tuple[Spot, Spot, float]], pairing: _Pairing) -> set[tuple[str, int]]:
    """Take up the values that both state; polarity has two only, its closest pair decides later."""
    settled: set[tuple[str, int]] = set()
    for a, b, score in candidates:
        low = score < AGREEMENT_SCORE_MIN or a.point.kind == "negation"
        if low or not compatible(a.point, b.point):
            continue
        if not {a.identity, b.identity} <= settled:
            pairing.agreed.append((a, b, score))
        settled |= {a.identity, b.identity}
    return settled


def _oppose(
    candidates: list[tuple[Spot, Spot, float]],
    pairing: _Pairing,
    settled: set[tuple[str, int]],
    repeated: dict[tuple[str, str], list[Spot]],
) -> None:
    """Give each point that is left its nearest opponent, the nearest pairs first."""
    partners: dict[tuple[str, int], set[str]] = {}
    for a, b, score in candidates:
        if score < SCORE_MIN[a.point.kind]:
            continue
        done = {a.identity, b.identity} & settled
        if done and not _answers_another_part(a, b, [partners.get(spot) for spot in done]):
            continue
        settled |= {a.identity, b.identity}
        if not compatible(a.point, b.point):
            pairing.opposed.append((a, b, score))
            settled |= _said_again((a, b), repeated)
            continue
        pairing.agreed.append((a, b, score))
        if a.point.kind == "negation":
            partners |= {a.identity: set(b.point.keys), b.identity: set(a.point.keys)}


def _said_again(
    pair: tuple[Spot, Spot], repeated: dict[tuple[str, str], list[Spot]]
) -> set[tuple[str, int]]:
    """Where the documents repeat the values of a pair."""
    return {
        other.identity
        for spot in pair
        for other in repeated.get((spot.point.kind, spot.point.normal), ())
        if other.claim.document == spot.claim.document
    }


def _candidates(
    left: list[Spot], right: list[Spot], likeness: Likeness
) -> Iterator[tuple[Spot, Spot, float]]:
    for kind in sorted(COMPARED_KINDS):
        rows, columns = ([s for s in side if s.point.kind == kind] for side in (left, right))
        if not rows or not columns:
            continue
        scores = likeness.scores(rows, columns)
        hopeful = scores >= FLOOR.get(kind, AGREEMENT_SCORE_MIN)
        if kind == "number":
            hopeful |= _denied(rows, columns) | _denied(columns, rows).T
        for i, j in np.argwhere(hopeful).tolist():
            a, b = rows[i], columns[j]
            if comparable(a.point, b.point) and _same_thing(a, b):
                yield a, b, _scored(a, b, float(scores[i, j]))


def _denied(nobody: list[Spot], some: list[Spot]) -> npt.NDArray[np.bool_]:
    """Where one side may deny a harm that the other counts."""
    harms = [np.array([bool(harms_of(s.point.keys)) for s in side]) for side in (nobody, some)]
    zeros = np.array([s.point.value is not None and s.point.value.amount == 0 for s in nobody])
    found: npt.NDArray[np.bool_] = (harms[0] & zeros)[:, None] & harms[1][None, :]
    return found


def _same_thing(a: Spot, b: Spot) -> bool:
    """Not two kinds of event, two gates, or two wings; nor one state at two times."""
    kind = a.point.kind
    if kind in {"time", "date", "duration"} and a.events and b.events and not a.events & b.events:
        return False
    if kind == "negation" and a.moments and b.moments and not a.moments & b.moments:
        return False
    if any(not a.labels[noun] & b.labels[noun] for noun in a.labels.keys() & b.labels.keys()):
        return False
    return kind == "cause" or not contrast(a.contrasting, b.contrasting)


def _scored(a: Spot, b: Spot, score: float) -> float:
    if a.point.kind == "cause":
        shared = set(a.point.keys) & set(b.point.keys)
        generic = [not s.point.value or _is_generic(s.point.value.about) for s in (a, b)]
        return max(score, 0.75 if shared else 0.6 if all(generic) else 0.5 if any(generic) else 0.0)
    if a.point.kind == "number":
        denied = denies_harm(a.point, b.point) or denies_harm(b.point, a.point)
        return max(score, DENIED_COUNT_SCORE) if denied else score
    if a.point.kind == "negation" and a.point.negated != b.point.negated:
        less, more = sorted((a.point.keys, b.point.keys), key=len)
        if _takes_up(less, more):
            return max(score, DENIED_CLAUSE_SCORE)
    return score


def _takes_up(denied: tuple[str, ...], said: tuple[str, ...]) -> bool:
    """All that is denied was said, close together: the vans were never used, informed by vans."""
    places = [said.index(k) for k in denied if k in said]
    return len(places) == len(denied) and max(places) - min(places) <= len(denied)


def _is_generic(effect: tuple[str, ...]) -> bool:
    return not effect or bool(set(effect) & _GENERIC_EFFECTS)


def _answers_another_part(a: Spot, b: Spot, partners: list[set[str] | None]) -> bool:
    """Informed by text message and vans: the first is confirmed, but the vans were never used."""
    less, more = sorted((a.point.keys, b.point.keys), key=len)
    opposed = a.point.negated != b.point.negated and _takes_up(less, more)
    return opposed and not any(keys is None or set(less) & keys for keys in partners)


def _repetitions(spots: list[Spot]) -> dict[tuple[str, str], list[Spot]]:
    """The spots by kind and value (a summary repeats a timeline)."""
    found: dict[tuple[str, str], list[Spot]] = {}
    for spot in spots:
        if spot.point.kind != "negation":
            found.setdefault((spot.point.kind, spot.point.normal), []).append(spot)
    return found


def _without_echoes(
    pairs: list[tuple[Spot, Spot, float]],
) -> list[tuple[Spot, Spot, float]]:
    """A pair of sentences that differ in a value need not be reported for their polarity too."""
    valued = {(a.claim.start, b.claim.start) for a, b, _ in pairs if a.point.kind != "negation"}
    return [
        (a, b, score)
        for a, b, score in pairs
        if a.point.kind != "negation" or (a.claim.start, b.claim.start) not in valued
    ]


def _grouped(pairs: list[tuple[Spot, Spot, float]]) -> list[Disagreement]:
    """One disagreement for all pairs that share a point (three documents make three pairs)."""
    groups: list[dict[tuple[str, int], Spot]] = []
    scores: list[float] = []
    group_of: dict[tuple[str, int], int] = {}
    for a, b, score in pairs:
        at = group_of.get(a.identity, group_of.get(b.identity, len(groups)))
        if at == len(groups):
            groups.append({})
            scores.append(score)
        for spot in (a, b):
            groups[at].setdefault(spot.identity, spot)
            group_of.setdefault(spot.identity, at)
    found = [
        _disagreement(list(group.values()), score)
        for group, score in zip(groups, scores, strict=True)
    ]
    return sorted(found, key=lambda d: (-d.confidence, d.positions[0].start))


def _disagreement(spots: list[Spot], score: float) -> Disagreement:
    topic = _topic(spots[0], spots[1])
    confidence = round(min(0.99, 0.35 + 0.6 * score), 2)
    positions = tuple(_position(spot) for spot in spots)
    return Disagreement(topic, spots[0].point.kind, confidence, positions)


def _position(spot: Spot) -> Position:
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


def _topic(a: Spot, b: Spot) -> str:
    """A short label: the words of the first topic that both share, as first written."""
    if a.point.kind in {"severity", "cause"}:
        return a.point.kind
    shared = set(a.point.keys) & set(b.point.keys)
    words = [word for word in words_of(a.claim.plain) if key(word) in shared]
    label = " ".join(dict.fromkeys(word.lower() for word in words[:TOPIC_WORDS_MAX]))
    return label or " ".join(a.point.keys[:TOPIC_WORDS_MAX])


def _only_in(
    documents: Sequence[Sequence[Claim]], pairs: Iterable[tuple[Spot, Spot, float]]
) -> dict[str, tuple[Claim, ...]]:
    taken = {id(spot.claim) for a, b, _ in pairs for spot in (a, b)}
    return {
        claims[0].document: tuple(claim for claim in claims if id(claim) not in taken)
        for claims in documents
        if claims
    }
