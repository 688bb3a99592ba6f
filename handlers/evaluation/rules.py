"""How good a text is as an answer, by six rules that anybody can check with a pencil.

    present    there is a text
    answers    the key words of the question come up in it
    figures    every number in it stands in a fact, a quoted source or the question
    grounded   the words of its prose stand in what it was made from
    citations  every paragraph says where it comes from, once anything was quoted
    length     neither a fragment nor a book

Each rule gives 0 to 1 and one finding in words; the score is their weighted sum out of 100. The
rules see words and numbers, not meaning: a fluent text that misses the point can still score well.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from schemas.evaluation import Grade, QualityScore, ScoreResult

EVALUATOR = "rules"
WEIGHTS = {
    "present": 0.10, "answers": 0.20, "figures": 0.30, "grounded": 0.20, "citations": 0.10,
    "length": 0.10,
}  # fmt: skip
GRADES: tuple[tuple[float, Grade], ...] = ((90, "A"), (80, "B"), (70, "C"), (60, "D"))
WORDS_MIN, WORDS_MAX = 5, 1_200
STEM_CHARACTERS, STEM_CHARACTERS_MIN = 5, 3
SHOWN_MAX = 5
GROUNDED_ENOUGH = 0.7
INVENTED_SCORE_MAX = 89.0
DEPTH_MAX = 32

Verdict = tuple[float, str]

_WORD = re.compile(r"[^\W\d_]{3,}")
_NUMBER = re.compile(
    r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)"  # 1,204.50
    r"|\d+(?:\.\d+)?"
)
_CITATION = re.compile(r"\[[^\]\n]*§[^\]\n]*\]")
_MARKER = re.compile(r"^\s*(?:\d+[.)]|[-*+])\s+", re.MULTILINE)
_COMMON = frozenset(
    """
    about all also and any are but can could did does each every for from give had has have how
    into its less list make many more most much not one only other page please report should show
    some tell than that the their them then there these they this those two was were what when
    where which who why will with would write you your between
    """.split()
)


def judge(command: ScoreResult, *, id: str, at: datetime) -> QualityScore:
    """The score of a result."""
    verdicts = {
        "present": present(command.text),
        "answers": answers(command.question, command.text),
        "figures": figures(command.text, known_numbers(command)),
        "grounded": grounded(command.text, material(command)),
        "citations": citations(command.text, command.provenance),
        "length": length(command.text),
    }
    score = weigh({name: value for name, (value, _) in verdicts.items()})
    return QualityScore(
        id=id,
        version=1,
        subject_type=command.subject_type,
        subject_id=command.subject_id,
        evaluator=EVALUATOR,
        dimensions={name: round(value, 3) for name, (value, _) in verdicts.items()},
        score=score,
        grade=grade(score),
        findings=tuple(f"{name}: {finding}" for name, (_, finding) in verdicts.items()),
        evaluated_at=at,
    )


def weigh(dimensions: Mapping[str, float]) -> float:
    """0 to 100; nothing at all scores nothing, and an invented figure never the best grade."""
    if dimensions["present"] == 0:
        return 0.0
    score = round(100 * sum(WEIGHTS[name] * value for name, value in dimensions.items()), 1)
    return score if dimensions["figures"] == 1 else min(score, INVENTED_SCORE_MAX)


def grade(score: float) -> Grade:
    """A from 90, B from 80, C from 70, D from 60."""
    return next((letter for least, letter in GRADES if score >= least), "F")


def present(text: str) -> Verdict:
    """Whether there is anything to judge."""
    if text.strip():
        return 1.0, "There is a text."
    return 0.0, "The text is empty."


def answers(question: str, text: str) -> Verdict:
    """The share of the question's key words that come up."""
    wanted, found = key_words(question), {stem(word) for word in _WORD.findall(text)}
    if not wanted:
        return 1.0, "The question has no key words."
    missing = [word for word in wanted if stem(word) not in found]
    share = 1 - len(missing) / len(wanted)
    if not missing:
        return share, f"All {len(wanted)} key words of the question come up."
    return (
        share,
        f"Of the question's {len(wanted)} key words these do not come up: {some(missing)}.",
    )


def key_words(text: str) -> list[str]:
    """Distinct words that carry the meaning, in order."""
    words = dict.fromkeys(word.lower() for word in _WORD.findall(text))
    return [word for word in words if word not in _COMMON]


def stem(word: str) -> str:
    """Enough of a word to know it again in another form: "failed" and "failure" share "fail"."""
    word = word.lower()
    for ending in ("ures", "ure", "ing", "ies", "ed", "es", "s", "y"):
        if word.endswith(ending) and len(word) - len(ending) >= STEM_CHARACTERS_MIN:
            return word[: -len(ending)][:STEM_CHARACTERS]
    return word[:STEM_CHARACTERS]


def figures(text: str, known: frozenset[Decimal]) -> Verdict:
    """The share of the text's numbers that stand in what it was made from."""
    stated = list(dict.fromkeys(numbers(_MARKER.sub("", _CITATION.sub(" ", text)))))
    if not stated:
        return 1.0, "No figures are stated."
    unknown = [number for number in stated if number not in known]
    share = (1 - len(unknown) / len(stated)) ** 2  # one invented figure spoils more than itself
    if not unknown:
        return share, f"All {len(stated)} figures stand in the facts or sources."
    shown = some([format(number, "f") for number in unknown])
    return share, f"{len(unknown)} of {len(stated)} figures stand in no fact or source: {shown}."


def known_numbers(command: ScoreResult) -> frozenset[Decimal]:
    """Every number of the facts, the provenance and the question."""
    return frozenset(number for text in material(command) for number in numbers(text))


def material(command: ScoreResult) -> list[str]:
    """What the text was made from: every text and number of facts, provenance and question."""
    return [*texts_in([*command.facts, *command.provenance], 0), command.question]


def texts_in(value: Any, depth: int) -> Iterator[str]:
    """The texts anywhere in a JSON value, its keys and numbers too."""
    if isinstance(value, bool) or value is None or depth > DEPTH_MAX:
        return
    if isinstance(value, int | float):
        yield format(Decimal(repr(value)), "f")
    elif isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from map(str, value)
        for item in value.values():
            yield from texts_in(item, depth + 1)
    elif isinstance(value, Iterable):
        for item in value:
            yield from texts_in(item, depth + 1)


def grounded(text: str, made_from: Sequence[str]) -> Verdict:
    """The share of the prose's words that its material knows; prose may add some of its own."""
    prose = "\n".join(paragraphs(_CITATION.sub(" ", text)))
    stated = key_words(prose)
    if len(made_from) == 1 or not stated:
        return 1.0, "There is no source to compare the prose with."
    known = {stem(word) for source in made_from for word in _WORD.findall(source)}
    foreign = [word for word in stated if stem(word) not in known]
    share = min(1.0, (1 - len(foreign) / len(stated)) / GROUNDED_ENOUGH)
    if not foreign:
        return share, f"All {len(stated)} words of the prose stand in the material."
    return share, f"{len(foreign)} of {len(stated)} words stand in no source: {some(foreign)}."


def numbers(text: str) -> Iterator[Decimal]:
    """Numbers without their sign, so that "14-16" and a range's dash do no harm."""
    for match in _NUMBER.finditer(text):
        yield Decimal(match[0].replace(",", "")).normalize()


def citations(text: str, provenance: Sequence[Mapping[str, Any]]) -> Verdict:
    """The share of paragraphs with a citation, where anything was quoted at all."""
    if not any(quotes_something(part, 0) for part in provenance):
        return 1.0, "Nothing was quoted, so nothing needs a citation."
    quoting = paragraphs(text)
    if not quoting:
        return 0.0, "There is no paragraph."
    cited = sum(1 for block in quoting if _CITATION.search(block))
    return cited / len(quoting), f"{cited} of {len(quoting)} paragraphs say where they come from."


def quotes_something(value: Any, depth: int) -> bool:
    """Whether a quote stands anywhere in it."""
    if depth > DEPTH_MAX:
        return False
    if isinstance(value, Mapping):
        inner = any(quotes_something(item, depth + 1) for item in value.values())
        return bool(value.get("quote")) or inner
    if isinstance(value, list | tuple):
        return any(quotes_something(item, depth + 1) for item in value)
    return False


def paragraphs(text: str) -> list[str]:
    """Blocks between empty lines that are neither headings nor tables nor a mere lead-in."""
    blocks = [block.strip() for block in re.split(r"\n\s*\n", text)]
    return [b for b in blocks if b and not b.startswith(("#", "|")) and not b.endswith(":")]


def length(text: str) -> Verdict:
    """Full marks between `WORDS_MIN` and `WORDS_MAX` words."""
    count = len(text.split())
    if count < WORDS_MIN:
        return count / WORDS_MIN, f"{count} words are a fragment."
    if count > WORDS_MAX:
        return WORDS_MAX / count, f"{count} words are more than anybody reads."
    return 1.0, f"{count} words."


def some(items: Sequence[str]) -> str:
    """The first few of them, in words."""
    rest = len(items) - SHOWN_MAX
    return ", ".join(items[:SHOWN_MAX]) + (f" and {rest} more" if rest > 0 else "")
