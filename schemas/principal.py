"""Who asks, and what a role may do: the one permission table of every door.

A permission is `<resource>:<action>`. A role grants an action on all things, only on those that
the principal owns (`own`), or not at all. `compile_roles` turns the table into one set lookup.
"""

from functools import cache
from typing import Literal

from schemas.contract import Schema

Scope = Literal["all", "own", "none"]
Role = Literal["admin", "developer", "operator", "viewer"]
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
    "services": ("RCUDX", "RCX", "RCUDX", "R"),
    "documents": ("RCUD", "RCUDo", "R", "R"),
    "quality": ("RCUDXA", "RX", "RX", "R"),
    "events": ("RCX", "RC", "RX", "R"),
    "jobs": ("RCUDXK", "RoKo", "RK", "R"),
    "keys": ("RCUDG", "RoCoDo", "R", "RoCoDo"),
}


class Principal(Schema):
    """The one on whose behalf something is done.

    Args:
        id: The user, key or agent.
        kind: What `id` names.
        roles: Rows of the permission table.
        scopes: When not empty, narrows the roles to these permissions.
        via: The layer that acts on the principal's behalf, when it is not the edge.
    """

    id: str
    kind: Literal["user", "key", "service", "agent"]
    roles: tuple[Role, ...] = ()
    scopes: tuple[str, ...] = ()
    via: str | None = None

    def scope_of(self, permission: str | None) -> Scope:
        """How far `permission` reaches for this principal: `all`, `own` or `none`."""
        if permission is None:
            return "all"
        if self.scopes and permission not in self.scopes:
            return "none"
        table = compile_roles(self.roles)
        return table.get(permission, "none")


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


def permissions() -> tuple[str, ...]:
    """Every permission that the table knows."""
    granted = {p for role in ROLES for p in compile_roles((role,))}
    return tuple(sorted(granted))
