"""Runs of agents through time: their states, forks, comparisons and reruns."""

from bus import travel
from bus.context import Context
from handlers.agents import forking, offline, rules, service, store
from handlers.agents.operations import load_run, queue
from handlers.agents.reactions import AGENTS, steps_of
from schemas import agents, events
from schemas.agents import Agent, Run, StartRun, Step, StepTaken
from schemas.contract import Json, Page
from schemas.events import History, ReadHistory
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

ENTITIES = (Run.noun(), Step.noun())


async def names_of(run: Run, ctx: Context) -> dict[str, str]:
    """What the steps of a run are called, by their ids."""
    return {row["id"]: row["name"] for row in await ctx.database.rows(store.STEP_NAMES, run.id)}


async def history(asked: ReadHistory, ctx: Context) -> History:
    """Entries of the log; the caller may see the run, so also what it was."""
    return await ctx.as_principal(AGENTS).call(events.history, asked)


@service.handles(agents.run_states)
async def states(command: ListRunStates, ctx: Context) -> Page[RunState]:
    """A page of what the log has of the run and its steps."""
    names = await names_of(await load_run(command.id, ctx), ctx)
    asked = travel.every_state(command, ENTITIES, names)
    return travel.states(command, await history(asked, ctx), names)


@service.handles(agents.run_at)
async def at(command: GetRunAt, ctx: Context) -> PastRun:
    """The newest entry of the run and of each step."""
    names = await names_of(await load_run(command.id, ctx), ctx)
    asked = travel.last_states(command, ENTITIES, names)
    return travel.as_it_was(command.id, await history(asked, ctx), lambda step: step["ordinal"])


@service.handles(agents.fork_run)
async def fork_run(command: ForkRun, ctx: Context) -> Run:
    """Another run, which begins where the step would."""
    run = await load_run(command.id, ctx)
    return await fork(run, command.from_step, command.changes, ctx)


async def fork(run: Run, from_step: str, changes: Json, ctx: Context) -> Run:
    """Queue it with the steps before; it is of whoever forks, and of no goal."""
    agent = Agent.model_validate(await ctx.row(store.GET, run.agent_id))
    kept = forking.before(run, await steps_of(run, ctx), from_step)
    config, brief, outputs = forking.changed(run, agent, changes)
    other = {
        "config": config, "forked_from": run.id, "fork_step": from_step,
        "root_id": run.root_id or run.id, "changes": changes, "tokens_max": run.tokens_max,
    }  # fmt: skip
    async with ctx.transaction() as tx:
        asked = StartRun(agent_id=agent.id, brief=brief)
        forked = await queue(tx, agent.id, asked, ctx, **other)
        new_ids = [ctx.new_id() for _ in range(len(kept) + len(outputs))]
        for step in forking.taken(kept, outputs, forked, new_ids):
            await tx.record(StepTaken(step=step))
    return forked


@service.handles(agents.compare_runs)
async def compare(command: CompareRuns, ctx: Context) -> RunComparison:
    """What counts of each run and of each step."""
    runs = [await load_run(run_id, ctx) for run_id in (command.id, command.other)]
    steps = [by_name(await steps_of(run, ctx)) for run in runs]
    first, second = map(forking.facts_of_run, runs)
    return travel.comparison((command.id, command.other), (first, second), tuple(steps))


def by_name(steps: list[Step]) -> dict[str, Json]:
    """What counts of each step."""
    return {step.name: forking.facts(step) for step in steps}


@service.handles(agents.rerun)
async def rerun(command: RerunRun, ctx: Context) -> Rerun:
    """By the code of now from the record; from where it diverges, in a fork unless offline."""
    was = await load_run(command.id, ctx)
    if was.finished_at is None:
        raise IllegalMove(status=was.status)
    recorded = await steps_of(was, ctx)
    if any(step.asked is None and not forking.is_given(step) for step in recorded):
        raise NotRecorded(id=was.id)
    agent = Agent.model_validate(await ctx.row(store.GET, was.agent_id))
    config, brief, _ = forking.changed(was, agent, command.changes)
    run = was.model_copy(update={"config": config, "brief": brief})
    ending = await offline.again(run, rules.as_begun(agent, run), recorded, was, ctx)
    now = {"status": ending.status, "result": ending.result, "error": ending.error}
    then = {name: getattr(was, name) for name in now}
    report = travel.rerun(
        (was.id, then, by_name(recorded)), (ending.status, now, by_name(ending.steps)),
        ending.diverged,
    )  # fmt: skip
    if ending.diverged is None or command.offline:
        return report
    forked = await fork(was, ending.diverged.step, command.changes, ctx)
    return report.model_copy(update={"fork_id": forked.id})
