"""The live tree of a goal: levels of its plan, tasks with state, agent, steps, tokens, seconds.

On a terminal it is drawn in place; elsewhere every change of a task's state is one line.
"""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from rich.console import RenderableType
from rich.live import Live
from rich.markup import escape
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from edge.cli import output
from edge.cli.progress import TASK_ENDED, Progress, Thing, seconds

REFRESH_PER_S = 8
TITLE_LENGTH_MAX = 48
TEXT_LENGTH_MAX = 90
MARKS = {
    "succeeded": "[green]✔[/]", "failed": "[red]✘[/]", "timed_out": "[red]⏱[/]",
    "skipped": "[yellow]↷[/]", "cancelled": "[yellow]⊘[/]", "pending": "[dim]·[/]",
    "ready": "[blue]○[/]", "assigned": "[blue]◔[/]",
}  # fmt: skip


class Shown:
    """Shows a goal's progress on standard error while in the `with` block."""

    def __init__(self, progress: Progress, *, quiet: bool, notice: Callable[[], str]) -> None:
        self._progress = progress
        self._quiet = quiet
        self._notice = notice
        self._console = output.console(error=True)
        self._live: Live | None = None
        self._told: dict[str, str] = {}
        self._spinner = Spinner("dots", style="cyan")

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._quiet:
            self._live = Live(
                get_renderable=self.render, console=self._console,
                refresh_per_second=REFRESH_PER_S, redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        raised: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def drawn(self) -> bool:
        """On a terminal, in place."""
        return self._live is not None

    def changed(self) -> None:
        """Something happened: off a terminal, say which tasks changed their state."""
        if self._live is not None or self._quiet:
            return
        self._tell("goal", str(self._progress.goal.get("status", "")), "")
        for level in self._progress.levels():
            for task in level:
                state = self._progress.state_of(task)
                self._tell(task["key"], state, details(self._progress, task))

    def _tell(self, key: str, state: str, rest: str) -> None:
        if state and self._told.get(key) != state:
            self._told[key] = state
            self._console.print(f"{escape(key)}: {state}{f'  ({escape(rest)})' if rest else ''}")

    def render(self) -> RenderableType:
        """The tree as it is now."""
        tree = Tree(self._head(), guide_style="dim")
        for number, level in enumerate(self._progress.levels(), start=1):
            at_once = f", {len(level)} at once" if len(level) > 1 else ""
            branch = tree.add(f"[dim]level {number}{at_once}[/]")
            for task in level:
                branch.add(self._task(task))
        if notice := self._notice():
            tree.add(Text(notice, style="yellow"))
        if self._progress.last_text and not self._progress.ended:
            tree.add(Text("… " + self._progress.last_text[-TEXT_LENGTH_MAX:], style="dim italic"))
        return tree

    def _head(self) -> RenderableType:
        goal = self._progress.goal
        if not goal:
            return Text("submitting", style="dim")
        status = str(goal["status"])
        line = Text(goal["title"][:TITLE_LENGTH_MAX], style="bold")
        line.append(f"  {status}", style=output.COLOURS.get(status, ""))
        now = datetime.now(UTC)
        took = seconds(goal, "created_at", "completed_at", now) or 0.0
        line.append(f"  {took:.1f} s  {self._progress.tokens_in_all():,} tokens", style="dim")
        return line

    def _task(self, task: Thing) -> RenderableType:
        state = self._progress.state_of(task)
        row = Table.grid(padding=(0, 1))
        mark: Any = MARKS.get(state, self._spinner)
        title = Text(f"{task['key']}  {task['title'][:TITLE_LENGTH_MAX]}")
        rest = Text(details(self._progress, task), style="dim")
        row.add_row(mark, title, rest)
        return row


def details(progress: Progress, task: Thing) -> str:
    """Agent, steps, tokens, seconds; why it failed; what it does now."""
    run = progress.run_of(task)
    parts = []
    if task.get("agent_id"):
        parts.append(progress.agents.get(task["agent_id"], task["agent_id"][-8:]))
    steps = progress.steps_of(run)
    if steps:
        parts.append(f"{len(steps)} step{'s' if len(steps) > 1 else ''}")
    if used := progress.tokens_of(task):
        parts.append(f"{used:,} tok")
    source = run or task
    took = seconds(source, "started_at", "finished_at", datetime.now(UTC))
    if took is not None:
        parts.append(f"{took:.1f} s")
    if int(task.get("attempt") or 0) > 1:
        parts.append(f"attempt {task['attempt']}")
    step = progress.current_step(task)
    if step is not None and task["status"] not in TASK_ENDED:
        parts.append(f"→ {step['kind']} {step['target']}")
    if task.get("error"):
        parts.append(str(task["error"].get("message", ""))[:TEXT_LENGTH_MAX])
    return "  ".join(parts)
