"""Who asks, and what a role may do: the one permission table of every door.

A permission is `<resource>:<action>`. A role grants an action on all things, only on those that
the principal owns (`own`), or not at all. Grants on single things are weighed in `policy.py`.
"""

from collections.abc import Collection
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from schemas.contract import KNOWN, Schema

Scope = Literal["all", "own", "none"]
PersonId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
"""A user's id, or the name of an owner who is no user."""
Role = Literal["admin", "developer", "operator", "viewer"]
Kind = Literal["user", "key", "client", "agent", "service", "anonymous"]
ROLES: tuple[Role, ...] = ("admin", "developer", "operator", "viewer")

ACTIONS = {
    "R": "read", "C": "create", "U": "update", "D": "delete",
    "X": "execute", "K": "control", "A": "approve", "G": "grant",
}  # fmt: skip

# A letter is an action (see ACTIONS); an `o` behind it limits it to what the principal owns.
MATRIX: dict[str, tuple[str, str, str, str]] = {
    #             admin      developer       operator  viewer
    "agents": ("RCUDXK", "RCUoDoXKo", "RXK", "R"),
    "tools": ("RCUDX", "RCUDoX", "RX", "R"),
    "models": ("RUX", "RX", "RUX", "R"),
    "usage": ("RCUD", "Ro", "RU", "Ro"),
    "goals": ("RCUDXKA", "RCUoDoXKoAo", "RXKA", "R"),
    "workflows": ("RCUDXK", "RCUoDoXKo", "RXK", "R"),
    "inbox": ("RUA", "RoUoAo", "RUA", "RoUoAo"),
    "services": ("RCUDX", "RCUoDoX", "RCUoDoX", "R"),
    "documents": ("RCUD", "RCUDo", "R", "R"),
    "quality": ("RCUDXA", "RX", "RX", "R"),
    "events": ("RCX", "RC", "RX", "R"),
    "jobs": ("RCUDXK", "RoKo", "RK", "R"),
    "dead-letters": ("RK", "", "RK", ""),
    "audit": ("RX", "", "RX", ""),
    "keys": ("RCUDG", "RoCoDo", "R", "RoCoDo"),
    "users": ("RCUDG", "RoUo", "RUo", "RoUo"),
    "sessions": ("RD", "RoDo", "RD", "RoDo"),
    "clients": ("RCUD", "RCoUoDo", "R", ""),
    "secrets": ("RCUDX", "", "", ""),
}


class RunRights(Schema):
    """What an agent's run may use of its owner's rights, and until when.

    Args:
        run_id: The run.
        tools: Names of the tools that it may invoke.
        tokens: How many tokens of models it may use in all.
        until: Unix seconds after which nothing is allowed any more.
    """

    run_id: str = Field(max_length=64)
    tools: tuple[str, ...]
    tokens: int
    until: int

    def narrowed_to(
        self,
        *,
        tools: Collection[str] | None = None,
        tokens: int | None = None,
        until: int | None = None,
    ) -> "RunRights":
        """The part of these rights that lies inside the given bounds: never more of anything."""
        return RunRights(
            run_id=self.run_id,
            tools=self.tools if tools is None else tuple(t for t in self.tools if t in tools),
            tokens=self.tokens if tokens is None else min(self.tokens, tokens),
            until=self.until if until is None else min(self.until, until),
        )

    def within(self, other: "RunRights") -> bool:
        """Whether nothing here goes beyond `other`."""
        return (
            self.run_id == other.run_id
            and set(self.tools) <= set(other.tools)
            and self.tokens <= other.tokens
            and self.until <= other.until
        )


class Principal(Schema):
    """The one on whose behalf something is done.

    Args:
        id: The user, client or service; of keys, sessions and runs their owner.
        kind: What was shown: `user` is a person's session or token.
        roles: Rows of the permission table.
        scopes: When not empty, narrows the roles to these permissions.
        via: The layer that acts on the principal's behalf, when it is not the edge.
        credential: What was shown, `key/<id>` or `session/<id>`; never a secret.
        run: Set when an agent acts: narrows further.
    """

    id: str
    kind: Kind
    roles: tuple[Role, ...] = ()
    scopes: tuple[str, ...] = ()
    via: str | None = None
    credential: str | None = None
    run: RunRights | None = None

    def scope_of(self, permission: str | None) -> Scope:
        """How far the roles let `permission` reach, without grants: `all`, `own` or `none`."""
        if permission in (None, KNOWN):
            return "all"
        if self.scopes and permission not in self.scopes:
            return "none"
        return compile_roles(self.roles).get(permission, "none")


class Mandate(Schema):
    """With which rights work was asked for that goes on without the one who asked; no secret.

    Args:
        kind: What kind of principal asked.
        roles: Its roles at that time.
        scopes: What narrowed them.
        credential: What was shown, by its id.
    """

    kind: Kind
    roles: tuple[Role, ...]
    scopes: tuple[str, ...] = ()
    credential: str | None = None

    @classmethod
    def of(cls, principal: Principal) -> "Mandate":
        """What this principal leaves behind for its work."""
        return cls(
            kind=principal.kind,
            roles=principal.roles,
            scopes=principal.scopes,
            credential=principal.credential,
        )


EDGE = Principal(id="edge", kind="service")
"""An edge process that asks for itself, on nobody's behalf."""
ANONYMOUS = Principal(id="anonymous", kind="anonymous")
"""Whoever showed nothing; may call only what is declared public."""


@cache
def compile_roles(roles: tuple[Role, ...]) -> dict[str, Scope]:
    """Every permission that any of `roles` grants, with the widest scope."""
    table: dict[str, Scope] = {}
    for role in roles:
        column = ROLES.index(role)
        for resource, cells in MATRIX.items():
            for permission, scope in read_cell(resource, cells[column]).items():
                if table.get(permission) != "all":
                    table[permission] = scope
    return table


def read_cell(resource: str, cell: str) -> dict[str, Scope]:
    """`RCUo` -> {resource:read: all, resource:create: all, resource:update: own}."""
    granted: dict[str, Scope] = {}
    for index, letter in enumerate(cell):
        if letter in ACTIONS:
            owned = cell[index + 1 : index + 2] == "o"
            granted[f"{resource}:{ACTIONS[letter]}"] = "own" if owned else "all"
    return granted


@cache
def permissions() -> tuple[str, ...]:
    """Every permission that the table knows."""
    granted = {p for role in ROLES for p in compile_roles((role,))}
    return tuple(sorted(granted))


def known(permission: str) -> str:
    """The permission, if the table has it."""
    if permission not in permissions():
        raise ValueError(f"no such permission; known are {', '.join(permissions())}")
    return permission


Permission = Annotated[str, AfterValidator(known)]
