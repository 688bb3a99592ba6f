"""Runs through time: what runs of agents and runs of workflows have in common.

    states      what a run and its steps were, position after position of the log
    fork        another run from a step on, beside the first; what came before is taken over
    comparison  two runs, step by step
    rerun       a finished run again, by the code of now, from what was recorded

Every kind of run declares the same operations, by `operations`.
"""

from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import Field

from schemas.contract import Event, Id, Json, Listing, Operation, Page, Problem, Schema
from schemas.events import Moment
from schemas.problems import IllegalMove, NotFound, TooLarge

CHANGES_MAX = 50
Verdict = Literal["same", "changed", "only_in_first", "only_in_second"]


class Asked(Schema):
    """What a step has asked for, so that it can be told whether it would be asked again."""

    operation: str
    hash: str = Field(description="SHA-256 of the request without on whose behalf it was made.")
    request: Json | None = Field(description="The request, unless it is larger than 128 KiB.")


class ListRunStates(Listing):
    """List what a run went through: every state of it and of its steps, oldest first."""

    id: Id


class RunState(Schema):
    """One moment of a run: what changed, at which position of the log."""

    seq: int
    type: str = Field(description="What happened.")
    step: str | None = Field(description="The step that changed; the run itself without one.")
    status: str
    version: int
    thing_id: Id
    recorded_at: datetime


class GetRunAt(Schema):
    """Show a run with its steps as they were at a position or time; as they are without both."""

    id: Id
    seq: int | None = Field(None, ge=1, description="No entry behind this position counts.")
    at: Moment | None = Field(None, description="Nothing that was recorded later counts.")


class PastRun(Schema):
    """A run and its steps, exactly as a reader saw them then."""

    seq: int = Field(description="Position of the last change that counts.")
    recorded_at: datetime
    run: Json
    steps: tuple[Json, ...]


class ForkRun(Schema):
    """Go on from a step of a run in a run of its own; what came before is taken over, not done."""

    id: Id
    from_step: str = Field(max_length=300, description="The first step that is done anew.")
    changes: Json = Field(
        default_factory=dict, max_length=CHANGES_MAX,
        description="What is other than in the first run, such as model or inputs.city.",
    )  # fmt: skip


class CompareRuns(Schema):
    """Compare two runs of one kind, step by step."""

    id: Id
    other: Id


class Difference(Schema):
    """One value that differs; large ones are cut."""

    path: str = Field(description="A JSON pointer.")
    first: Any
    second: Any


class StepComparison(Schema):
    """What two runs made of one step."""

    step: str
    verdict: Verdict
    differences: tuple[Difference, ...] = ()


class RunComparison(Schema):
    """Two runs side by side."""

    first: Id
    second: Id
    same: bool
    run: tuple[Difference, ...] = Field(description="What differs in the runs themselves.")
    steps: tuple[StepComparison, ...]
    left_out: int = Field(0, description="Differences beyond those that are shown.")


class RerunRun(Schema):
    """Do a finished run again from its recorded answers, and say where it goes another way.

    Nothing that was recorded is asked or billed again. Where something else is asked than was
    recorded, an offline rerun ends; any other goes on from there in a fork.
    """

    id: Id
    offline: bool = Field(False, description="Never ask anybody anything.")
    changes: Json = Field(
        default_factory=dict, max_length=CHANGES_MAX,
        description="What is other than it was, such as prompt.",
    )  # fmt: skip


class Divergence(Schema):
    """Where a rerun asks something else than the run did."""

    step: str
    problem: Json
    asked_then: Asked | None
    asked_now: Asked | None
    differences: tuple[Difference, ...]


class Rerun(Schema):
    """What became of a rerun; `ok` when every step and the end are what they were."""

    run_id: Id
    ok: bool
    status: str | None = Field(description="How it has ended; nothing when it diverged.")
    diverged: Divergence | None
    run: tuple[Difference, ...] = Field(description="What differs at the end.")
    steps: tuple[StepComparison, ...]
    left_out: int = 0
    fork_id: Id | None = Field(None, description="The run that goes on from there.")


class NoSuchStep(Problem, code="ERR_152", status=400):
    """The run has no step of this name."""


class BadChange(Problem, code="ERR_153", status=400):
    """There is nothing of this name that could be changed, or not to this value."""


class NotRecorded(Problem, code="ERR_154", status=409):
    """The run is from before questions were recorded, so nothing can be compared with them."""


class Diverged(Problem, code="ERR_155", status=409):
    """Something else is asked than was recorded; the report of a rerun says what."""


R = TypeVar("R", bound=Schema)


def operations(
    domain: str, path: str, run: type[R], emits: tuple[type[Event], ...],
    problems: tuple[type[Problem], ...] = (),
) -> tuple[
    Operation[ListRunStates, Page[RunState]],
    Operation[GetRunAt, PastRun],
    Operation[ForkRun, R],
    Operation[CompareRuns, RunComparison],
    Operation[RerunRun, Rerun],
]:  # fmt: skip
    """The same five operations for every kind of run.

    Args:
        domain: Which has the runs; also what its permissions are called.
        path: Where its runs stand in the REST interface.
        run: What a run is.
        emits: What is recorded when one begins that was forked.
        problems: Why one may not begin.
    """
    one, read, execute = f"{path}/{{id}}", f"{domain}:read", f"{domain}:execute"
    forking: tuple[type[Problem], ...] = (NotFound, NoSuchStep, BadChange, TooLarge, *problems)
    rerunning: tuple[type[Problem], ...] = (*forking, IllegalMove, NotRecorded, Diverged)
    return (
        Operation(
            f"{domain}.run-states", ListRunStates, Page[RunState], rest=f"GET {one}/states",
            may=read, problems=(NotFound, TooLarge),
        ),
        Operation(
            f"{domain}.run-at", GetRunAt, PastRun, rest=f"GET {one}/at", may=read,
            problems=(NotFound, TooLarge),
        ),
        Operation(
            f"{domain}.fork-run", ForkRun, run, rest=f"POST {one}/fork -> 202", may=execute,
            problems=forking, emits=emits, idempotent=True, timeout_s=30,
        ),
        Operation(
            f"{domain}.compare-runs", CompareRuns, RunComparison, rest=f"GET {one}/comparison",
            may=read, problems=(NotFound, TooLarge),
        ),
        Operation(
            f"{domain}.rerun", RerunRun, Rerun, rest=f"POST {one}/rerun", may=execute,
            problems=rerunning, emits=emits, idempotent=True, timeout_s=30,
        ),
    )  # fmt: skip
