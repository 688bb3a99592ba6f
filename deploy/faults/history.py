"""What clients asked and heard, line by line, in a file outside of what is being tested.

    invoke ─► ok        it happened, and this is what was answered
          ├─► fail      it did not happen
          └─► (nothing) nobody knows: it may have happened at any time since

A client that hears nothing asks again under the same key; that is still the same operation, from
its first invocation to the answer. Times are of one machine's monotonic clock.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

Verb = Literal["create", "write", "read", "start"]
Kind = Literal["invoke", "unknown", "ok", "fail"]
Outcome = Literal["ok", "fail", "unknown"]


@dataclass(frozen=True)
class Line:
    """One line of a history.

    Args:
        at: Monotonic seconds.
        client: Whose call.
        number: Which of the client's operations.
        kind: What happened now.
        verb: What is asked.
        thing: The aggregate; of a creation, known when it is answered.
        value: What is written, unlike any other; what was read.
        version: The version that is expected, that was made, or that was read.
    """

    at: float
    client: str
    number: int
    kind: Kind
    verb: Verb
    thing: str = ""
    value: str = ""
    version: int = 0


@dataclass(frozen=True)
class Operation:
    """One operation from its invocation to its outcome; one that nobody knows never ends."""

    client: str
    number: int
    verb: Verb
    thing: str
    value: str
    expected: int
    begun: float
    ended: float = math.inf
    outcome: Outcome = "unknown"
    seen: int = 0
    """The version that was made or read."""

    @property
    def name(self) -> str:
        """How it is named in a violation."""
        return f"{self.client}/{self.number} {self.verb} {self.value or self.thing}"


class Recorder:
    """Appends to a history file; a line is on disk before the call that it announces is made."""

    def __init__(self, file: Path) -> None:
        self._file = file.open("a", encoding="utf-8")

    def write(self, line: Line) -> None:
        """Write one line."""
        self._file.write(json.dumps(asdict(line)) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read(file: Path) -> Iterator[Line]:
    """The lines of a history file."""
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            fields: dict[str, Any] = json.loads(line)
            yield Line(**fields)


def operations(lines: Iterable[Line]) -> list[Operation]:
    """The operations of a history, in the order of their invocation."""
    found: dict[tuple[str, int], Operation] = {}
    for line in lines:
        name = (line.client, line.number)
        if name not in found:
            found[name] = Operation(
                line.client, line.number, line.verb, line.thing, line.value, line.version, line.at
            )
        elif line.kind in ("ok", "fail"):
            found[name] = ended(found[name], line)
    return list(found.values())


def ended(operation: Operation, line: Line) -> Operation:
    """The operation with its answer."""
    return replace(
        operation,
        ended=line.at,
        outcome="ok" if line.kind == "ok" else "fail",
        thing=line.thing or operation.thing,
        value=line.value or operation.value,
        seen=line.version,
    )
