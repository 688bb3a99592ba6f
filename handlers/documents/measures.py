"""Measured values in a sentence: times, dates, durations, money, percentages, numbers, versions.

Each value keeps its exact words (`raw`) and a normal form that can be compared: minutes of the
day, seconds, ISO dates, decimals with a unit. A reader takes text and yields what it finds;
`values` decides their order and blanks what each has read.

Dates that could be read in two ways (03/04/2026) keep no normal form, and are not compared.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from handlers.documents.words import STOP_WORDS, key

UNIT_WORDS_MAX = 3
MONTHS, DAYS_MAX, HOURS = 12, 31, 24

_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan,february feb,march mar,april apr,may,june jun,july jul,august aug,"
            "september sept sep,october oct,november nov,december dec"
        ).split(","),
        start=1,
    )
    for name in names.split()
}
_UNIT_NUMBERS = {
    word: number
    for number, word in enumerate(
        (
            "zero one two three four five six seven eight nine ten eleven twelve thirteen "
            "fourteen fifteen sixteen seventeen eighteen nineteen"
        ).split()
    )
}
_TENS = {
    word: number
    for number, word in zip(
        range(20, 100, 10),
        "twenty thirty forty fifty sixty seventy eighty ninety".split(),
        strict=True,
    )
}
_MULTIPLES = {"dozen": 12, "hundred": 100}
_WORD_NUMBERS = _UNIT_NUMBERS | _TENS | _MULTIPLES
_SCALES = {
    "thousand": 1_000,
    "k": 1_000,
    "million": 1_000_000,
    "m": 1_000_000,
    "mn": 1_000_000,
    "billion": 1_000_000_000,
    "bn": 1_000_000_000,
}
_SECONDS = {"second": 1, "sec": 1, "s": 1, "minute": 60, "min": 60, "m": 60, "hour": 3600}
_SECONDS |= {"hr": 3600, "h": 3600, "day": 86_400, "d": 86_400, "week": 604_800}
_SECONDS |= {"month": 2_592_000, "year": 31_536_000, "millisecond": 0, "ms": 0}
_ZONES = {"UTC": 0, "GMT": 0, "Z": 0, "BST": 60, "CET": 60, "CEST": 120, "EET": 120, "EEST": 180}
_ZONES |= {"EST": -300, "EDT": -240, "CST": -360, "CDT": -300, "PST": -480, "PDT": -420}
_CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_UNITS = "|".join(sorted(_UNIT_NUMBERS, key=len, reverse=True))
_COUNT_WORD = (
    rf"(?:(?:(?:{'|'.join(_TENS)})(?:[ -](?:{_UNITS}))?|{_UNITS})(?: (?:hundred|dozen))?"
    r"|hundred|dozen)"
)
AMOUNT = r"(?:\d{1,3}(?:[,\u00a0\u202f' ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
_SCALE = r"(?:[ -]?(?P<scale>thousand|million|billion|mn|bn|[kKmM](?![\w²³])))?"
_ISO_CURRENCY = r"USD|EUR|GBP|CHF|JPY|CAD|AUD"
_SPAN_UNIT = (
    r"(?:milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|months?"
    r"|years?)(?![^\W\d]|[²³/]|[23]\b)"
)
_HALF = r" and a (?:half|quarter)"
_SPAN_NUMBER = (
    rf"(?:{AMOUNT}(?:{_HALF})?[ -]?|\d*[½¼¾] ?"
    rf"|(?:half an?|a quarter of an|an?|{_COUNT_WORD}(?:{_HALF})?)[ -])"
)

_MONEY = re.compile(
    rf"(?:(?P<sign>(?<!\w)[-−–])?(?P<symbol>[$€£¥])\s?|\b(?P<before>{_ISO_CURRENCY})\s?)(?P<amount>{AMOUNT}){_SCALE}"
    rf"|(?P<amount2>{AMOUNT})(?:[ -]?(?P<scale2>thousand|million|billion))?"
    rf"\s?(?P<after>[€£]|(?:{_ISO_CURRENCY}|euros?|dollars|pounds)\b)"
)
SIGN = r"(?P<sign>(?<![\w.,/)%°-])(?:[-−–]|minus )(?=\w))?"
_PERCENT = re.compile(
    rf"{SIGN}(?P<amount>{AMOUNT}|\b(?:{_COUNT_WORD}))"
    r"\s?(?:%|per ?cent\b)(?P<points>[ -]points?)?"
)
_VERSION = re.compile(
    r"\b(?:(?i:version|release)\s+v?(?P<named>\d+(?:\.\d+)*)|v(?P<short>\d+(?:\.\d+)*)"
    r"|(?P<dotted>\d+\.\d+\.\d+(?:[-+][\w.]+)?))\b(?!\.\d)"
)
_ISO_DATE = re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})(?:T(?=\d)|\b)")
_DAY_FIRST = re.compile(
    rf"\b(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\.?\s+(?:of\s+)?(?P<m>{_MONTH})\b\.?"
    r"(?:,?\s+(?P<y>\d{4}))?",
    re.IGNORECASE,
)
_MONTH_FIRST = re.compile(
    rf"\b(?P<m>{_MONTH})\.?\s+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?\b(?!:)(?:,?\s+(?P<y>\d{{4}}))?",
    re.IGNORECASE,
)
_YEAR_ONLY = re.compile(
    r"\b(?:in|since|until|of|by|before|after|year)\s+(?P<y>(?:19|20)\d\d)\b(?![-.,:]?\d|\s\w+s\b)"
)
_MONTH_ONLY = re.compile(rf"\b(?P<m>{_MONTH})\s+(?P<y>\d{{4}})\b", re.IGNORECASE)
_SLASHED = re.compile(r"\b\d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b")
_WEEKDAY = re.compile(r"\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b")
_TIME = re.compile(
    r"(?<![\d:.])(?P<h>[01]?\d|2[0-4])"
    r"(?:(?P<sep>[:.h])(?P<min>[0-5]\d)(?::(?P<sec>[0-5]\d)(?:\.\d+)?)?)?"
    r"\s?(?P<half>[ap](?:m\b|\.m\b\.?))?(?:\s?h(?:rs|ours)?\b)?"
    r"(?:\s?(?P<zone>UTC|GMT|Z|BST|CES?T|EES?T|E[SD]T|C[SD]T|P[SD]T)\b)?"
    r"(?P<offset>[+-]\d{2}:?\d{2})?(?!\d|:\d)",
    re.IGNORECASE,
)
_NAMED_TIME = re.compile(r"\b(?:noon|midday|midnight)\b", re.IGNORECASE)
_DURATION = re.compile(
    rf"(?<![\w.,])(?P<all>{_SPAN_NUMBER}{_SPAN_UNIT}(?:{_HALF})?"
    rf"(?:(?:,?\s+and|,)?\s*(?:{AMOUNT}[ -]?|{_COUNT_WORD} ){_SPAN_UNIT})*)",
    re.IGNORECASE,
)
_SPAN = re.compile(
    rf"(?P<number>{_SPAN_NUMBER}|{_COUNT_WORD} )(?P<unit>{_SPAN_UNIT})"
    rf"(?P<more>{_HALF})?",
    re.IGNORECASE,
)
_PARTS = {"half": "0.5", "quarter": "0.25", "½": "0.5", "¼": "0.25", "¾": "0.75"}
_GRADE = re.compile(r"\b(?P<scale>SEV|P|Severity|Priority)[- ]?(?P<grade>[0-5])\b", re.IGNORECASE)
_SEVERITY_WORD = re.compile(
    r"\bseverity\b[^.;\d]{0,40}?\b(?P<word>low|minor|medium|moderate|high|major|severe|critical)\b"
    r"|\b(?P<word2>low|minor|medium|moderate|high|major|severe|critical)[- ]severity\b",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"\b(?:[A-Z]{1,8}-\d[\w-]*|\d+(?:\.\d+){3}|[0-9a-f]{8}-[0-9a-f-]{27})\b")
_NUMBER = re.compile(
    rf"{SIGN}(?<![\w.,/])(?<!\w-)(?<![\d%°][-–])(?P<amount>(?:{AMOUNT})(?![\d.,]*\d|[-–]\d)"
    rf"|(?i:{_COUNT_WORD})\b|(?:[Nn]o|[Nn]one of the)\b)"
    rf"(?! (?:longer|later|one)\b){_SCALE}(?![:/]\d|st\b|nd\b|rd\b|th\b)"
)
_NOBODY = re.compile(r"\b(?P<raw>nobody|no one|no-one)\b", re.IGNORECASE)
_ANY_COUNT = rf"(?:{AMOUNT}|{_COUNT_WORD})"
_BETWEEN = re.compile(rf"\bbetween {_ANY_COUNT} and {_ANY_COUNT}\b", re.IGNORECASE)
_COUNTED_BEFORE = re.compile(r"(?<!\bone)(?<!\bno) (?:were|had|of (?:them|these|whom))\b")
_OF_TOTAL = re.compile(rf" (?:out )?of (?:the |all )?{AMOUNT}(?= )")
_PART_OF = re.compile(r" of(?! (?:them|these|whom)\b)")
_UNIT_WORD = re.compile(r"[ -]?([^\W\d_][\w²³'’-]*|%)")
_QUALIFIERS = (
    (
        "approx",
        re.compile(
            r"(?:about|around|approx(?:\.|imately)?|roughly|some|nearly|almost"
            r"|circa|ca\.|~|close to|an estimated)\s*$",
            re.IGNORECASE,
        ),
    ),
    (
        "min",
        re.compile(
            r"(?:more than|over|at least|above|upwards of|no fewer than|>)\s*$", re.IGNORECASE
        ),
    ),
    (
        "max",
        re.compile(
            r"(?:less than|fewer than|under|below|at most|up to|within|no more than|<)\s*$",
            re.IGNORECASE,
        ),
    ),
)


@dataclass(frozen=True)
class Value:
    """A typed value; `amount` is set if it can be measured, `unit` holds keys of what is counted.

    Units of `amount`: minutes of the day (time), seconds (duration), else as written. `at` is the
    position in the plain sentence, `about` the keys that say what the value belongs to, where the
    pattern itself knows (the effect of a cause, the role of a name).
    """

    kind: str
    raw: str
    normal: str
    at: int
    amount: Decimal | None = None
    unit: tuple[str, ...] = ()
    qualifier: str = ""
    about: tuple[str, ...] = ()


def qualifier_of(text: str, at: int) -> str:
    """How exact the value at a place is: `approx`, a bound (`min`, `max`), or nothing."""
    before = text[max(0, at - 20) : at]
    return next((name for name, pattern in _QUALIFIERS if pattern.search(before)), "")


def decimal_of(amount: str, scale: str | None = None) -> Decimal:
    """The number that figures or words write; `no` is zero."""
    lowered = amount.lower()
    if lowered[0].isalpha() and not lowered.startswith("no"):
        number = Decimal(_word_number(lowered))
    elif lowered.startswith("no"):
        number = Decimal(0)
    else:
        number = Decimal(re.sub(r"[,\u00a0\u202f' ]", "", amount))
    return number * _SCALES[scale.lower()] if scale else number


def _word_number(words: str) -> int:
    """`twenty-five`, `two hundred`, `three dozen`."""
    number = 0
    for word in re.split("[ -]", words):
        multiple = _MULTIPLES.get(word)
        number = (number or 1) * multiple if multiple else number + _WORD_NUMBERS.get(word, 0)
    return number


def shown(number: Decimal) -> str:
    """A number without needless zeros or an exponent."""
    return f"{number.normalize():f}"


def _money(text: str) -> Iterator[Value]:
    for m in _MONEY.finditer(text):
        symbol = m["symbol"] or m["before"] or m["after"]
        written = {"euro": "EUR", "euros": "EUR", "dollars": "USD", "pounds": "GBP"}
        currency = _CURRENCIES.get(symbol) or written.get(symbol) or symbol
        scale = m["scale"] or m["scale2"]
        amount = decimal_of(m["amount"] or m["amount2"], scale) * (-1 if m["sign"] else 1)
        qualifier = qualifier_of(text, m.start())
        normal = f"{currency} {shown(amount)}"
        yield Value("money", m[0].strip(), normal, m.start(), amount, (currency,), qualifier)


def _percents(text: str) -> Iterator[Value]:
    for m in _PERCENT.finditer(text):
        amount = decimal_of(m["amount"]) * (-1 if m["sign"] else 1)
        qualifier = qualifier_of(text, m.start())
        unit = ("points",) if m["points"] else ()
        yield Value("percent", m[0], f"{shown(amount)} %", m.start(), amount, unit, qualifier)


def _versions(text: str) -> Iterator[Value]:
    for m in _VERSION.finditer(text):
        number = m["named"] or m["short"] or m["dotted"]
        yield Value("version", m[0], number, m.start())


def _dates(text: str) -> Iterator[Value]:
    for pattern in (_ISO_DATE, _DAY_FIRST, _MONTH_FIRST):
        for m in pattern.finditer(text):
            month = _MONTHS.get(m["m"].lower()) or int(m["m"])
            if 1 <= month <= MONTHS and 1 <= int(m["d"]) <= DAYS_MAX:
                normal = f"{m['y'] or '-'}-{month:02d}-{int(m['d']):02d}"
                yield Value("date", m[0].rstrip("T"), normal, m.start())
        text = pattern.sub(lambda match: " " * len(match[0]), text)
    for m in _MONTH_ONLY.finditer(text):
        yield Value("date", m[0], f"{m['y']}-{_MONTHS[m['m'].lower()]:02d}", m.start())
    for m in _YEAR_ONLY.finditer(text):
        yield Value("date", m["y"], m["y"], m.start("y"))
    for m in _SLASHED.finditer(text):
        yield Value("date", m[0], "", m.start())
    for m in _WEEKDAY.finditer(text):
        yield Value("weekday", m[0], m[0].lower(), m.start())


def _times(text: str) -> Iterator[Value]:
    for m in _TIME.finditer(text):
        dotted = m["sep"] in {".", "h"} and not (m["half"] or m["zone"])
        if dotted or not (m["min"] or m["half"]) or int(m["h"]) + bool(m["half"]) > HOURS:
            continue
        minutes = Decimal(int(m["h"]) * 60 + int(m["min"] or 0))
        half = (m["half"] or "").lower()[:1]
        if half and int(m["h"]) <= HOURS // 2:
            minutes = minutes % 720 + (720 if half == "p" else 0)
        yield _time(m[0].strip(), m.start(), minutes, _zone(m), qualifier_of(text, m.start()))
    for m in _NAMED_TIME.finditer(text):
        minutes = Decimal(0 if m[0].lower() == "midnight" else 720)
        yield _time(m[0], m.start(), minutes, None, "")


def _zone(m: re.Match[str]) -> int | None:
    """The offset from UTC in minutes, if the time names one."""
    if offset := m["offset"]:
        minutes = int(offset[1:3]) * 60 + int(offset[-2:])
        return -minutes if offset[0] == "-" else minutes
    return _ZONES[m["zone"].upper()] if m["zone"] else None


def _time(raw: str, at: int, minutes: Decimal, zone: int | None, qualifier: str) -> Value:
    normal = f"{int(minutes) // 60:02d}:{int(minutes) % 60:02d}"
    unit = () if zone is None else (str(zone),)
    return Value("time", raw, normal, at, minutes, unit, qualifier)


def _durations(text: str) -> Iterator[Value]:
    for m in _DURATION.finditer(text):
        seconds = Decimal(0)
        for span in _SPAN.finditer(m["all"]):
            count = _span_count(span["number"].lower().strip(" -"))
            count += _part(span["more"])
            name = span["unit"].lower()
            seconds += count * _SECONDS[name if name in _SECONDS else name.rstrip("s")]
        if seconds:
            qualifier = qualifier_of(text, m.start())
            normal = f"{shown(seconds)} s"
            yield Value("duration", m["all"], normal, m.start(), seconds, (), qualifier)


def _span_count(number: str) -> Decimal:
    """How many units a span has: `3`, `two and a half`, `an`, `half an`, `2½`."""
    whole = re.sub(r"(?: and)? ?\b(?:a )?(?:half|quarter)\b(?: of)?(?: an?)?|[½¼¾]", "", number)
    part = _part(number)
    if whole in {"a", "an"}:
        return 1 + part
    return (decimal_of(whole) if whole else Decimal(0)) + part


def _part(text: str | None) -> Decimal:
    return next((Decimal(part) for name, part in _PARTS.items() if name in (text or "")), Decimal())


def _severities(text: str) -> Iterator[Value]:
    for m in _GRADE.finditer(text):
        scale = "priority" if m["scale"].lower().startswith("p") else "severity"
        yield Value("severity", m[0], m["grade"], m.start(), unit=(scale,))
    for m in _SEVERITY_WORD.finditer(text):
        word = m["word"] or m["word2"]
        at = m.start("word") if m["word"] else m.start("word2")
        yield Value("severity", word, word.lower(), at, unit=("word",))


def _identifiers(text: str) -> Iterator[Value]:
    for m in _IDENTIFIER.finditer(text):
        yield Value("identifier", m[0], m[0], m.start())


def _numbers(text: str) -> Iterator[Value]:
    for m in _NOBODY.finditer(text):
        yield Value("number", m[0], "0", m.start(), Decimal(0), ("person",))
    text = _BETWEEN.sub(lambda between: " " * len(between[0]), text)
    for m in _NUMBER.finditer(text):
        if m["amount"].isalpha() and _PART_OF.match(text, m.end()):
            continue
        total = _OF_TOTAL.match(text, m.end())
        unit_end = total.end() if total else m.end()
        words, unit_end = _counted(text, unit_end)
        if m["amount"].isalpha() and not words and not _COUNTED_BEFORE.match(text, m.end()):
            continue
        amount = decimal_of(m["amount"], m["scale"]) * (-1 if m["sign"] else 1)
        raw = text[m.start() : unit_end]
        yield Value(
            "number",
            raw,
            shown(amount),
            m.start(),
            amount,
            tuple(key(word) for word in words),
            qualifier_of(text, m.start()),
        )


def _counted(text: str, at: int) -> tuple[list[str], int]:
    """The nouns that a number counts, from `at` on, and where they end."""
    words: list[str] = []
    while (w := _UNIT_WORD.match(text, at)) and len(words) < UNIT_WORDS_MAX:
        stop = w[1].lower() in STOP_WORDS and w[1].lower() != "of"
        if stop or (words and w[1].endswith("ed")):
            break
        at = w.end()
        words += [] if w[1].lower() == "of" else [w[1]]
    return words, at


READERS: tuple[Callable[[str], Iterator[Value]], ...] = (
    _severities,
    _identifiers,
    _money,
    _percents,
    _dates,
    _versions,
    _times,
    _durations,
    _numbers,
)
