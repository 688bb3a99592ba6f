"""Grants on single things, weighed together with roles: the decision of every door.

    deny on the thing or on all  ->  allow on the thing or on all  ->  owner  ->  role  ->  deny

Scopes of a key or token narrow everything before that. A user's deny holds for whatever acts for
the user; a user's allow does not widen the user's API keys, which have grants of their own, nor
agents.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import StringConstraints

from schemas.contract import Schema
from schemas.principal import Permission, Principal, Scope

EVERYTHING = "*"
REACHES_MAX = 20_000
NARROW = ("key", "agent")

Subject = Annotated[
    str, StringConstraints(pattern=r"^(user|key|client|role):[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
]
Thing = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._:/-]{0,120})$")]


class Rule(Schema):
    """One grant, as far as a decision needs it: who, what, on which thing, yes or no."""

    subject: Subject
    permission: Permission
    thing: Thing
    allow: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a permission goes: its scope, and the things that are exceptions to it."""

    scope: Scope
    allowed: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()

    @property
    def nothing(self) -> bool:
        """Whether there is no thing at all on which it is allowed."""
        return self.scope == "none" and not self.allowed

    @property
    def exceptions(self) -> bool:
        """Whether single things must be weighed besides the scope."""
        return bool(self.allowed or self.denied)

    def on(self, *things: str) -> "Reach":
        """The reach on a thing, named with whatever it is a part of."""
        if not self.denied.isdisjoint(things):
            return NOTHING
        if not self.allowed.isdisjoint(things):
            return Reach("all", denied=self.denied)
        return self


PLAIN: dict[Scope, Reach] = {scope: Reach(scope) for scope in ("all", "own", "none")}
ALL, NOTHING = PLAIN["all"], PLAIN["none"]


class Policy:
    """All grants, compiled: one lookup a decision, remembered for each kind of caller."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[tuple[str, str], list[Rule]] = {}
        for rule in rules:
            self._rules.setdefault((rule.subject, rule.permission), []).append(rule)
        self._reaches: dict[tuple[Principal, str], Reach] = {}

    def reach(self, principal: Principal, permission: str | None) -> Reach:
        """How far `permission` goes for this principal."""
        if not self._rules or permission is None:
            return PLAIN[principal.scope_of(permission)]
        key = (principal, permission)
        found = self._reaches.get(key)
        if found is None:
            if len(self._reaches) >= REACHES_MAX:
                self._reaches.clear()
            found = self._reaches[key] = self._weigh(principal, permission)
        return found

    def _weigh(self, principal: Principal, permission: str) -> Reach:
        if principal.scopes and permission not in principal.scopes:
            return NOTHING
        rules = self.rules_for(principal, permission)
        denied = frozenset(rule.thing for rule in rules if not rule.allow)
        allowed = frozenset(rule.thing for rule in rules if rule.allow)
        if EVERYTHING in denied:
            return NOTHING
        scope = "all" if EVERYTHING in allowed else principal.scope_of(permission)
        return Reach(scope, allowed - {EVERYTHING}, denied)

    def rules_for(self, principal: Principal, permission: str) -> Sequence[Rule]:
        """The grants that speak about this principal and permission; see the module's text."""
        owner = f"user:{principal.id}"
        return [
            rule
            for subject in subjects_of(principal)
            for rule in self._rules.get((subject, permission), ())
            if not (rule.allow and subject == owner and principal.kind in NARROW)
        ]


def subjects_of(principal: Principal) -> tuple[str, ...]:
    """Under which names grants may speak about a principal."""
    if principal.kind in ("service", "anonymous"):
        return ()
    kind, _, credential = (principal.credential or "").partition("/")
    own = (f"key:{credential}",) if kind == "key" else ()
    owner = f"client:{principal.id}" if principal.kind == "client" else f"user:{principal.id}"
    return (owner, *own, *(f"role:{role}" for role in principal.roles))
