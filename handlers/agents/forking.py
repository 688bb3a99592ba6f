"""What a fork of a run takes over, and what is other in it. Pure.

A change names what it changes:

    model, temperature, prompt      of the agent, for this run alone; `prompt` are its instructions
    objective, inputs.city          of the brief
    steps.draft.ask                 of a prescribed step
    steps.draft.output              what a prescribed step gives, without being done
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from bus import travel
from schemas.agents import Agent, AgentConfig, Brief, Run, Step
from schemas.travel import BadChange, NoSuchStep

OF_AGENT = {"model": "model", "temperature": "temperature", "prompt": "instructions"}
OF_BRIEF = ("objective", "inputs", "document_ids", "result", "steps")


def before(run: Run, steps: Sequence[Step], name: str) -> list[Step]:
    """The finished steps before the one of this name, which may not have been done yet.

    Raises:
        NoSuchStep: There is none, in the record or in the brief.
    """
    found = next((step.ordinal for step in steps if step.name == name), None)
    if found is None:
        if name not in (following(steps), *(step.name for step in run.brief.steps)):
            raise NoSuchStep(step=name, steps=[step.name for step in steps])
        found = len(steps)
    return [step for step in steps if step.ordinal < found and step.status == "finished"]


def following(steps: Sequence[Step]) -> str:
    """What a free turn behind these steps is called."""
    return f"turn-{len(steps)}"


def changed(
    run: Run, agent: Agent, changes: Mapping[str, Any]
) -> tuple[AgentConfig, Brief, dict[str, Any]]:
    """How the agent works, what it is asked, and what some steps give, with these changes.

    Raises:
        BadChange: There is nothing of such a name, or it cannot be that.
    """
    config = (run.config or agent.config).model_dump(mode="json")
    brief, outputs = run.brief.model_dump(mode="json"), dict[str, Any]()
    places = {step.name: str(index) for index, step in enumerate(run.brief.steps)}
    for path, value in changes.items():
        head, *rest = path.split(".")
        if head in OF_AGENT and not rest:
            config[OF_AGENT[head]] = value
        elif head == "steps" and rest[:1] and rest[0] in places and rest[1:]:
            if rest[1:] == ["output"]:
                outputs[rest[0]] = value
            else:
                travel.put(brief, ("steps", places[rest[0]], *rest[1:]), value)
        elif head in OF_BRIEF and head != "steps":
            travel.put(brief, (head, *rest), value)
        else:
            raise BadChange(path=path, known=[*OF_AGENT, *OF_BRIEF], steps=list(places))
    try:
        return AgentConfig.model_validate(config), Brief.model_validate(brief), outputs
    except ValidationError as bad:
        raise travel.unfit(bad) from None


def taken(
    steps: Sequence[Step], outputs: Mapping[str, Any], forked: Run, new_ids: Sequence[str]
) -> list[Step]:
    """The first steps of a fork: those before, and those whose output is given.

    What they used was billed to the run that did them, so here they have used nothing.
    """
    by_name = {step.name: step for step in steps}
    given = [name for name in outputs if name not in by_name]
    found = list[Step]()
    for ordinal, (name, new_id) in enumerate(zip([*by_name, *given], new_ids, strict=False)):
        step = by_name.get(name) or given_step(name, forked)
        own = {
            "id": new_id, "version": 1, "run_id": forked.id, "goal_id": None, "task_id": None,
            "ordinal": ordinal, "prompt_tokens": 0, "completion_tokens": 0,
            "taken_from": None if name in outputs else step.id,
            "output": outputs.get(name, step.output),
        }  # fmt: skip
        found.append(step.model_copy(update=own))
    return found


def given_step(name: str, forked: Run) -> Step:
    """A prescribed step that is not done because its output is given."""
    [prescribed] = [step for step in forked.brief.steps if step.name == name]
    tool = getattr(prescribed, "tool", None)
    at = forked.created_at
    return Step(
        id=forked.id, version=1, run_id=forked.id, goal_id=None, task_id=None, ordinal=0,
        kind="tool" if tool else "model", name=name, target=tool or name, status="finished",
        input={}, output=None, error=None, prompt_tokens=0, completion_tokens=0, reference=None,
        attempts=0, started_at=at, finished_at=at,
    )  # fmt: skip


def is_given(step: Step) -> bool:
    """Whether a step was never done because its output was given."""
    return step.attempts == 0


def facts(step: Step) -> dict[str, Any]:
    """What counts of a step when two runs are compared."""
    asked = step.asked
    return {
        "kind": step.kind, "target": step.target, "status": step.status,
        "asked": (asked.request or asked.hash) if asked else step.input,
        "output": step.output, "error": step.error,
    }  # fmt: skip


def facts_of_run(run: Run) -> dict[str, Any]:
    """What counts of a run when two are compared."""
    counted = {"status", "result", "error", "config", "brief"}
    return run.model_dump(mode="json", include=counted)
