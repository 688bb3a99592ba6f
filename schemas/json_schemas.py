"""Which JSON Schemas may be declared, and how deep a value may be. Pure."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from schemas.contract import Json
from schemas.problems import BadSchema

SCHEMA_BYTES_MAX = 32 * 1024
SCHEMA_DEPTH_MAX = 32
SCHEMA_NODES_MAX = 2_000
VALUE_DEPTH_MAX = 64
DEPTH_COUNTED_MAX = 1_000
NOT_ALLOWED = frozenset(
    {"$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor",
     "$vocabulary"}
)  # fmt: skip


def check(schema: Json) -> None:
    """Refuse a schema that costs too much or reaches outside of itself.

    A recursive schema, and one whose references unfold to more than 2,000 nodes, is refused: a
    small text could otherwise take for ever to check.

    Raises:
        BadSchema: It does.
    """
    if len(json.dumps(schema)) > SCHEMA_BYTES_MAX:
        raise BadSchema(f"The schema is larger than {SCHEMA_BYTES_MAX} bytes.")
    if depth_of(schema) > SCHEMA_DEPTH_MAX:
        raise BadSchema(f"The schema is deeper than {SCHEMA_DEPTH_MAX} levels.")
    if has_nul(schema):
        raise BadSchema("The schema holds a NUL character.")
    if unfolded(schema, schema, (), {}) > SCHEMA_NODES_MAX:
        raise BadSchema(f"The schema unfolds to more than {SCHEMA_NODES_MAX} nodes.")


def unfolded(node: Any, root: Json, within: tuple[str, ...], sizes: dict[str, int]) -> int:
    """How many nodes there are once every reference is replaced by what it points at."""
    if isinstance(node, list):
        return 1 + sum(unfolded(item, root, within, sizes) for item in node)
    if not isinstance(node, Mapping):
        return 1
    if foreign := NOT_ALLOWED & node.keys():
        raise BadSchema(f"{', '.join(sorted(foreign))} cannot be used here.")
    count = 1
    for key, value in node.items():
        if key == "$ref" and not isinstance(value, Mapping):
            count += unfolded_target(value, root, within, sizes)
        else:
            count += unfolded(value, root, within, sizes)
    return count


def unfolded_target(ref: Any, root: Json, within: tuple[str, ...], sizes: dict[str, int]) -> int:
    """The nodes behind one reference; each target is counted once and remembered."""
    if not isinstance(ref, str) or not ref.startswith("#"):
        raise BadSchema("A $ref may only point into the schema itself.", ref=str(ref)[:200])
    if len(within) > SCHEMA_DEPTH_MAX:
        raise BadSchema("The schema's references follow each other too far.")
    if ref in within:
        raise BadSchema("A schema that refers to itself cannot be used here.", ref=ref)
    if ref not in sizes:
        sizes[ref] = unfolded(target_of(ref, root), root, (*within, ref), sizes)
    return sizes[ref]


def target_of(ref: str, root: Json) -> Any:
    """What a local reference points at.

    Raises:
        BadSchema: Nothing is there.
    """
    found: Any = root
    for part in ref[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list):
            found = found[int(name)] if name.isdecimal() and int(name) < len(found) else None
        else:
            found = found.get(name) if isinstance(found, Mapping) else None
        if found is None:
            raise BadSchema("A $ref points at nothing.", ref=ref[:200])
    return found


def depth_of(value: Any) -> int:
    """How deeply a JSON value is nested; stops counting far beyond every limit."""
    depth, level = 0, [value]
    while level and depth <= DEPTH_COUNTED_MAX:
        depth += 1
        level = [inner for item in level for inner in children(item)]
    return depth


def children(value: Any) -> Iterable[Any]:
    """The values directly inside."""
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def has_nul(value: Any) -> bool:
    """Whether a NUL character stands in any text; Postgres cannot store one."""
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, Mapping):
        return any(has_nul(k) or has_nul(v) for k, v in value.items())
    return any(has_nul(item) for item in children(value))
