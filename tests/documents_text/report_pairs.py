"""The report pairs of `reports/`: what they should yield, and how well the comparison does.

Four pairs were used to tune the comparison (`tuned`). Two were held out of the first tuning and
three written after it (`fresh`); a miss in each has since led to a fix. `blind` was written after
that. Six more were written and then tuned on (`second round`), and after them two that nothing was
changed for (`blind, second round`): only these show what to expect of unseen reports. An
expected disagreement is a kind and a part of each quote; a finding that none of them covers is
false. `python tests/documents_text/report_pairs.py [--words]` prints every miss and false alarm.
"""

import json
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.embedded.model_server.embedder import Embedder
from deploy.embedded.model_server.weights import EMBEDDING, find
from handlers.documents.claims import Claim, claims_of, topics
from handlers.documents.comparison import Comparison, Disagreement, compare
from handlers.documents.parsing import parse_bytes

REPORTS = Path(__file__).parent / "reports"
GROUPS = ("tuned", "held out", "fresh", "blind", "second round", "blind, second round")

Embed = Callable[[Sequence[str]], Sequence[Sequence[float]]]


@dataclass(frozen=True)
class Score:
    """The findings of a comparison against the expectations."""

    right: int
    missed: list[list[str]]
    false: list[Disagreement]


@dataclass(frozen=True)
class Quality:
    """Precision and recall over a group of pairs."""

    precision: float
    recall: float


def expectations() -> dict[str, Any]:
    """What each pair should yield, by its name."""
    expected: dict[str, Any] = json.loads((REPORTS / "expected.json").read_text("utf-8"))
    return expected


def claims_of_file(name: str) -> list[Claim]:
    """The claims of a report file."""
    data = (REPORTS / name).read_bytes()
    return claims_of(name, parse_bytes(data, name)["sections"])


def compared(name: str, embed: Embed | None) -> Comparison:
    """Compare a pair, by words alone if there is no embedding."""
    documents = [claims_of_file(f"{name}-{side}.md") for side in "ab"]
    texts = topics(claim for claims in documents for claim in claims)
    vectors = dict(zip(texts, embed(texts), strict=True)) if embed else None
    return compare(documents, vectors)


def score(name: str, comparison: Comparison) -> Score:
    """Judge the findings by the expectations."""
    missed = list(expectations()[name]["disagreements"])
    false = []
    for found in comparison.disagreements:
        match = next((expected for expected in missed if _is(found, expected)), None)
        if match:
            missed.remove(match)
        else:
            false.append(found)
    return Score(len(comparison.disagreements) - len(false), missed, false)


def quality(group: str, embed: Embed | None) -> Quality:
    """Precision and recall over all pairs of a group."""
    names = [name for name, pair in expectations().items() if pair["set"] == group]
    scores = [score(name, compared(name, embed)) for name in names]
    right = sum(s.right for s in scores)
    found = right + sum(len(s.false) for s in scores)
    wanted = right + sum(len(s.missed) for s in scores)
    return Quality(right / found, right / wanted)


def embedding() -> Embed:
    """The real embedding model of the model server."""
    embedder = Embedder(find(EMBEDDING).path)

    def embed(texts: Sequence[str]) -> Sequence[Sequence[float]]:
        embedded = embedder.embed(texts, truncate=True, stop=threading.Event())
        vectors: list[list[float]] = embedded.vectors.tolist()
        return vectors

    return embed


def _is(found: Disagreement, expected: list[str]) -> bool:
    kind, left, right = expected
    quotes = [position.quote.lower() for position in found.positions[:2]]
    same_kind = found.kind == kind or {found.kind, kind} == {"number", "negation"}
    return same_kind and left.lower() in quotes[0] and right.lower() in quotes[1]


def _main(embed: Embed | None) -> None:
    for group in GROUPS:
        sys.stdout.write(f"{group}: {quality(group, embed)}\n")
    for name in expectations():
        judged = score(name, compared(name, embed))
        for miss in judged.missed:
            sys.stdout.write(f"missed in {name}: {miss}\n")
        for wrong in judged.false:
            quotes = " <> ".join(f"[{p.raw}] {p.quote}" for p in wrong.positions)
            sys.stdout.write(f"false in {name}: {wrong.kind} {wrong.topic}: {quotes}\n")


if __name__ == "__main__":
    _main(None if "--words" in sys.argv else embedding())
