"""Words of questions and of tables, brought to forms that can be compared.

"Failed", "FAILURE" and "failing" share the stem "fail"; `orderAmount` and "Order amount" share
their words; "revenue" may stand for a column named "sales", never for one named "cost". The stems
are light on purpose: both sides of every comparison go through the same rules, so a stem only has
to be the same, not to be a word.
"""

# The lengths in the rules of stems have no meaning beyond their rule:
# ruff: noqa: PLR2004, PLR0911

import re
from dataclasses import dataclass

CURLY = "\u2019"
_TOKEN = re.compile(
    rf"\d{{4}}-\d\d-\d\d|\d+(?:[.,]\d+)*|[^\W\d_]+(?:['{CURLY}][^\W\d_]+)?|[<>]=?|="
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|_")
_IRREGULAR = {
    "paid": "pay", "unpaid": "unpay", "sold": "sell", "won": "win", "lost": "lose", "sent": "send",
    "left": "leave", "people": "person", "staff": "employee", "qty": "quantity", "amt": "amount",
    "dept": "department", "temp": "temperature", "avg": "average", "cust": "customer", "men": "man",
    "women": "woman", "children": "child", "data": "data", "sales": "sale", "shipped": "ship",
}  # fmt: skip
_ENDINGS = (("ations", 4), ("ation", 4), ("ures", 4), ("ure", 4), ("ions", 5), ("ion", 5),
            ("ings", 4), ("ing", 4), ("ed", 4))  # fmt: skip

_AMOUNT = {"amount", "total", "value", "sum", "price", "revenu", "sale", "cost", "turnover",
           "pay", "payment", "fee", "charge", "expens", "spend", "worth", "money"}  # fmt: skip
_REVENUE = {"revenu", "sale", "turnover", "income", "amount", "total", "value"}
_COST = {"cost", "expens", "spend", "amount", "total", "price", "value"}
_ALIKE = (
    {"region", "area", "territory", "zone"},
    {"customer", "client", "buyer", "account"},
    {"employe", "worker", "person", "name", "staff"},
    {"salary", "wage", "pay", "compens", "earn"},
    {"product", "item", "article", "sku", "good"},
    {"quantity", "unit", "stock", "piece"},
    {"category", "type", "kind", "class"},
    {"status", "state", "outcome", "result"},
    {"department", "team", "division"},
    {"country", "nation"},
    {"agent", "assigne", "owner", "handler"},
    {"warehouse", "depot"},
    {"sensor", "device", "station", "probe"},
    {"supplier", "vendor"},
    {"store", "shop", "branch"},
    {"city", "town"},
    {"date", "day"},
    {"duration", "time", "length"},
)
# What a word of a question may stand for in the name of a column.
STANDS_FOR: dict[str, set[str]] = {}


@dataclass(frozen=True)
class Word:
    """A word of a question with its place in the text."""

    text: str
    lower: str
    stem: str
    start: int
    end: int


def stem(word: str) -> str:
    """The comparable form of one word."""
    word = word.casefold().replace(CURLY, "'").removesuffix("'s")
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if not word.isalpha() or len(word) < 4:
        return word
    for ending, kept in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= kept:
            return _tidied(word.removesuffix(ending))
    if word.endswith("ies"):
        return _tidied(word[:-3] + "y")
    if re.search(r"(?:ss|x|z|ch|sh|us)es$", word):
        return _tidied(word[:-2])
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return _tidied(word[:-1])
    return _tidied(word)


def _tidied(word: str) -> str:
    """Drop what endings leave behind: a doubled consonant, a last e, a y after a long stem."""
    if len(word) > 4 and word[-1] == word[-2] and (word[-1] not in "lsz" or len(word) > 6):
        word = word[:-1]
    if len(word) > 4 and word.endswith("e"):
        word = word[:-1]
    return word[:-1] if len(word) > 7 and word.endswith("y") else word


def words(text: str) -> list[Word]:
    """The words, numbers and comparison signs of a text."""
    return [
        Word(
            m.group(), m.group().casefold().replace(CURLY, "'"), stem(m.group()), m.start(), m.end()
        )
        for m in _TOKEN.finditer(text)
    ]


def name_stems(name: str) -> tuple[str, ...]:
    """The stems of a column's name, cut at underscores, capitals and digits."""
    return tuple(word.stem for word in words(_CAMEL.sub(" ", name)))


for _group in _ALIKE:
    for _name in _group:
        STANDS_FOR.setdefault(stem(_name), set()).update(stem(n) for n in _group)
for _name in ("amount", "total", "value", "sum", "money", "worth"):
    STANDS_FOR.setdefault(stem(_name), set()).update(_AMOUNT)
for _name in ("revenue", "sale", "turnover", "income"):
    STANDS_FOR.setdefault(stem(_name), set()).update(_REVENUE)
for _name in ("cost", "expense", "spend", "spent"):
    STANDS_FOR.setdefault(stem(_name), set()).update(_COST)
STANDS_FOR.setdefault("price", set()).update({"price", "amount", "cost", "value"})
