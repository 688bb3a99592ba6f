"""Runs of workflows through time: their states, forks, comparisons and reruns."""

from typing import Any

from bus import json_schemas, travel
from bus.context import Context
from handlers.workflows import ending, forking, offline, queueing, service, store
from handlers.workflows.operations.runs import load_run
from handlers.workflows.records import document_of, step_id
from handlers.workflows.steps import WORKFLOWS
from schemas import events
from schemas.contract import Json, Page
from schemas.events import History, ReadHistory
from schemas.principal import Mandate
from schemas.problems import IllegalMove
from schemas.travel import (
    CompareRuns,
    ForkRun,
    GetRunAt,
    ListRunStates,
    NotRecorded,
    PastRun,
    Rerun,
    RerunRun,
    RunComparison,
    RunState,
)
from schemas.workflows import runs
from schemas.workflows.runs import OPEN, Drive, RunStarted, RunStep, StepTaken, WorkflowRun

ENTITIES = (WorkflowRun.noun(), RunStep.noun())
ASKS_NOBODY = ("set", "wait")


async def names_of(run: WorkflowRun, ctx: Context) -> dict[str, str]:
    """What the steps of a run are called, by their ids."""
    return {row["id"]: row["path"] for row in await ctx.database.rows(store.STEP_PATHS, run.id)}


async def history(asked: ReadHistory, ctx: Context) -> History:
    """Entries of the log; the caller may see the run, so also what it was."""
    return await ctx.as_principal(WORKFLOWS).call(events.history, asked)


@service.handles(runs.run_states)
async def states(command: ListRunStates, ctx: Context) -> Page[RunState]:
    """A page of what the log has of the run and its steps."""
    names = await names_of(await load_run(command.id, ctx), ctx)
    asked = travel.every_state(command, ENTITIES, names)
    return travel.states(command, await history(asked, ctx), names)


@service.handles(runs.run_at)
async def at(command: GetRunAt, ctx: Context) -> PastRun:
    """The newest entry of the run and of each step."""
    names = await names_of(await load_run(command.id, ctx), ctx)
    asked = travel.last_states(command, ENTITIES, names)
    return travel.as_it_was(command.id, await history(asked, ctx), by_start)


def by_start(step: Json) -> Any:
    """Steps are listed in the order of their beginning."""
    known = RunStep.model_validate(step)
    return known.started_at, known.id


async def steps_of(run: WorkflowRun, ctx: Context) -> dict[str, RunStep]:
    """The steps of a run by their paths, in the order of their beginning."""
    rows = await ctx.database.rows(store.STEPS, run.id)
    travel.require_few(len(rows))
    steps = [RunStep.model_validate(dict(row)) for row in rows]
    return {step.path: step for step in sorted(steps, key=lambda s: (s.started_at, s.id))}


@service.handles(runs.fork_run)
async def fork_run(command: ForkRun, ctx: Context) -> WorkflowRun:
    """Another run, which begins where the step would."""
    return await fork(await load_run(command.id, ctx), command.from_step, command.changes, ctx)


async def fork(run: WorkflowRun, from_step: str, changes: Json, ctx: Context) -> WorkflowRun:
    """Start it with what did not wait for the step; it is of whoever forks."""
    changed = forking.changed(await document_of(run, ctx), run.inputs, changes)
    json_schemas.require_fit(changed.document.inputs, changed.inputs, "/inputs")
    within_s, at = changed.document.within_s, ctx.now()
    forked = ending.forked(
        run, at, within_s, id=ctx.new_id(), inputs=changed.inputs, owner_id=ctx.principal.id,
        mandate=Mandate.of(ctx.principal), forked_from=run.id, fork_step=from_step,
        changes=(run.changes or {}) | changes,
    )  # fmt: skip
    kept = forking.kept(changed.document, forked, await steps_of(run, ctx), from_step)
    ctx.part_of(forked.id)
    async with ctx.transaction() as tx:
        forked = await queueing.placed(tx, queueing.named(forked, changed.document))
        await tx.record(RunStarted(run=forked))
        for step in taken(kept, changed, forked):
            await tx.record(StepTaken(step=step))
        if forked.status != "queued":
            await tx.enqueue(Drive(run_id=forked.id))
    return forked


def taken(
    steps: list[RunStep], changed: forking.Changed, forked: WorkflowRun
) -> list[RunStep]:  # fmt: skip
    """The steps that a fork does not do itself: those of the run before, and those given."""
    found = list[RunStep]()
    for step in steps:
        if step.path not in changed.outputs:
            own = {"id": step_id(forked.id, step.path), "version": 1, "run_id": forked.id,
                   "taken_from": step.id, "awaits": None, "due_at": None, "work": None,
                   "goal_id": None}  # fmt: skip
            found.append(step.model_copy(update=own))
    at = forked.started_at
    for path, output in changed.outputs.items():
        found.append(RunStep(
            id=step_id(forked.id, path), version=1, run_id=forked.id, path=path, kind="given",
            status="done", attempt=0, output=output, error=None, awaits=None, due_at=None,
            started_at=at, finished_at=at,
        ))  # fmt: skip
    return found


@service.handles(runs.compare_runs)
async def compare(command: CompareRuns, ctx: Context) -> RunComparison:
    """What counts of each run and of each step."""
    both = [await load_run(run_id, ctx) for run_id in (command.id, command.other)]
    steps = [by_path(await steps_of(run, ctx)) for run in both]
    first, second = map(forking.facts_of_run, both)
    return travel.comparison((command.id, command.other), (first, second), tuple(steps))


def by_path(steps: dict[str, RunStep]) -> dict[str, Json]:
    """What counts of each step."""
    return {path: forking.facts(step) for path, step in steps.items()}


@service.handles(runs.rerun)
async def rerun(command: RerunRun, ctx: Context) -> Rerun:
    """By the code of now from the record; from where it diverges, in a fork unless offline."""
    was = await load_run(command.id, ctx)
    if was.status in OPEN:
        raise IllegalMove(status=was.status)
    recorded = await steps_of(was, ctx)
    if any(unrecorded(step) for step in recorded.values()):
        raise NotRecorded(id=was.id)
    changed = forking.changed(await document_of(was, ctx), was.inputs, command.changes)
    run = was.model_copy(update={"inputs": changed.inputs})
    ended = await offline.again(run, changed.document, recorded, ctx)
    now = {"status": ended.status, "result": ended.outcome.output, "error": ended.outcome.error}
    then = {"status": was.status, "result": was.result, "error": was.error}
    report = travel.rerun(
        (was.id, then, by_path(recorded)), (ended.status, now, by_path(ended.steps)),
        ended.diverged,
    )  # fmt: skip
    if ended.diverged is None or command.offline:
        return report
    forked = await fork(was, ended.diverged.step, command.changes, ctx)
    return report.model_copy(update={"fork_id": forked.id})


def unrecorded(step: RunStep) -> bool:
    """Whether a step got an answer to a question that nobody knows any more."""
    answered = step.status == "done" and step.kind not in ASKS_NOBODY
    return answered and step.asked is None and not forking.is_given(step)
