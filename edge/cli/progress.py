"""How far a goal is, computed from events in any order. Pure.

Events carry whole entities, so an older version never replaces a newer one and doubles change
nothing; what polling reads goes the same way.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ENDED = ("completed", "failed", "cancelled")
TASK_ENDED = ("succeeded", "failed", "timed_out", "skipped", "cancelled")
OF_AGENTS = {"run": "task_id", "step": "ordinal"}
"""What a run or step of an agent says and one of a workflow does not."""

Thing = dict[str, Any]


@dataclass
class Progress:
    """The goal, its plan, and everything that works on it."""

    goal: Thing = field(default_factory=dict)
    plans: dict[str, Thing] = field(default_factory=dict)
    tasks: dict[str, Thing] = field(default_factory=dict)
    runs: dict[str, Thing] = field(default_factory=dict)
    steps: dict[str, Thing] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    last_text: str = ""

    def apply(self, data: Mapping[str, Any]) -> None:
        """Take in the payload of one event: `{"task": {…}}` and the like."""
        for noun, thing in data.items():
            if isinstance(thing, dict) and "id" in thing:
                self.take(noun, thing)

    def take(self, noun: str, thing: Thing) -> None:
        """Take in one entity unless a newer version is known."""
        if noun == "goal" and newer(thing, self.goal):
            self.goal = thing
        if noun == "agent":
            self.agents[thing["id"]] = thing["name"]
        if noun in OF_AGENTS and OF_AGENTS[noun] not in thing:
            return
        shelves = {"plan": self.plans, "task": self.tasks, "run": self.runs, "step": self.steps}
        known = shelves.get(noun)
        if known is not None and newer(thing, known.get(thing["id"], {})):
            known[thing["id"]] = thing

    @property
    def ended(self) -> bool:
        """Nothing more will happen."""
        return self.goal.get("status") in ENDED

    def plan(self) -> Thing | None:
        """The plan that is carried out: the goal's current one, or the newest."""
        current = self.plans.get(str(self.goal.get("current_plan_id")))
        newest = max(self.plans.values(), key=lambda plan: plan["plan_no"], default=None)
        return current or newest

    def levels(self) -> list[list[Thing]]:
        """The plan's tasks, level by level; tasks of no known level last."""
        plan = self.plan()
        if plan is None:
            return []
        tasks = {t["key"]: t for t in self.tasks.values() if t["plan_id"] == plan["id"]}
        levels = [[tasks.pop(k) for k in level if k in tasks] for level in plan["levels"]]
        return [level for level in (*levels, list(tasks.values())) if level]

    def state_of(self, task: Thing) -> str:
        """A task's status; `running` as soon as its run is."""
        status = str(task["status"])
        run = self.run_of(task)
        if status in ("ready", "assigned") and run and run["status"] == "running":
            return "running"
        return status

    def run_of(self, task: Thing) -> Thing | None:
        """The newest run of a task."""
        mine = [run for run in self.runs.values() if run["task_id"] == task["id"]]
        return max(mine, key=lambda run: str(run["created_at"]), default=None)

    def steps_of(self, run: Thing | None) -> list[Thing]:
        """The steps of a run, in order."""
        mine = [s for s in self.steps.values() if run and s["run_id"] == run["id"]]
        return sorted(mine, key=lambda step: int(step["ordinal"]))

    def tokens_of(self, task: Thing) -> int:
        """Tokens of a task: what it says, or what its steps add up to so far."""
        steps = self.steps_of(self.run_of(task))
        return max(tokens(task), sum(tokens(step) for step in steps))

    def tokens_in_all(self) -> int:
        """Tokens of the goal."""
        return max(tokens(self.goal), sum(self.tokens_of(task) for task in self.tasks.values()))

    def thinking(self) -> Thing | None:
        """A step in which a model speaks now; the newest one."""
        begun = [
            s for s in self.steps.values() if s["status"] == "started" and s["kind"] == "model"
        ]
        return max(begun, key=lambda step: str(step["started_at"]), default=None)

    def current_step(self, task: Thing) -> Thing | None:
        """The step that is being done now."""
        begun = [s for s in self.steps_of(self.run_of(task)) if s["status"] == "started"]
        return begun[-1] if begun else None


def newer(thing: Thing, known: Thing) -> bool:
    """A later version of the same thing, or the first one."""
    return not known or int(thing.get("version", 0)) > int(known.get("version", 0))


def tokens(thing: Mapping[str, Any]) -> int:
    """Prompt and completion tokens together."""
    return int(thing.get("prompt_tokens") or 0) + int(thing.get("completion_tokens") or 0)


def seconds(thing: Mapping[str, Any], start: str, end: str, now: datetime) -> float | None:
    """How long something took, or has taken so far; None before it began."""
    if not thing.get(start):
        return None
    began = datetime.fromisoformat(thing[start])
    ended = datetime.fromisoformat(thing[end]) if thing.get(end) else now
    return max(0.0, (ended - began).total_seconds())
