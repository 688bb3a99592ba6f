"""Likeness: how much two points of two documents are about the same thing.

Shared key words count, rare ones more, and the embeddings of the topics if there are any. Points
of two nearly equal sentences, each the n-th of its kind there, are the clearest case of all: such
twins differ in the one value that matters. The scores of all pairs come from matrix products, so
that long documents are compared in seconds; only promising pairs are ever looked at one by one.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from handlers.documents.claims import Claim, Point, labels_of
from handlers.documents.words import contrasting, events_of, keys_of

EVENT_BONUS = 0.12
TWIN_LIKENESS_MIN = 0.75
TWIN_KEYS_MIN = 3
TWIN_BONUS = 0.1
CLAIM_POINTS_MAX = 10_000

Vectors = Mapping[str, Sequence[float]]
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Spot:
    """A point in its claim; `nth` of `count` points of its kind there, `order` in the document."""

    claim: Claim
    point: Point
    events: frozenset[str]
    labels: Mapping[str, frozenset[str]]
    contrasting: frozenset[str]
    moments: frozenset[str]
    order: int
    nth: int
    count: int

    @property
    def identity(self) -> tuple[str, int]:
        """What tells the spot from all others."""
        return self.claim.document, self.order


def spots_of(points: Sequence[tuple[Claim, Point]]) -> list[Spot]:
    """The points with what scoring needs of them."""
    counts = Counter((claim.start, claim.plain, point.kind) for claim, point in points)
    seen: Counter[tuple[int, str, str]] = Counter()
    spots: list[Spot] = []
    labels = {claim.plain: labels_of(claim.plain) for claim, _ in points}
    for order, (claim, point) in enumerate(points):
        place = (claim.start, claim.plain, point.kind)
        spots.append(
            Spot(
                claim,
                point,
                events_of(point.keys),
                labels[claim.plain],
                contrasting(point.topic),
                frozenset(p.normal for p in claim.points if p.kind in {"time", "date"}),
                order,
                seen[place],
                counts[place],
            )
        )
        seen[place] += 1
    return spots


class Likeness:
    """Scores from 0 to about 1.2 for pairs of spots of one kind."""

    def __init__(self, spots: Sequence[Spot], vectors: Vectors) -> None:
        self._vectors = vectors
        self._weights = _weights(spot.point.keys for spot in spots)
        claims = {id(spot.claim): spot.claim for spot in spots}
        self._claim_keys = {place: keys_of(claim.plain) for place, claim in claims.items()}
        self._claim_weights = _weights(iter(self._claim_keys.values()))

    def scores(self, left: Sequence[Spot], right: Sequence[Spot]) -> Matrix:
        """One row for each left spot and one column for each right one."""
        words = _shared(left, right, lambda spot: spot.point.keys, self._weights)
        events = _shared(left, right, lambda spot: tuple(spot.events), {})
        scores = self._with_meaning(words, left, right) + EVENT_BONUS * (events > 0)
        scores = np.where(words > 0, scores, 0)
        twins = self._twins(left, right)
        found: Matrix = np.where(twins > 0, np.maximum(scores, twins) + TWIN_BONUS, scores)
        return found

    def _with_meaning(
        self, words: Matrix, left: Sequence[Spot], right: Sequence[Spot]
    ) -> npt.NDArray[np.float64]:
        size = len(next(iter(self._vectors.values()), ()))
        if not size:
            return words.astype(np.float64)
        missing = (0.0,) * size
        a, b = (
            np.array([self._vectors.get(s.point.topic, missing) for s in side], dtype=np.float32)
            for side in (left, right)
        )
        known = np.any(a, axis=1, keepdims=True) & np.any(b, axis=1, keepdims=True).T
        return np.where(known, 0.5 * words + 0.5 * np.maximum(a @ b.T, 0), words)

    def _twins(self, left: Sequence[Spot], right: Sequence[Spot]) -> Matrix:
        """The likeness of the sentences, where it is high and the places in them are the same."""
        keys = self._claim_keys
        alike = _shared(left, right, lambda spot: keys[id(spot.claim)], self._claim_weights)
        places = [
            np.array([s.nth * CLAIM_POINTS_MAX + s.count for s in side]) for side in (left, right)
        ]
        long = np.array([len(keys[id(s.claim)]) >= TWIN_KEYS_MIN for s in left])
        same = (places[0][:, None] == places[1][None, :]) & long[:, None]
        found: Matrix = np.where(same & (alike >= TWIN_LIKENESS_MIN), alike, 0)
        return found


def _weights(all_keys: Iterator[tuple[str, ...]]) -> dict[str, float]:
    counts = Counter(k for keys in all_keys for k in set(keys))
    return {k: 1 / (1 + math.log(count)) for k, count in counts.items()}


def _shared(
    left: Sequence[Spot],
    right: Sequence[Spot],
    keys: Callable[[Spot], tuple[str, ...]],
    weights: Mapping[str, float],
) -> Matrix:
    """The cosine of the weighted key sets of every pair."""
    sides = [[frozenset(keys(spot)) for spot in side] for side in (left, right)]
    common = frozenset[str]().union(*sides[0]) & frozenset[str]().union(*sides[1])
    columns = {k: column for column, k in enumerate(sorted(common))}
    matrices = []
    for side in sides:
        matrix = np.zeros((len(side), len(columns)), dtype=np.float32)
        for row, own in enumerate(side):
            whole = sum(weights.get(k, 1.0) for k in own) or 1.0
            for k in own & common:
                matrix[row, columns[k]] = math.sqrt(weights.get(k, 1.0) / whole)
        matrices.append(matrix)
    product: Matrix = matrices[0] @ matrices[1].T
    return product
