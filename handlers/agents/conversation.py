"""What is said to the model: prompts out of briefs and steps. Pure.

Text that comes from documents and tools is data: it is quoted in the user's turn, cut to a length
and never becomes part of the instructions.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from handlers.agents.rules import look_up
from schemas.agents import Agent, ModelStep, Run, Step
from schemas.models import GenerateText, Message, ToolCall, ToolOffer
from schemas.tools import Tool

DATA_CHARACTERS_MAX = 1_500
TURN_CHARACTERS_MAX = 900
ANSWER_TOKENS_MAX = 192
PLACE = re.compile(r"{{\s*([\w.-]+)\s*}}")


def fill(template: str, scope: Mapping[str, Any]) -> str:
    """`template` with every `{{ steps.compare }}` replaced by that value, as text, cut."""

    def value(match: re.Match[str]) -> str:
        return as_text(look_up(match[1], scope), DATA_CHARACTERS_MAX)

    return PLACE.sub(value, template)


def as_text(value: Any, length_max: int) -> str:
    """A value as a model reads it."""
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if len(text) <= length_max else text[:length_max] + " …"


def question(agent: Agent, run: Run, ask: str, step: ModelStep) -> GenerateText:
    """A prescribed question: the answer is JSON of the step's schema."""
    return GenerateText(
        messages=(
            Message(role="system", content=agent.config.instructions),
            Message(role="user", content=ask),
        ),
        model=agent.config.model,
        output_schema=step.output_schema,
        temperature=agent.config.temperature,
        tokens_max=step.tokens_max,
        seed=seed_of(run, step.name),
        purpose=step.name,
    )


def next_turn(
    agent: Agent, run: Run, steps: Sequence[Step], offered: Sequence[Tool]
) -> GenerateText:
    """A free turn: the objective, what was done so far, and the tools that may be called."""
    said = [
        Message(role="system", content=agent.config.instructions),
        Message(role="user", content=opening(run)),
    ]
    said += [turn_of(step) for step in steps]
    return GenerateText(
        messages=tuple(said),
        model=agent.config.model,
        tools=tuple(
            ToolOffer(name=t.name, description=t.description, parameters=t.input_schema)
            for t in offered
        ),
        temperature=agent.config.temperature,
        tokens_max=ANSWER_TOKENS_MAX,
        seed=seed_of(run, str(len(steps))),
        purpose="turn",
    )


def opening(run: Run) -> str:
    """The first thing the model is told."""
    documents = ", ".join(run.brief.document_ids) or "none"
    inputs = as_text(run.brief.inputs, DATA_CHARACTERS_MAX) if run.brief.inputs else "none"
    return f"Objective: {run.brief.objective}\nDocument ids: {documents}\nInputs: {inputs}"


def turn_of(step: Step) -> Message:
    """One finished step, as the model is reminded of it."""
    if step.kind == "tool":
        content = as_text(step.output, TURN_CHARACTERS_MAX)
        return Message(role="tool", content=content, tool_name=step.target)
    output = step.output if isinstance(step.output, dict) else {}
    calls = output.get("tool_calls") or []
    said = output.get("text") or as_text(calls or output, TURN_CHARACTERS_MAX)
    return Message(role="assistant", content=str(said)[:TURN_CHARACTERS_MAX])


def call_without_step(steps: Sequence[Step]) -> ToolCall | None:
    """The tool call that the model's last turn asked for and that was not made yet."""
    if not steps or steps[-1].kind != "model" or steps[-1].status != "finished":
        return None
    output = steps[-1].output
    calls = output.get("tool_calls") if isinstance(output, dict) else None
    return ToolCall.model_validate(calls[0]) if calls else None


def seed_of(run: Run, name: str) -> int:
    """A seed that is the same when the same step of the same run, or a fork of it, asks again."""
    return int.from_bytes(f"{run.root_id or run.id}{name}".encode()[-4:], "big") % (2**31)
