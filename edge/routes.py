"""From method and path to the door that answers there: a tree of path segments.

A literal segment wins over a parameter. Nothing is guessed: an empty segment (`//`, a slash at the
end) and an encoded slash are not found, and there are no redirects.
"""

from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote

from edge.exchange import Call
from schemas.problems import MethodNotAllowed, NotFound

SEGMENTS_MAX = 12


class Door(Protocol):
    """What answers at one path and method."""

    name: str
    may: str | None
    open: bool
    """Answers without a credential, and is not counted."""
    public: bool
    """Answers without a credential, under the limits of unknown callers."""

    async def answer(self, call: Call) -> None:
        """Answer one request; may raise problems until the response has begun."""


@dataclass
class Node:
    """One segment of known paths."""

    literal: dict[str, "Node"] = field(default_factory=dict)
    parameter: "Node | None" = None
    doors: dict[str, tuple[Door, tuple[str, ...], str]] = field(default_factory=dict)


class Routes:
    """Every known path."""

    def __init__(self) -> None:
        self.root = Node()

    def add(self, method: str, path: str, door: Door) -> None:
        """Answer `method` on `path`, whose parameters stand in braces."""
        node, names = self.root, []
        for segment in filter(None, path.split("/")):
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.parameter = node = node.parameter or Node()
            else:
                node = node.literal.setdefault(segment, Node())
        if method in node.doors:
            raise ValueError(f"{method} {path} is answered twice")
        if not (door.open or door.public or door.may):
            raise ValueError(f"{method} {path} does not say who may pass")
        node.doors[method] = (door, tuple(names), path)

    def match(self, method: str, path: bytes) -> tuple[Door, dict[str, str], str]:
        """The door of a request, the values of its path's parameters, and the path as declared.

        Raises:
            NotFound: No such path.
            MethodNotAllowed: The path has other methods.
        """
        segments = segments_of(path)
        node, values = find(self.root, segments, 0, ())
        if node is None:
            raise NotFound
        found = node.doors.get("GET" if method == "HEAD" else method)
        if found is None:
            raise MethodNotAllowed(allow=methods_of(node))
        door, names, declared = found
        return door, dict(zip(names, values, strict=True)), declared


def methods_of(node: Node) -> list[str]:
    """What a path answers to."""
    return sorted({*node.doors, "OPTIONS", *(("HEAD",) if "GET" in node.doors else ())})


def segments_of(path: bytes) -> list[str]:
    """The decoded segments of a raw path without its leading slash.

    Raises:
        NotFound: A segment is empty, holds a slash, or is not UTF-8.
    """
    if path == b"":
        return []
    try:
        segments = path.decode("ascii").split("/")
        if b"%" in path:
            segments = [unquote(segment, errors="strict") for segment in segments]
    except UnicodeDecodeError:
        raise NotFound from None
    if len(segments) > SEGMENTS_MAX or any(not s or "/" in s for s in segments):
        raise NotFound
    return segments


def find(
    node: Node, segments: list[str], index: int, values: tuple[str, ...]
) -> tuple[Node | None, tuple[str, ...]]:
    """The node of a path, literal segments first."""
    if index == len(segments):
        return (node if node.doors else None), values
    literal = node.literal.get(segments[index])
    if literal is not None:
        found, inner = find(literal, segments, index + 1, values)
        if found is not None:
            return found, inner
    if node.parameter is None:
        return None, values
    return find(node.parameter, segments, index + 1, (*values, segments[index]))
