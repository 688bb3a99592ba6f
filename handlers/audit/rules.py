"""The chain of the audit log: each entry's hash covers its fields and the hash before it. Pure."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC

from schemas.audit import AuditEntry, ChainVerdict, Noted

BEGINNING = "0" * 64


@dataclass
class Chain:
    """The end of the chain, so far."""

    seq: int = 0
    hash: str = BEGINNING

    def append(self, noted: Noted) -> AuditEntry:
        """The next entry; the chain ends with it."""
        self.seq += 1
        self.hash = link(self.hash, self.seq, noted)
        return AuditEntry(seq=self.seq, hash=self.hash, **dict(noted))


def link(before: str, seq: int, noted: Noted) -> str:
    """The hash of the entry that follows `before`: canonical JSON, so that anybody can check it."""
    fields = {name: getattr(noted, name) for name in Noted.model_fields}
    fields["at"] = noted.at.astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps([before, seq, fields], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Walk:
    """Follows a chain from its beginning and stops at the first entry that does not fit."""

    def __init__(self, known_seq: int | None = None, known_hash: str | None = None) -> None:
        self.chain = Chain()
        self._known = (known_seq, known_hash)
        self.broken_at: int | None = None
        self.why: str | None = None

    def over(self, entries: Iterable[AuditEntry]) -> None:
        """Check some more entries, in order."""
        for entry in entries:
            if self.broken_at is None:
                self._check(entry)

    def _check(self, entry: AuditEntry) -> None:
        expected = self.chain.seq + 1
        if entry.seq != expected:
            self._break(expected, "the entry is missing")
        elif entry.hash != link(self.chain.hash, entry.seq, entry):
            self._break(expected, "the entry, or its place, was changed")
        elif entry.seq == self._known[0] and self._known[1] not in (None, entry.hash):
            self._break(expected, "the entry had another hash when it was written down")
        else:
            self.chain.seq, self.chain.hash = entry.seq, entry.hash

    def _break(self, seq: int, why: str) -> None:
        self.broken_at, self.why = seq, why

    def verdict(self, head: Chain) -> ChainVerdict:
        """What the walk has shown, when the writers say that the chain ends with `head`."""
        if self.broken_at is None and self.chain != head:
            self._break(min(self.chain.seq, head.seq) + 1, "the end of the log is missing")
        if self.broken_at is None and (self._known[0] or 0) > self.chain.seq:
            self._break(self.chain.seq + 1, "the entry that was written down is missing")
        return ChainVerdict(
            ok=self.broken_at is None, entries=self.chain.seq, last_hash=self.chain.hash,
            broken_at=self.broken_at, why=self.why,
        )  # fmt: skip
