"""Typed values: the times, amounts, names and causes that a sentence states.

Readers run from the most to the least specific, and each one's finds are blanked for the next, so
that `2026-05-04 22:10 UTC` is a date and a time and never a number.
"""

import re

from handlers.documents import mentions, quantities
from handlers.documents.measures import READERS, Value

__all__ = ["Value", "values_of"]

_URL = re.compile(r"https?://\S+|\b[\w.+-]+@[\w-]+\.\w+")


def values_of(plain: str) -> list[Value]:
    """All typed values of a sentence without markup, in order of appearance."""
    found = [*mentions.causes(plain), *mentions.roles(plain)]
    rest = _URL.sub(lambda match: " " * len(match[0]), plain)
    for reader in (*READERS[:-1], mentions.quotations, quantities.read, READERS[-1]):
        read = list(reader(rest))
        for value in read:
            end = value.at + len(value.raw)
            rest = rest[: value.at] + "\x1f" * len(value.raw) + rest[end:]
        found += read
    found += mentions.names(rest, found)
    return sorted(found, key=lambda value: value.at)
