"""What people and scripts see of a start.

On a terminal a live line for each process, elsewhere one plain line for each change, with
`--json` one object for each change on standard output.

People's lines go to standard error, so that standard output stays free for results.
"""

import json
import sys
import time
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

REFRESHES_PER_S = 8
SETTLED = ("ready", "done", "stopped")
MARKS = {"ready": "[green]✓", "done": "[green]✓", "stopped": "[dim]■", "restarting": "[yellow]↻"}


class Progress:
    """Plain lines; the base of the other two."""

    def note(self, name: str, state: str, text: str, seconds: float | None = None) -> None:
        """A process came into a state; `seconds` is what that took."""
        took = "" if seconds is None else f" ({seconds:.1f} s)"
        print(f"{name:<10} {state:<10} {text}{took}".rstrip(), file=sys.stderr, flush=True)

    def tell(self, event: str, text: str, **facts: object) -> None:  # noqa: ARG002 - for scripts
        """Something about the whole."""
        print(text, file=sys.stderr, flush=True)

    def settle(self) -> None:
        """The start is over, well or not: what comes later stands on lines of its own."""


class Quiet(Progress):
    """Says nothing; for tests."""

    def note(self, name: str, state: str, text: str, seconds: float | None = None) -> None:
        """Nothing."""

    def tell(self, event: str, text: str, **facts: object) -> None:
        """Nothing."""


class Json(Progress):
    """One object a line, on standard output."""

    def note(self, name: str, state: str, text: str, seconds: float | None = None) -> None:
        """A process came into a state."""
        facts = {"event": "process", "name": name, "state": state, "text": text}
        print(json.dumps(facts | {"seconds": seconds and round(seconds, 3)}), flush=True)

    def tell(self, event: str, text: str, **facts: object) -> None:  # noqa: ARG002 - for people
        """Something about the whole; the facts, not the sentence."""
        print(json.dumps({"event": event, **facts}), flush=True)


@dataclass
class Line:
    """One process on the terminal."""

    state: str
    text: str
    since: float = field(default_factory=time.monotonic)
    seconds: float | None = None


class Terminal(Progress):
    """Live lines until the start is over, then lines as things happen."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._lines: dict[str, Line] = {}
        self._live: Live | None = None
        self._spinner = Spinner("dots")

    def note(self, name: str, state: str, text: str, seconds: float | None = None) -> None:
        """A process came into a state."""
        if self._live is None and self._lines:
            mark = MARKS.get(state, "[yellow]●")
            self._console.print(f"{mark} {name}[/] {state} [dim]{text}", highlight=False)
            return
        line = self._lines.setdefault(name, Line(state, text))
        line.state, line.text, line.seconds = state, text or line.text, seconds
        if self._live is None:
            self._live = Live(
                console=self._console,
                get_renderable=self._table,
                refresh_per_second=REFRESHES_PER_S,
            )
            self._live.start()

    def tell(self, event: str, text: str, **facts: object) -> None:  # noqa: ARG002 - for scripts
        """Something about the whole."""
        self._console.print(text, highlight=False, markup=False)

    def settle(self) -> None:
        """Leave the last picture on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for name, line in self._lines.items():
            settled = line.state in SETTLED
            mark = Text.from_markup(MARKS["ready"]) if settled else self._spinner
            took = line.seconds if line.seconds is not None else time.monotonic() - line.since
            table.add_row(mark, name, line.state, Text(f"{took:5.1f} s", "dim"), line.text)
        return table


def for_people(*, as_json: bool) -> Progress:
    """The one that fits where we run."""
    if as_json:
        return Json()
    return Terminal() if sys.stderr.isatty() else Progress()
