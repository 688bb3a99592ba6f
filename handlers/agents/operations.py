"""What agents answer."""

from contextlib import suppress
from typing import Any

from bus.context import Context
from bus.database import Transaction
from handlers.agents import rules, service, store
from schemas import agents
from schemas.agents import (
    Agent,
    AgentConfigured,
    AgentCreated,
    AgentMoved,
    AssignWork,
    CancelRun,
    ConfigureAgent,
    CreateAgent,
    FindRun,
    GetAgent,
    GetRun,
    ListAgents,
    ListRuns,
    ListSteps,
    MoveAgent,
    NoAgentFree,
    ResumeAgent,
    Run,
    RunFinished,
    RunQueued,
    StartRun,
    Step,
    SuspendAgent,
    TerminateAgent,
    Work,
)
from schemas.contract import Page
from schemas.problems import IllegalMove, NotFound, VersionConflict


async def load(agent_id: str, ctx: Context) -> Agent:
    """The agent, if the caller may know of it."""
    agent = Agent.model_validate(await ctx.row(store.GET, agent_id))
    ctx.require_owner(agent.owner_id, agent.id)
    return agent


async def load_run(run_id: str, ctx: Context) -> Run:
    """The run, if the caller may know of it."""
    run = Run.model_validate(await ctx.row(store.GET_RUN, run_id))
    ctx.require_owner(run.owner_id, run.id, run.agent_id, run.goal_id)
    return run


@service.handles(agents.create)
async def create(command: CreateAgent, ctx: Context) -> Agent:
    """Decide, write, announce, answer."""
    agent = rules.new_agent(command, id=ctx.new_id(), owner=ctx.principal.id, at=ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(AgentCreated(agent=agent))
    return agent


@service.handles(agents.get)
async def get(command: GetAgent, ctx: Context) -> Agent:
    """One row."""
    return await load(command.id, ctx)


@service.handles(agents.listing)
async def listing(command: ListAgents, ctx: Context) -> Page[Agent]:
    """A page of rows."""
    return await ctx.page(
        command, Agent, store.LIST, *ctx.visible, command.status, command.capability
    )


@service.handles(agents.configure)
async def configure(command: ConfigureAgent, ctx: Context) -> Agent:
    """Replace what is named, if nobody changed the agent in between."""
    before = await load(command.id, ctx)
    if before.version != command.version:
        raise VersionConflict(current=before.version)
    agent = rules.configured(before, command, ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(AgentConfigured(agent=agent))
    return agent


async def move(command: MoveAgent, to: agents.AgentStatus, ctx: Context) -> Agent:
    """One allowed move."""
    agent = rules.moved(await load(command.id, ctx), to, command.reason, ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(AgentMoved(agent=agent))
    return agent


@service.handles(agents.suspend)
async def suspend(command: SuspendAgent, ctx: Context) -> Agent:
    """To suspended."""
    return await move(command, "suspended", ctx)


@service.handles(agents.resume)
async def resume(command: ResumeAgent, ctx: Context) -> Agent:
    """To idle."""
    return await move(command, "idle", ctx)


@service.handles(agents.terminate)
async def terminate(command: TerminateAgent, ctx: Context) -> Agent:
    """To terminated, with every open run cancelled."""
    at = ctx.now()
    agent = rules.moved(await load(command.id, ctx), "terminated", command.reason, at)
    async with ctx.transaction() as tx:
        for row in await tx.rows(store.OPEN_RUNS, agent.id):
            run = rules.ended(Run.model_validate(dict(row)), "cancelled", at, ())
            await tx.record(RunFinished(run=run))
        await tx.record(AgentMoved(agent=agent.model_copy(update={"running": 0})))
    return agent


async def queue(
    tx: Transaction, agent_id: str, command: StartRun | AssignWork, ctx: Context, **forked: Any
) -> Run:
    """Give the agent one more run, and a worker the job to do it.

    Args:
        tx: In which it is recorded.
        agent_id: The agent.
        command: What it is asked.
        ctx: Of whoever asks.
        forked: What the run has of another one.

    Raises:
        NoAgentFree: The agent has no room any more.
    """
    agent = await lock(tx, agent_id)
    if not rules.has_room(agent):
        raise NoAgentFree(agent=agent.name, status=agent.status)
    run = rules.new_run(agent, command, ctx.principal, id=ctx.new_id(), at=ctx.now())
    run = run.model_copy(update=forked)
    await tx.record(AgentMoved(agent=rules.with_run(agent, ctx.now())))
    await tx.record(RunQueued(run=run))
    await tx.enqueue(Work(run_id=run.id))
    return run


@service.handles(agents.start_run)
async def start_run(command: StartRun, ctx: Context) -> Run:
    """Ask this agent."""
    agent = await load(command.agent_id, ctx)
    async with ctx.transaction() as tx:
        return await queue(tx, agent.id, command, ctx)


@service.handles(agents.assign)
async def assign(command: AssignWork, ctx: Context) -> Run:
    """Ask the agent that fits best."""
    rows = await ctx.database.rows(store.CANDIDATES, list(command.capabilities))
    candidates = [(Agent.model_validate(dict(r), extra="ignore"), r["success"]) for r in rows]
    agent = rules.best_agent(candidates, command.capabilities)
    if agent is None:
        raise NoAgentFree(capabilities=list(command.capabilities))
    async with ctx.transaction() as tx:
        return await queue(tx, agent.id, command, ctx)


@service.handles(agents.run)
async def get_run(command: GetRun, ctx: Context) -> Run:
    """One row."""
    return await load_run(command.id, ctx)


@service.handles(agents.runs)
async def runs(command: ListRuns, ctx: Context) -> Page[Run]:
    """A page of rows."""
    return await ctx.page(
        command, Run, store.LIST_RUNS,
        *ctx.visible, command.agent_id, command.goal_id, command.status,
    )  # fmt: skip


@service.handles(agents.cancel_run)
async def cancel_run(command: CancelRun, ctx: Context) -> Run:
    """To cancelled; the worker notices before its next step."""
    await load_run(command.id, ctx)
    return await cancelled(command.id, command.reason or "cancelled", ctx)


async def cancelled(run_id: str, why: str, ctx: Context) -> Run:
    """End a run before its result.

    Raises:
        IllegalMove: It has ended.
    """
    reason = {"code": "cancelled", "message": why}
    async with ctx.transaction() as tx:
        before = await lock_run(tx, run_id)
        steps = [Step.model_validate(dict(row)) for row in await tx.rows(store.STEPS, before.id)]
        run = rules.ended(before, "cancelled", ctx.now(), steps, error=reason)
        await release(tx, run.agent_id, ctx)
        await tx.record(RunFinished(run=run))
    return run


async def lock_run(tx: Transaction, run_id: str) -> Run:
    """The run as it is now, held until the transaction ends.

    Raises:
        NotFound: There is none.
    """
    row = await tx.row(store.LOCK_RUN, run_id)
    if row is None:
        raise NotFound(id=run_id)
    return Run.model_validate(dict(row))


async def lock(tx: Transaction, agent_id: str) -> Agent:
    """The agent as it is now, held until the transaction ends.

    Raises:
        NotFound: There is none.
    """
    row = await tx.row(store.LOCK, agent_id)
    if row is None:
        raise NotFound(id=agent_id)
    return Agent.model_validate(dict(row))


async def release(tx: Transaction, agent_id: str, ctx: Context) -> None:
    """Take one run off the agent."""
    agent = await lock(tx, agent_id)
    if agent.running > 0:
        await tx.record(AgentMoved(agent=rules.without_run(agent, ctx.now())))


@service.handles(agents.find_run)
async def find_run(command: FindRun, ctx: Context) -> Run:
    """One row."""
    return Run.model_validate(await ctx.row(store.FIND_RUN, command.id, command.task_id))


@service.handles(agents.stop_run)
async def stop_run(command: CancelRun, ctx: Context) -> Run:
    """To cancelled, whoever its owner is."""
    run = Run.model_validate(await ctx.row(store.GET_RUN, command.id))
    if run.finished_at is None:
        with suppress(IllegalMove):  # it has ended just now
            return await cancelled(command.id, command.reason or "cancelled", ctx)
    return Run.model_validate(await ctx.row(store.GET_RUN, command.id))


@service.handles(agents.steps)
async def steps(command: ListSteps, ctx: Context) -> Page[Step]:
    """A page of the run's steps."""
    await load_run(command.run_id, ctx)
    return await ctx.page(command, Step, store.LIST_STEPS, command.run_id, sort={"ordinal": int})
