"""Mentions in a sentence: names and the roles they have, quotations, and causes with effects.

These values have no measure. Where the sentence itself says what a value belongs to (`led by X`,
`the delay was caused by Y`), that is kept in `about`, and only such values are ever compared.
"""

import re
from collections.abc import Iterator

from handlers.documents.measures import Value
from handlers.documents.words import keys_of

_CONJUNCTION = r"\s+(?:which|that|who|after|when|while|where|so|but|and|before|during|in which)\b"
_NAME = (
    r"(?:(?:Dr|Prof|Mr|Mrs|Ms)\.?\s+)?[A-ZÀ-Þ][\w'’-]+"
    r"(?:\s+(?:van|von|de|der)|\s+[A-ZÀ-Þ]\.?)*(?:\s+[A-ZÀ-Þ][\w'’-]+)+"
)
_ROLES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"^(?P<role>[A-ZÀ-Þ][^:.;]{{2,40}}):\s+(?P<name>{_NAME})\s*$",
        rf"(?P<name>{_NAME}),?\s+(?:acted|served|worked|was appointed|was named)\s+as\s+"
        r"(?:the\s+|an?\s+)?"
        r"(?P<role>[\w-]+(?: [\w-]+)?)",
        rf"\b(?P<role>[\w-]+(?: [\w-]+)?)\s+(?:was|is)\s+(?P<name>{_NAME})",
        rf"\b(?P<role>[\w-]+ed|led|run|written|chaired)\s+by\s+(?P<name>{_NAME})",
        rf"(?P<name>{_NAME}) (?P<role>led|chaired|supervised|approved|reported|commanded|headed)\b",
        rf"(?P<name>{_NAME}), (?:the|our) (?P<role>[\w-]+(?: [\w-]+){{0,2}}),",
    )
)
_QUOTED = re.compile(r"[“\"«](?P<raw>[^“”\"«»]{2,80})[”\"»]")
_CAPITALISED = re.compile(rf"(?<=[\w,;:(] )(?:{_NAME}|[A-ZÀ-Þ][\w'’-]*[a-z]\w*)")
_CAUSES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?P<effect>.*?)\b(?:was|were|is|been|being)?\s*"
        r"(?:directly |probably |most likely |initially )?"
        r"(?:caused|triggered|provoked|brought about|induced) by (?P<cause>.+)",
        r"(?P<effect>.*?)(?:\(?root[ -]cause\)?|\bcause\b|\breason\b)"
        r"(?P<effect2>(?: (?:of|for) [^:.;]{3,60}?)?)"
        r"(?:\s+(?:was|is|turned out to be|"
        r"has been identified as|appears to (?:be|have been))|:)\s*"
        r"(?P<cause>(?!under\b|still\b|not\b|being\b|unknown\b).+)",
        r"(?P<effect>.*?)\b(?:due to|because of|owing to|as a result of|resulted from|stemmed from|"
        r"arose from|attributed to|traced (?:back )?to|down to)\s+(?P<cause>.+)",
        r"(?P<cause>.+?)\s+(?:caused|led to|resulted in|triggered|set off)\s+(?P<effect>.+)",
    )
)
_CAUSE_END = re.compile(
    rf"[.;:()]|,(?! \w+ed\b)|{_CONJUNCTION}|\s+(?:had|has|have) (?:been )?\w+ed\b", re.IGNORECASE
)


def quotations(text: str) -> Iterator[Value]:
    """What stands in quotation marks."""
    for m in _QUOTED.finditer(text):
        yield Value("quoted", m["raw"], m["raw"].casefold(), m.start("raw"))


def roles(text: str) -> Iterator[Value]:
    """Names whose role the sentence states: `led by X`, `X acted as …`, `Owner: X`."""
    seen: set[str] = set()
    for pattern in _ROLES:
        for m in pattern.finditer(text):
            name = re.sub(r"^(?:Dr|Prof|Mr|Mrs|Ms)\.?\s+", "", m["name"])
            if name not in seen and (about := keys_of(m["role"])):
                seen.add(name)
                yield Value("name", m["name"], name.casefold(), m.start("name"), about=about)


def names(text: str, found: list[Value]) -> Iterator[Value]:
    """Other capitalised names; without a known role they are recorded, not compared."""
    taken = [(v.at, v.at + len(v.raw)) for v in found if v.kind in {"name", "quoted"}]
    for m in _CAPITALISED.finditer(text):
        if not any(start < m.end() and m.start() < end for start, end in taken):
            yield Value("name", m[0], m[0].casefold(), m.start())


def causes(text: str) -> Iterator[Value]:
    """What the sentence names as a cause."""
    for pattern in _CAUSES:
        if (m := pattern.match(text)) and (value := _cause(m)):
            yield value
            return


def _cause(m: re.Match[str]) -> Value | None:
    forward = m.start("cause") > m.start("effect")
    end = _CAUSE_END.search(m["cause"], 4) if forward else None
    raw = (m["cause"][: end.start()] if end else m["cause"]).strip(" .,")
    raw = raw if forward else raw.rpartition(" that ")[2]
    groups = m.groupdict()
    about = keys_of(groups["effect"] + " " + (groups.get("effect2") or ""))
    keys = keys_of(raw)
    if not keys:
        return None
    return Value("cause", raw, " ".join(keys), m["cause"].find(raw) + m.start("cause"), about=about)
