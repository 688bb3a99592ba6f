"""Claims: what each sentence of a document states, with its typed values.

A sentence is one claim; inside it every typed value, and the polarity of every clause, is a
*point*: the smallest thing two documents can disagree on. A point knows the clause it stands in
(`topic`, with the values taken out) because "detected at 14:05, resolved at 14:52" is two points
about two things. Comparison works on points and cites claims.

No model is used here. `topics` lists the texts whose embeddings make comparison better.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from handlers.documents import sentences
from handlers.documents.sentences import Sentence
from handlers.documents.values import Value, values_of
from handlers.documents.words import LABEL, STOP_WORDS, key, keys_of, words_of

CLAIMS_MAX = 5_000
SUBJECT_WORDS_MAX = 4
LABEL_CHARACTERS_MAX = 40
CLAUSE_KEYS_MIN = 2
PLACEHOLDER = "…"

_BREAK = re.compile(
    r"[;,:](?=\s)|\s+(?:and|but|so|because|while|whereas|before|after|when|who|which|until|"
    r"although|though|as)\s+|(?<!evidence)(?<!indication)(?<!sign)(?<!proof)\s+that"
    r"(?! (?:night|day|morning|afternoon|evening|week|month|year|time|moment|point)\b)"
    r"\s+|\s+[–—]\s+"
)
_NEGATION = re.compile(
    r"\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|unable to|failed to|"
    r"fails? to)\b|n['’]t\b",
    re.IGNORECASE,
)
_NOT_NEGATION = re.compile(
    r"\bnot only\b|\bno longer than\b|\bno (?:later|more|fewer|less) than\b", re.IGNORECASE
)
_OPPOSITES = {
    "unavailable": "available",
    "unharmed": "harmed",
    "unhurt": "injured",
    "unsuccessful": "successful",
    "disabled": "enabled",
    "inactive": "active",
    "offline": "online",
    "absent": "present",
    "missing": "present",
    "insufficient": "sufficient",
    "incomplete": "complete",
    "incorrect": "correct",
    "wrong": "correct",
    "invalid": "valid",
    "expired": "valid",
    "intact": "damaged",
    "out of order": "working",
    "out of service": "working",
    "out of action": "working",
    "broken": "working",
    "defective": "working",
    "faulty": "working",
    "failed": "worked",
    "stopped": "running",
    "closed": "open",
    "shut": "open",
    "empty": "full",
    "ignored": "followed",
    "rejected": "approved",
    "refused": "approved",
    "declined": "approved",
    "false": "true",
}
_OPPOSITE = re.compile(
    r"(?P<verb>\b(?:was|were|is|are|been|be|remained|stayed|had|has|have|kept)\b|: )"
    r"(?P<adverbs>(?:\s*\b(?:\w+ly|not|still|also|then|again|already|never|all|both|in fact)\b)*)"
    rf"\s*\b(?P<word>{'|'.join(_OPPOSITES)}|un(?!it|der|cover|load|veil|plug)\w{{3,}}(?:ed|able))\b"
    r"(?!\s+(?:to|by)\b)",
    re.IGNORECASE,
)
_FAILED = re.compile(r"(?<!\ba )(?<!\bthe )(?<!\bof )(?<!\bevery )\bfailed\b(?! to\b)(?=[.,;]|$)")
_NOUGHT = re.compile(r":\s+(?:0|zero|nil)\s*$", re.IGNORECASE)
_LIGHT_VERBS = frozenset(map(key, "use make give take exist find available place carry".split()))
_VERB = re.compile(
    r"\b(?:was|were|is|are|has|have|had|did|does|do|will|can|could|\w{3,}ed|went|began|broke|left|"
    r"lost|took|held|sent|saw|rose|fell|came|led|found|told|paid)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Point:
    """One value, or the polarity of one clause, with what it is about."""

    kind: str
    raw: str
    normal: str
    value: Value | None
    topic: str
    keys: tuple[str, ...]
    negated: bool


@dataclass(frozen=True)
class Claim:
    """A sentence that states something; `text` is exact, `start` and `end` are in the text."""

    document: str
    section_ordinal: int
    heading: str
    start: int
    end: int
    text: str
    plain: str
    subject: str
    predicate: str
    negated: bool
    points: tuple[Point, ...]

    def as_dict(self) -> dict[str, Any]:
        """The claim as JSON values, its typed values without the polarity points."""
        fields = asdict(self)
        fields["values"] = [
            {"kind": point.kind, "raw": point.raw, "normal": point.normal}
            for point in self.points
            if point.kind != "negation"
        ]
        del fields["points"]
        return fields


def claims_of(document: str, sections: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """The claims of a parsed document, in order; at most `CLAIMS_MAX`."""
    found: list[Claim] = []
    header: tuple[str, ...] = ()
    for section in sections:
        body = str(section["body"])
        for sentence in sentences.split(body, header):
            if len(found) < CLAIMS_MAX and len(keys_of(sentence.plain)) > 0:
                found.append(_claim(document, section, sentence))
        header = sentences.last_header(body) or (header if not body else ())
    return found


def labels_of(plain: str) -> dict[str, frozenset[str]]:
    """Which of its kind the sentence is about: `Gate 7 was opened` says `{"gate": {"7"}}`."""
    found: dict[str, frozenset[str]] = {}
    for m in _subject_labels(plain):
        noun = key(m["noun"])
        found[noun] = found.get(noun, frozenset()) | {m["label"]}
    return found


def _subject_labels(plain: str) -> Iterator[re.Match[str]]:
    verb = _VERB.search(plain, 1)
    for m in LABEL.finditer(plain, 0, verb.start() if verb else len(plain)):
        after = next(iter(words_of(plain[m.end() :].split(":", maxsplit=1)[0])), "")
        closed = not after or after.lower() in STOP_WORDS or _VERB.fullmatch(after)
        if closed and m["noun"].lower() not in STOP_WORDS:
            yield m


def topics(claims: Iterable[Claim]) -> list[str]:
    """The distinct texts to embed for a comparison of these claims."""
    return list(dict.fromkeys(point.topic for claim in claims for point in claim.points))


def _claim(document: str, section: Mapping[str, Any], sentence: Sentence) -> Claim:
    plain = sentence.plain
    subject, predicate = _subject_and_predicate(plain)
    return Claim(
        document=document,
        section_ordinal=int(section["ordinal"]),
        heading=str(section["heading"]),
        start=int(section["start"]) + sentence.start,
        end=int(section["start"]) + sentence.end,
        text=sentence.text,
        plain=plain,
        subject=subject,
        predicate=predicate,
        negated=is_negated(plain),
        points=tuple(_points(sentence)),
    )


def is_negated(text: str) -> bool:
    """Whether a clause denies what it says."""
    text, turned = _positive(_NOT_NEGATION.sub(" ", text))
    negators = len(_NEGATION.findall(text)) + len(_NOUGHT.findall(text)) + turned
    return negators % 2 == 1


def _positive(text: str) -> tuple[str, int]:
    """The text with `was out of order` as `was working`, and how often that turned its sense."""

    def turn(m: re.Match[str]) -> str:
        word = m["word"].lower()
        return f"{m['verb']}{m['adverbs']} {_OPPOSITES.get(word, word.removeprefix('un'))}"

    text, turned = _OPPOSITE.subn(turn, text)
    text, failed = _FAILED.subn("worked", text)
    return text, turned + failed


def _subject_and_predicate(plain: str) -> tuple[str, str]:
    label, colon, _ = plain.partition(": ")
    if colon and len(label) <= LABEL_CHARACTERS_MAX:
        return " ".join(keys_of(label)[:SUBJECT_WORDS_MAX]), "is"
    verb = _VERB.search(plain, 1)
    if not verb:
        return " ".join(keys_of(plain)[:SUBJECT_WORDS_MAX]), ""
    subject = " ".join(keys_of(plain[: verb.start()])[-SUBJECT_WORDS_MAX:])
    return subject, " ".join(keys_of(plain[verb.start() :])[:1]) or verb[0].lower()


def _points(sentence: Sentence) -> Iterator[Point]:
    plain = sentence.plain
    named = {m.start("label") for m in _subject_labels(plain)}
    values = [v for v in values_of(plain) if v.kind != "number" or v.at not in named]
    clauses = _clauses(plain, values)
    for value in values:
        start, end = next(((s, e) for s, e in clauses if s <= value.at < e), (0, len(plain)))
        if sentence.kind == "row" or value.kind in {"version", "weekday"}:
            start, end = 0, len(plain)
        yield _value_point(plain, value, values, start, end)
    for start, end in clauses:
        if (point := _polarity_point(plain, start, end)) is not None:
            yield point


def _value_point(plain: str, value: Value, values: list[Value], start: int, end: int) -> Point:
    topic = _without(plain, values, start, end)
    keys = value.about or keys_of(topic)
    if value.kind == "number":
        keys = tuple(dict.fromkeys((*keys, *value.unit)))
        topic = f"{' '.join(words_of(value.raw)[1:])} {topic}"
    if len(keys) < CLAUSE_KEYS_MIN and value.kind not in {"cause", "name"}:
        topic = _without(plain, values, 0, len(plain))
        keys = tuple(dict.fromkeys((*keys, *keys_of(topic))))
    negated = is_negated(plain[start:end])
    return Point(value.kind, value.raw, value.normal, value, _tidy(topic), keys, negated)


def _polarity_point(plain: str, start: int, end: int) -> Point | None:
    clause = plain[start:end].strip(" ,;:.")
    positive, _ = _positive(clause)
    keys = keys_of(positive)
    negated = is_negated(clause)
    core = tuple(k for k in keys if k not in _LIGHT_VERBS)
    if negated and len(core) >= CLAUSE_KEYS_MIN:
        keys = core
    if len(keys) < CLAUSE_KEYS_MIN:
        return None
    topic = _tidy(_NEGATION.sub(" ", positive))
    return Point("negation", clause, "not" if negated else "so", None, topic, keys, negated)


def _clauses(plain: str, values: list[Value]) -> list[tuple[int, int]]:
    """Cut at conjunctions and commas where both sides say something of their own."""
    taken = [(v.at, v.at + len(v.raw)) for v in values if v.kind != "cause"]
    starts = {v.at for v in values if v.kind in {"time", "date", "duration", "number"}}
    clauses: list[tuple[int, int]] = []
    start = 0
    for match in _BREAK.finditer(plain):
        inside = any(s < match.end() and match.start() < e for s, e in taken)
        inside |= match.end() in starts and match[0].strip() in {"after", "before", "until"}
        if not inside and _says(plain[start : match.start()]) and _says(plain[match.end() :]):
            clauses.append((start, match.end()))
            start = match.end()
    return [*clauses, (start, len(plain))]


def _says(text: str) -> bool:
    return bool(_VERB.search(text)) and len(keys_of(text)) >= CLAUSE_KEYS_MIN


def _without(plain: str, values: list[Value], start: int, end: int) -> str:
    """The text from `start` to `end` with its measured values blanked."""
    text = plain
    for value in values:
        if value.kind not in {"cause", "quoted"} and (value.kind != "name" or value.about):
            text = text[: value.at] + "\x1f" * len(value.raw) + text[value.at + len(value.raw) :]
    return text[start:end].replace("\x1f", " ")


def _tidy(topic: str) -> str:
    return " ".join(topic.split()).strip(" ,;:.–—-") or PLACEHOLDER
