"""A run once more, by the code of now, from what was recorded of it.

The steps are decided by the same functions as those of a run that is done; only their context is
another: it writes nothing, its time is that of the record, and what is asked is answered from it
as long as the question at that place is the one that was asked then.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from bus import travel
from bus.context import Context
from handlers.agents import forking
from handlers.agents.reactions import advance
from schemas import tools
from schemas.agents import Agent, Run, Step
from schemas.contract import Event, Json, Operation, Problem
from schemas.models import Generation, ToolOffer
from schemas.problems import Internal
from schemas.tools import Tool, ToolHit, ToolHits, ToolInvocation
from schemas.travel import Diverged, Divergence


class RecordEnds(Exception):
    """The run was ended from outside before this question was answered."""


@dataclass
class Ending:
    """How a rerun has ended; without a status it diverged."""

    steps: list[Step]
    status: str | None = None
    result: Any = None
    error: Json | None = None
    diverged: Divergence | None = None


async def again(run: Run, agent: Agent, recorded: list[Step], was: Run, ctx: Context) -> Ending:
    """Do a run from its record until it ends or asks something else.

    Args:
        run: With whatever is other now.
        agent: As it works in the run.
        recorded: Its steps.
        was: The run as it was.
        ctx: Of whoever asks.
    """
    offline = Offline(recorded, was, ctx)
    try:
        while True:
            done, result = await advance(run, agent, list(offline.steps.values()), offline)
            if done:
                return offline.ended("succeeded", result=result)
    except RecordEnds:
        return offline.cut_off()
    except Diverged as diverged:
        return offline.diverged(diverged)
    except Problem as problem:
        return offline.ended("failed", error=problem.kept())


class Offline(Context):
    """Answers from the record, and keeps what is written."""

    __slots__ = ("begun", "recorded", "steps", "was")

    def __init__(self, recorded: list[Step], was: Run, ctx: Context) -> None:
        super().__init__(ctx.platform, ctx.principal, ctx.origin)
        self.recorded, self.was = recorded, was
        self.steps = {step.name: step for step in recorded if forking.is_given(step)}
        self.begun: Step | None = None

    @property
    def place(self) -> Step | None:
        """The record of the step that is being done, or that would be next."""
        if self.begun is not None:
            return next((step for step in self.recorded if step.name == self.begun.name), None)
        return self.recorded[len(self.steps)] if len(self.steps) < len(self.recorded) else None

    def now(self) -> datetime:
        """When it was."""
        ended = self.was.finished_at or self.was.created_at
        return self.place.started_at if self.place else ended

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """What is recorded stays here."""
        yield self

    async def record(self, event: Event) -> None:
        """Keep a step as it is now."""
        step = event.entity
        assert isinstance(step, Step)
        then = next((one for one in self.recorded if one.name == step.name), None)
        if then is not None and then.output == step.output:  # and so is the order of its fields
            step = step.model_copy(update={"output": then.output})
        self.steps[step.name] = step
        self.begun = step if step.status == "started" else None

    async def call(
        self, operation: Operation[Any, Any], command: Any, **_: Any
    ) -> Any:  # fmt: skip
        """The recorded answer.

        Raises:
            Diverged: Something else was asked then, or nothing.
            RecordEnds: It was not answered.
            Problem: What was answered then.
        """
        if operation in (tools.search, tools.get):
            return self._offered(operation, command)
        if self.begun is None or self.begun.asked is None:
            raise Internal(f"{operation.name} is asked in no step.")
        then = self.place
        if then is None:
            if self.was.status == "cancelled":
                raise RecordEnds
            raise Diverged("Nothing more was asked then.", step=self.begun.name)
        if then.asked is None or then.asked.hash != self.begun.asked.hash:
            raise Diverged("Something else was asked then.", step=self.begun.name)
        if then.status != "finished":
            raise RecordEnds
        return answer_of(then)

    def _offered(self, operation: Operation[Any, Any], command: Any) -> Any:
        """Tools as they were offered to the model then; only what it was told of them is known."""
        asked = self.place.asked if self.place else None
        if asked is not None and asked.request is None:
            raise Diverged("What was offered then is not known: the question was too long.")
        offers = (asked.request or {}).get("tools", []) if asked else []
        known = [tool_of(ToolOffer.model_validate(offer)) for offer in offers]
        if operation is tools.search:
            hits = tuple(ToolHit.model_construct(tool=tool, score=0.0) for tool in known)
            return ToolHits.model_construct(items=hits)
        found = next((tool for tool in known if tool.name == command.name), None)
        if found is None:
            raise Diverged(f"The tool {command.name} was not offered then.")
        return found

    def ended(self, status: str, result: Any = None, error: Json | None = None) -> Ending:
        """Without a divergence."""
        return Ending(list(self.steps.values()), status, result, error)

    def cut_off(self) -> Ending:
        """As it was when somebody else ended the run; what had not begun then has not now."""
        known = {step.name for step in self.recorded}
        steps = [step for name, step in self.steps.items() if name in known]
        return Ending(steps, self.was.status, error=self.was.error)

    def diverged(self, problem: Diverged) -> Ending:
        """Where it asks something else."""
        then, now = self.place, self.begun
        steps = [step for step in self.steps.values() if step.status == "finished"]
        asked_then, asked_now = (step.asked if step else None for step in (then, now))
        name = now.name if now else forking.following(steps)
        return Ending(steps, diverged=Divergence(
            step=name, problem=problem.kept(), asked_then=asked_then, asked_now=asked_now,
            differences=travel.between(asked_then, asked_now),
        ))  # fmt: skip


def tool_of(offer: ToolOffer) -> Tool:
    """A tool, as far as the model was told of it."""
    told: Json = {"name": offer.name, "description": offer.description}
    return Tool.model_construct(**told, input_schema=offer.parameters)


def answer_of(step: Step) -> Generation | ToolInvocation:
    """What was answered to a step's question, out of what was recorded.

    Raises:
        Problem: It was refused.
    """
    output = step.output
    refused = output.get("error") if isinstance(output, dict) and step.reference is None else None
    if isinstance(refused, dict) and refused.get("code") in Problem.by_code:
        raise_again(refused)
    if step.kind == "tool":
        known: Json = {"id": step.reference, "result": output}
        return ToolInvocation.model_construct(**known)
    turn = output if isinstance(output, dict) and set(output) == {"text", "tool_calls"} else {}
    return Generation(
        id=step.reference or step.id, model=step.target, text=turn.get("text", ""),
        value=None if turn else output, tool_calls=turn.get("tool_calls", ()),
        finish="tool_calls" if turn.get("tool_calls") else "stop",
        prompt_tokens=step.prompt_tokens, completion_tokens=step.completion_tokens, duration_ms=0,
    )  # fmt: skip


def raise_again(kept: Json) -> NoReturn:
    """Raise a problem as it was kept."""
    details = {str(name): value for name, value in (kept.get("details") or {}).items()}
    raise Problem.by_code[kept["code"]](kept.get("message"), **details)
