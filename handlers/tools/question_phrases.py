"""Periods and numeric comparisons in a question, found by their own grammar.

Both are read from the text before anything else, so that "in March 2026" is never taken for a
value and "at least 5" never for a count. Periods are half-open: `first <= day < after`. Words that
need a clock ("last month") are not read: the compiler is pure and refuses them.
"""

import datetime as dt
import re
from dataclasses import dataclass

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH = (
    r"(?P<month{n}>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DATE = (
    r"(?:(?:the\s+)?(?P<iso{n}>\d{{4}}-\d\d-\d\d)"
    r"|(?P<ym{n}>\d{{4}}-\d\d)(?!\d|-)"
    r"|(?:(?P<day{n}>\d{{1,2}})(?:st|nd|rd|th)?\s+(?:of\s+)?)?"
    + _MONTH
    + r"(?:\s+(?P<late{n}>\d{{1,2}})(?:st|nd|rd|th)?(?!\d))?(?:,?\s+(?P<year{n}>\d{{4}}))?"
    r"|(?:q(?P<quarter{n}>[1-4])\s+)(?P<qyear{n}>\d{{4}})"
    r"|(?P<only{n}>(?:19|20)\d\d)(?![\d.,-]*\d))"
)
_ONE, _TWO = _DATE.format(n=1), _DATE.format(n=2)
_PERIODS = (
    ("between", rf"\b(?:between|from)\s+{_ONE}\s+(?:and|to|until|through|till)\s+{_TWO}"),
    ("before", rf"\b(?:before|earlier than|prior to)\s+{_ONE}"),
    ("after", rf"\b(?:after|later than)\s+{_ONE}"),
    ("since", rf"\b(?:since|from|starting|as of)\s+{_ONE}"),
    ("until", rf"\b(?:until|till|through|up to|by the end of)\s+{_ONE}"),
    (
        "in",
        rf"\b(?:in|on|during|for|of|within|throughout)\s+(?:the\s+)?(?:year\s+|month of\s+)?{_ONE}",
    ),
)
_NUMBER = r"(?:[$€£¥]|usd\s|eur\s)?\s*(-?\d[\d,]*(?:\.\d+)?)(?![\d-])\s*(?:%|€|[$£¥])?"
_MORE = r"(?:more|greater|larger|higher|bigger|longer) than"
_LESS = r"(?:less|fewer|smaller|lower|shorter|cheaper) than"
_AT_LEAST = r"\bat least|\ba minimum of|\b(?:no|not) (?:less|fewer) than|>="
_AT_MOST = r"\bat most|\ba maximum of|\b(?:no|not) (?:more|greater) than|\bup to|<="
_COMPARISONS = (
    ("between", rf"\b(?:between|from)\s+{_NUMBER}\s+(?:and|to)\s+{_NUMBER}"),
    (">=", rf"(?:{_AT_LEAST})\s*{_NUMBER}"),
    ("<=", rf"(?:{_AT_MOST})\s*{_NUMBER}"),
    (">", rf"(?:\bover|\babove|\b{_MORE}|\bexceed(?:s|ed|ing)?|>)\s*{_NUMBER}"),
    ("<", rf"(?:\bunder|\bbelow|\b{_LESS}|<)\s*{_NUMBER}"),
    (">=", rf"{_NUMBER}\s+or (?:more|above|higher|greater)\b"),
    ("<=", rf"{_NUMBER}\s+or (?:less|fewer|below|lower)\b"),
    ("=", rf"(?:\bexactly|\bequal to|\bequals|(?<![<>])=)\s*{_NUMBER}"),
)


@dataclass(frozen=True)
class Period:
    """Days in question; `first` or `after` is None where it is open; the year may be unsaid."""

    start: int
    end: int
    text: str
    first: dt.date | None
    after: dt.date | None
    year_said: bool


@dataclass(frozen=True)
class Comparison:
    """A comparison with one number, or with two for `between` (both ends included)."""

    start: int
    end: int
    text: str
    operator: str
    numbers: tuple[str, ...]


def periods(question: str, year_unsaid: int | None) -> list[Period]:
    """All periods; `year_unsaid` is used for a month without a year."""
    found: list[Period] = []
    for kind, pattern in _PERIODS:
        for match in re.finditer(pattern, question, re.IGNORECASE):
            if any(match.start() < p.end and p.start < match.end() for p in found):
                continue
            period = _period(kind, match, year_unsaid)
            if period:
                found.append(period)
    return found


def _period(kind: str, match: re.Match[str], year_unsaid: int | None) -> Period | None:
    one = _days(match, "1", year_unsaid)
    two = _days(match, "2", year_unsaid) if kind == "between" else None
    if one is None or (kind == "between" and two is None):
        return None
    first, after = one
    bounds: dict[str, tuple[dt.date | None, dt.date | None]] = {
        "in": (first, after),
        "since": (first, None),
        "after": (after, None),
        "before": (None, first),
        "until": (None, after),
        "between": (first, two[1] if two else None),
    }
    groups = match.groupdict()
    said = any(groups.get(f"{k}1") for k in ("iso", "ym", "year", "qyear", "only"))
    return Period(match.start(), match.end(), match.group(), *bounds[kind], said)


def _days(match: re.Match[str], n: str, year_unsaid: int | None) -> tuple[dt.date, dt.date] | None:
    """The first day that a date phrase names, and the first day after it."""
    part = {key[:-1]: value for key, value in match.groupdict().items() if key.endswith(n)}
    try:
        if part["iso"]:
            day = dt.date.fromisoformat(part["iso"])
            return day, day + dt.timedelta(days=1)
        if part["ym"]:
            return _months(int(part["ym"][:4]), int(part["ym"][5:]), 1)
        if part["only"]:
            return _months(int(part["only"]), 1, 12)
        if part["quarter"]:
            return _months(int(part["qyear"]), 3 * int(part["quarter"]) - 2, 3)
        return _named_month(part, year_unsaid)
    except ValueError:
        return None


def _named_month(
    part: dict[str, str | None], year_unsaid: int | None
) -> tuple[dt.date, dt.date] | None:
    year = int(part["year"] or year_unsaid or 0)
    if not year:
        return None
    month = _MONTHS.index(str(part["month"]).lower()[:3]) + 1
    day = part["day"] or part["late"]
    if day is None:
        return _months(year, month, 1)
    date = dt.date(year, month, int(day))
    return date, date + dt.timedelta(days=1)


def _months(year: int, month: int, count: int) -> tuple[dt.date, dt.date]:
    last = year * 12 + month - 1 + count
    return dt.date(year, month, 1), dt.date(last // 12, last % 12 + 1, 1)


def comparisons(question: str, taken: list[Period]) -> list[Comparison]:
    """All numeric comparisons outside the periods."""
    found: list[Comparison] = []
    for operator, pattern in _COMPARISONS:
        for match in re.finditer(pattern, question, re.IGNORECASE):
            spans: list[Period | Comparison] = [*taken, *found]
            if any(match.start() < s.end and s.start < match.end() for s in spans):
                continue
            numbers = tuple(n.replace(",", "") for n in match.groups() if n)
            found.append(Comparison(match.start(), match.end(), match.group(), operator, numbers))
    return found
