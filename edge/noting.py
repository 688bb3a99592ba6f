"""What the edge tells the audit log: every finished request, and every decision that matters.

A decision is noted when a request is refused for who asks or what he may, when one that changes
something is let through, and when a socket or stream is opened, refused or closed for its rights.
Paths come without their query, and nothing that looks like a credential is kept.
"""

import re
from typing import Any

from bus.audit import Auditor, plain
from bus.clock import Clock
from edge.exchange import Exchange
from schemas.audit import PATH_MAX, POLICY, Decision, Door
from schemas.contract import Json

KEY = re.compile(rb"sp_([0-9a-f]{16})_")
HARMLESS = re.compile(rb"(?!.*sk-)[a-z0-9/-]{0,200}")  # no form of a secret is made of these
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Notes:
    """Notes of one edge process."""

    def __init__(self, auditor: Auditor, clock: Clock) -> None:
        self._auditor, self._clock = auditor, clock

    def finished(self, seen: Exchange, took_s: float) -> None:
        """An HTTP request was answered."""
        refused = seen.decision == "deny" or seen.status == 429  # noqa: PLR2004 - 429 is its name
        self._auditor.request({
            "at": self._clock.now(), "request_id": seen.request_id, "method": seen.method,
            "route": seen.route, "path": seen.shown, "operation": seen.operation,
            "status": seen.status, "ms": round(took_s * 1000, 2), "actor": seen.actor,
            "credential": credential_of(seen), "address": seen.address,
            "decision": "deny" if refused else "allow", "reason": seen.reason,
        })  # fmt: skip
        if seen.decision == "deny" or (seen.decision == "allow" and seen.method not in SAFE):
            details = {"method": seen.method, "path": seen.shown, "status": seen.status}
            self._decided(seen, "http", seen.operation, seen.decision, details)

    def noticed(
        self, seen: Exchange, action: str, decision: Decision, reason: str | None = None,
        **details: Any,
    ) -> None:  # fmt: skip
        """Something was decided about a socket or stream, such as `socket.open`."""
        seen.reason = reason
        told = {name: plain(str(value)) for name, value in details.items()}
        self._decided(seen, "socket", action, decision, told)

    def _decided(
        self, seen: Exchange, door: Door, action: str, decision: str, details: Json
    ) -> None:
        self._auditor.entry({
            "at": self._clock.now(), "door": door, "actor": plain(seen.actor), "via": seen.via,
            "action": action, "resource": action.partition(".")[0],
            "resource_id": plain(seen.resource_id) if seen.resource_id else None,
            "decision": decision, "reason": seen.reason, "permission": seen.permission,
            "policy": POLICY, "request_id": seen.request_id, "address": seen.address,
            "credential": credential_of(seen), "details": details,
        })  # fmt: skip


def shown(raw_path: bytes) -> str:
    """A path as it is logged: as it was sent, still encoded, credentials blotted out."""
    if HARMLESS.fullmatch(raw_path):
        return raw_path.decode()
    return plain(raw_path.decode("latin-1"), PATH_MAX)


def credential_of(seen: Exchange) -> str:
    """Kind and public part of the credential that was sent; never its secret."""
    if seen.credential != "-":
        return seen.credential
    sent = seen.headers.get(b"authorization") or seen.headers.get(b"x-api-key")
    if sent is None:
        return "-"
    key = KEY.match(sent.rpartition(b" ")[2])
    return f"key:{key[1].decode()}" if key else "unknown"
