"""Who may pass which door: the table `matrix.tsv`, generated from the declarations.

One row a door: every path of the edge, every operation that is only on the bus, every frame and
topic of a WebSocket. One column a kind of credential and role; `none` has no role. A cell says

    allow   the door opens; the request may then fail for what it says
    own     it opens for the caller's own thing; somebody else's is answered 404
            (without one thing in the path: it opens, and shows or makes only one's own)
    401 403 404   how it is refused
    -       this cannot be: such a credential is not shown there

`python -m tests.security.matrix` writes the table anew; the diff is to be reviewed. A further kind
of credential is an entry of `KINDS` and a factory in `kinds.py`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bus.clock import Clock
from bus.lifecycle import Health
from edge.app import routes_of, sign_in_routes
from edge.asking import Asking
from edge.routes import Door, Node
from edge.streams import ResumeDoor
from edge.topics import PERMISSIONS
from schemas import catalogue
from schemas.contract import Operation
from schemas.principal import ROLES, Principal, Role, permissions

TABLE = Path(__file__).parent / "matrix.tsv"
SCOPES = ("agents:read", "agents:update", "goals:read", "keys:read", "sessions:read", "users:read")
OPERATIONS = {operation.name: operation for operation in catalogue.operations()}
FRAMES = ("unsubscribe", "ack", "ping", "pong")


@dataclass(frozen=True)
class Kind:
    """A kind of credential.

    Args:
        good: It stands for somebody.
        scopes: What narrows it.
        on_bus: The edge would sign for it.
        person: What its person owns is its own; a client and a run own nothing of a person's.
    """

    good: bool
    scopes: tuple[str, ...] = ()
    on_bus: bool = True
    person: bool = True


KINDS = {
    "session": Kind(good=True),
    "token": Kind(good=True),
    "expired": Kind(good=False),
    "revoked": Kind(good=False, on_bus=False),
    "key": Kind(good=True),
    "scoped-key": Kind(good=True, scopes=SCOPES),
    "client": Kind(good=True, scopes=permissions(), person=False),
    "run": Kind(good=True, person=False),
    "bus": Kind(good=True, person=False),
}
RUN, OVER_NATS = "run", "bus"
"""A run's token opens what says that runs may ask it; a bus credential is shown to NATS alone."""


@dataclass(frozen=True)
class Place:
    """A door, as far as a decision needs it."""

    name: str
    operation: str
    may: str | None
    free: bool = False
    internal: bool = False
    refusal: str = "403"


def cells_of(place: Place) -> list[str]:
    """The verdicts of one row."""
    nobody = "allow" if place.free else "401"
    pairs = ((kind, role) for kind in KINDS for role in ROLES)
    return [nobody, *(verdict(place, kind, role) for kind, role in pairs)]


def verdict(place: Place, name: str, role: Role) -> str:
    """What one credential of one role is told."""
    on_bus, kind = place.name.startswith("BUS"), KINDS[name]
    operation = OPERATIONS.get(place.operation)
    if name == OVER_NATS:
        return over_nats(place, operation, role)
    if name == RUN and (on_bus or not place.free) and not may_a_run(operation):
        return "403"
    if place.free and (kind.good or not on_bus):
        return "allow"  # the edge looks at no credential here
    if not kind.good:
        return "401" if kind.on_bus or not on_bus else "-"
    if place.internal:
        return place.refusal
    caller = Principal(id="somebody", kind="user", roles=(role,), scopes=kind.scopes)
    return {"all": "allow", "own": "own", "none": place.refusal}[caller.scope_of(place.may)]


def may_a_run(operation: Operation[Any, Any] | None) -> bool:
    """Whether an agent may ask it in its run."""
    return operation is not None and operation.runs == "directly"


def over_nats(place: Place, operation: Operation[Any, Any] | None, role: Role) -> str:
    """What a program with bus credentials may ask as `api.<id>.<operation>`."""
    if operation is None or operation.public or place.name.startswith("WS"):
        return "-"
    caller = Principal(id="somebody", kind="key", roles=(role,))
    if operation.route is None:
        return "403"
    return {"all": "allow", "own": "own", "none": "403"}[caller.scope_of(operation.may)]


def columns() -> list[str]:
    """The head of the table."""
    return ["door", "operation", "permission", "none",
            *(f"{kind}.{role}" for kind in KINDS for role in ROLES)]  # fmt: skip


def places() -> list[Place]:
    """Every door there is."""
    return sorted([*http_places(), *bus_places(), *socket_places()], key=lambda p: p.name)


def http_places() -> Iterator[Place]:
    """Every path that the edge knows."""
    nothing: Any = None
    asking = Asking(nothing, Clock(), nothing, nothing)
    more = sign_in_routes(asking, nothing, "http://localhost")
    routes = routes_of(asking, nothing, nothing, Health("edge"), more)
    for method, path, door in walk(routes.root, ""):
        if isinstance(door, ResumeDoor):
            [(domain, may)] = door.permissions.items()
            name = f"{method} {path.replace('{domain}', domain)}"
            yield Place(name, door.name, may, refusal="404")
        else:
            yield Place(f"{method} {path}", door.name, door.may, free=door.open or door.public)


def walk(node: Node, path: str) -> Iterator[tuple[str, str, Door]]:
    """Every method and path below a node."""
    for method, (door, names, _) in node.doors.items():
        parts = iter(names)
        shown = "/".join(f"{{{next(parts)}}}" if p == "*" else p for p in path.split("/"))
        yield method, shown or "/", door
    for segment, inner in node.literal.items():
        yield from walk(inner, f"{path}/{segment}")
    if node.parameter is not None:
        yield from walk(node.parameter, f"{path}/*")


def bus_places() -> Iterator[Place]:
    """What has no path."""
    for o in catalogue.operations():
        if o.route is None:
            yield Place(f"BUS {o.subject}", o.name, o.may, free=o.public, internal=o.internal)


def socket_places() -> Iterator[Place]:
    """What may be sent through a WebSocket."""
    for topic, may in PERMISSIONS.items():
        yield Place(f"WS subscribe {topic}", "-", may)
    for frame in FRAMES:
        yield Place(f"WS {frame}", "-", None)


def render() -> str:
    """The whole table."""
    rows = [[p.name, p.operation, p.may or "-", *cells_of(p)] for p in places()]
    return "".join("\t".join(row) + "\n" for row in [columns(), *rows])


def read() -> dict[str, dict[str, str]]:
    """The checked-in table: door -> column -> cell."""
    head, *rows = (line.split("\t") for line in TABLE.read_text().splitlines())
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


if __name__ == "__main__":
    TABLE.write_text(render())
