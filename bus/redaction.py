"""What must not be told: secrets, cut out of everything that a process writes about itself.

By the name of the field, whatever its value; and by form, wherever in a text: our own credentials
(their public id stays, so that one can be found and revoked), JWTs, passwords in addresses, header
values, private keys, assignments such as `password=…`, and keys of known providers. Each pattern
is bounded or has one repetition, so a hostile text costs linear time.
"""

import re
from typing import Any

REDACTED = "[redacted]"
DEPTH_MAX = 8
NAMES = re.compile(
    r"password|passphrase|secret|token$|authorization|api[-_]?key|x-principal|cookie|"
    r"private[-_]?key|master[-_]?key|nkey|seed$",
    re.IGNORECASE,
)
FORMS = (
    (re.compile(r"\b(s[a-z]_[0-9A-Za-z]{8,32})_[A-Za-z0-9_-]{16,128}"), r"\1_" + REDACTED),
    (re.compile(r"\beyJ[\w-]{4,8192}\.[\w-]{4,8192}\.?[\w-]{0,1024}"), REDACTED),
    (re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]{1,20}://[^\s/:@]{0,200}):[^\s/@]{1,500}@"),
     r"\1:" + REDACTED + "@"),
    (re.compile(r"\b(bearer|basic)\s{1,4}[\w.~+/=-]{6,8192}", re.IGNORECASE), r"\1 " + REDACTED),
    (re.compile(r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]{0,8192}(?:-----END[^\n]{0,60})?"),
     REDACTED),
    (re.compile(r"\b(password|passwd|secret|token|api[-_]?key)(['\"]?\s{0,3}[=:]\s{0,3}['\"]?)"
                r"[^\s'\",;&]{1,500}", re.IGNORECASE), r"\1\2" + REDACTED),
    (re.compile(r"\b(?:sk-|hvs\.|s\.|ghp_|xox[a-z]-|AKIA)[\w-]{16,256}"), REDACTED),
    (re.compile(r"\bS[UANCOX][A-Z2-7]{56}\b"), REDACTED),
)  # fmt: skip


def text(told: str) -> str:
    """The text without what looks like a secret."""
    for form, instead in FORMS:
        told = form.sub(instead, told)
    return told


def value(told: Any, depth: int = 0) -> Any:
    """The same value, redacted to any depth that a log line has."""
    if told is None or isinstance(told, bool | int | float):
        return told
    if isinstance(told, dict | list | tuple | set | frozenset):
        return REDACTED if depth >= DEPTH_MAX else within(told, depth + 1)
    return text(told.decode(errors="replace") if isinstance(told, bytes) else str(told))


def within(told: Any, depth: int) -> Any:
    """What a mapping or a collection holds."""
    if isinstance(told, dict):
        return {name: field(name, one, depth) for name, one in told.items()}
    return [value(one, depth) for one in told]


def field(name: Any, told: Any, depth: int = 0) -> Any:
    """The value of a field; nothing of it when its name says that it is secret."""
    if isinstance(name, str) and NAMES.search(name) and told is not None:
        return REDACTED
    return value(told, depth)
