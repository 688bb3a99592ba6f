"""The work of agents: one run at a time in a worker, one recorded step after another.

Before a step its intent is recorded, after it its outcome; a worker that takes a run up again
begins at the first step without an outcome. The model's answer and the tool's effect are asked
for under the key `<run>/<step>`, so asking again gives the same answer and bills nothing.
"""

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

from bus import faults, stopping, travel
from bus.context import Context
from handlers.agents import conversation, rules, service, store
from handlers.agents.operations import cancelled, lock_run, release
from schemas import agents, models, tools
from schemas.agents import (
    Agent,
    AgentCreated,
    AgentLimits,
    CreateAgent,
    ModelStep,
    Run,
    RunFinished,
    RunStarted,
    RunStatus,
    RunTooLong,
    Step,
    StepFinished,
    StepKind,
    StepStarted,
    ToolStep,
    Work,
)
from schemas.contract import Json, Problem
from schemas.identity import principals
from schemas.identity.keys import KeyRevoked
from schemas.identity.principals import ActFor
from schemas.identity.users import UserChanged
from schemas.models import Generation, OutputOutsideSchema
from schemas.principal import Mandate, Principal
from schemas.problems import IllegalMove, Unauthenticated, VersionConflict
from schemas.tools import InvokeTool, SearchTools, Tool
from schemas.travel import Asked

TOOL_TIMEOUT_S = 125.0
MODEL_TIMEOUT_S = 175.0
TOOLS_OFFERED_MAX = 3
AGENTS = Principal(id="agents", kind="service", via="bus")


async def give_up(job: Work, ctx: Context, problem: Problem) -> None:
    """The run will not be tried again: it has failed."""
    run = await find(job.run_id, ctx)
    if run.status in ("queued", "running"):
        await finish(run, "failed", await steps_of(run, ctx), ctx, error=problem.kept())


@service.works(Work, gave_up=give_up)
async def work(job: Work, ctx: Context) -> None:
    """Do a run, from its last recorded step on."""
    run = await find(job.run_id, ctx)
    if run.status not in ("queued", "running"):
        return
    if run.goal_id:
        ctx.part_of(run.goal_id)
    agent = Agent.model_validate(await ctx.row(store.GET, run.agent_id))
    async with ctx.transaction() as tx:
        run = await lock_run(tx, job.run_id)
        if run.status not in ("queued", "running"):
            return
        run = rules.started(run, agent, ctx.now())
        await tx.record(RunStarted(run=run))
    await until_cancelled(carry_out(run, rules.as_begun(agent, run), ctx), run, ctx)


async def until_cancelled(doing: Coroutine[Any, Any, None], run: Run, ctx: Context) -> None:
    """Do it, but stop as soon as somebody else has ended the run."""
    ended = asyncio.Event()

    async def heard(_: Any) -> None:
        ended.set()

    subject = f"{RunFinished.subject_root()}.{run.id}"
    subscription = await ctx.platform.connection.subscribe(subject, cb=heard)
    task, waiting = asyncio.ensure_future(doing), asyncio.ensure_future(ended.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
    finally:
        task.cancel(stopping.FOR_GOOD if ended.is_set() else None)
        waiting.cancel()
        await subscription.unsubscribe()


async def carry_out(run: Run, agent: Agent, ctx: Context) -> None:
    """Step after step until there is a result, or no more room or right for one."""
    while True:
        steps = await steps_of(run, ctx)
        try:
            acting = await acting_for(run, agent, steps, ctx)
        except Unauthenticated as refused:
            await finish(run, "cancelled", steps, ctx, error=refused.kept())
            return
        try:
            done, result = await advance(run, agent, steps, acting)
        except VersionConflict:
            return  # another worker records the steps of this run
        except Problem as problem:
            if problem.retryable:
                raise
            await finish(run, "failed", await steps_of(run, ctx), ctx, error=problem.kept())
            return
        if done:
            await finish(run, "succeeded", await steps_of(run, ctx), ctx, result=result)
            return


async def acting_for(run: Run, agent: Agent, steps: Sequence[Step], ctx: Context) -> Context:
    """The context of the next step: what the owner may now, and of that what the run may.

    Raises:
        Unauthenticated: The owner may nothing any more.
    """
    mandate = run.mandate or Mandate.of(ctx.principal)
    question = ActFor(owner_id=run.owner_id, mandate=mandate)
    owner = await ctx.as_principal(AGENTS).call(principals.act_for, question)
    rights = rules.rights_of(run, agent, steps)
    return ctx.as_principal(owner.model_copy(update={"run": rights}))


async def advance(run: Run, agent: Agent, steps: Sequence[Step], ctx: Context) -> tuple[bool, Any]:
    """Do the next step; says whether the run has its result, and that result.

    Raises:
        RunTooLong: The run has used up its steps, tokens or time.
    """
    check_limits(run, agent, steps, ctx)
    if run.brief.steps:
        prescribed = rules.next_prescribed(run.brief, steps)
        if prescribed is None:
            return True, rules.result_of(run.brief, steps)
        await do_prescribed(prescribed, run, agent, steps, ctx)
        return False, None
    return await do_chosen(run, agent, steps, ctx)


def check_limits(run: Run, agent: Agent, steps: Sequence[Step], ctx: Context) -> None:
    """Stop a run that goes on for too long.

    Raises:
        RunTooLong: It does.
    """
    tokens = sum(step.prompt_tokens + step.completion_tokens for step in steps)
    finished = sum(step.status == "finished" for step in steps)
    limit = max(agent.limits.steps, len(run.brief.steps))
    if finished > limit or tokens > rules.tokens_max(run, agent):
        raise RunTooLong(steps=finished, tokens=tokens)
    if rules.out_of_time(run, agent, ctx.now()):
        raise RunTooLong(seconds=agent.limits.seconds)


async def do_prescribed(
    prescribed: ToolStep | ModelStep, run: Run, agent: Agent, steps: Sequence[Step], ctx: Context
) -> None:
    """A step that the brief prescribes."""
    scope = rules.scope_of(run.brief, steps)
    if isinstance(prescribed, ToolStep):
        arguments = rules.resolve(prescribed.arguments, scope)
        step = await begin_tool(run, steps, prescribed.name, prescribed.tool, arguments, ctx)
        await call_tool(run, step, ctx)
        return
    ask = conversation.fill(prescribed.ask, scope)
    question = conversation.question(agent, run, ask, prescribed)
    step = await begin_model(run, steps, prescribed.name, question, {"ask": ask}, ctx)
    generation = await ask_model(step, question, ctx)
    await end_model_step(step, generation, generation.value, ctx)


async def do_chosen(
    run: Run, agent: Agent, steps: Sequence[Step], ctx: Context
) -> tuple[bool, Any]:
    """A step that the model decides on: call a tool, or answer."""
    pending = next((s for s in steps if s.status == "started" and s.kind == "tool"), None)
    if pending is not None:
        await call_tool(run, pending, ctx)
        return False, None
    call = conversation.call_without_step(steps)
    if call is not None:
        step = await begin_tool(run, steps, f"tool-{len(steps)}", call.name, call.arguments, ctx)
        await call_tool(run, step, ctx)
        return False, None
    last = len(steps) >= agent.limits.steps - 1
    offered = [] if last else await offered_tools(agent, run, ctx)
    question = conversation.next_turn(agent, run, steps, offered)
    given = {rules.OFFERED: [tool.name for tool in offered]}
    step = await begin_model(run, steps, f"turn-{len(steps)}", question, given, ctx)
    try:
        generation = await ask_model(step, question, ctx)
    except OutputOutsideSchema as refused:
        await record_end(step, ctx, output={"error": refused.kept()})
        return False, None
    output = {
        "text": generation.text,
        "tool_calls": [call.model_dump() for call in generation.tool_calls[:1]],
    }
    await end_model_step(step, generation, output, ctx)
    if generation.tool_calls:
        return False, None
    return True, {"text": generation.text}


async def offered_tools(agent: Agent, run: Run, ctx: Context) -> list[Tool]:
    """The agent's tools, or those that fit the objective best; few, for a small model."""
    if agent.config.tools:
        chosen = agent.config.tools[:TOOLS_OFFERED_MAX]
        return [await ctx.call(tools.get, tools.GetTool(name=name)) for name in chosen]
    query = SearchTools(q=run.brief.objective[:500], limit=TOOLS_OFFERED_MAX)
    return [hit.tool for hit in (await ctx.call(tools.search, query)).items]


async def begin_tool(
    run: Run, steps: Sequence[Step], name: str, tool: str, arguments: Any, ctx: Context
) -> Step:
    """Record that a tool is about to be called."""
    asked = travel.asked(tools.invoke.name, {"name": tool, "arguments": arguments})
    return await begin(run, steps, "tool", name, tool, arguments, asked, ctx)


async def begin_model(
    run: Run, steps: Sequence[Step], name: str, asks: models.GenerateText, given: Json, ctx: Context
) -> Step:
    """Record that the model is about to be asked."""
    asked = travel.question(models.generate, asks)
    return await begin(run, steps, "model", name, asks.purpose, given, asked, ctx)


async def begin(
    run: Run, steps: Sequence[Step], kind: StepKind, name: str, target: str, given: Json,
    asked: Asked, ctx: Context,
) -> Step:  # fmt: skip
    """Record the intent; a step that was begun before is begun again under the same id."""
    again = next((s for s in steps if s.name == name), None)
    if again is not None:
        once_more = {"version": again.version + 1, "attempts": again.attempts + 1}
        step = again.model_copy(update=once_more | {"status": "started", "asked": asked})
    else:
        step = Step(
            id=ctx.new_id(), version=1, run_id=run.id, goal_id=run.goal_id, task_id=run.task_id,
            ordinal=len(steps), kind=kind, name=name, target=target, status="started",
            input=given, output=None, error=None, prompt_tokens=0, completion_tokens=0,
            reference=None, attempts=1, started_at=ctx.now(), finished_at=None, asked=asked,
        )  # fmt: skip
    async with ctx.transaction() as tx:
        await tx.record(StepStarted(step=step))
    return step


async def call_tool(run: Run, step: Step, ctx: Context) -> None:
    """Call the tool under the step's key, and record what it gave."""
    command = InvokeTool(
        name=step.target, arguments=step.input,
        agent_id=run.agent_id, task_id=run.task_id, goal_id=run.goal_id,
    )  # fmt: skip
    try:
        invocation = await ctx.call(
            tools.invoke, command, key=key_of(step), timeout_s=TOOL_TIMEOUT_S
        )
    except Problem as problem:
        if problem.retryable or run.brief.steps:
            raise
        await record_end(step, ctx, output={"error": problem.kept()})
        return
    faults.point("after-tool-before-checkpoint")
    await record_end(step, ctx, output=invocation.result, reference=invocation.id)


async def ask_model(step: Step, question: models.GenerateText, ctx: Context) -> Generation:
    """Ask the model under the step's key; its tokens flow to `live.models.<step id>`."""
    generation = await ctx.call(
        models.generate, question, key=key_of(step), stream_id=step.id, timeout_s=MODEL_TIMEOUT_S
    )
    faults.point("after-model-before-checkpoint")
    return generation


async def end_model_step(step: Step, generation: Generation, output: Any, ctx: Context) -> None:
    """Record what the model said and what it used."""
    await record_end(
        step, ctx, output=output, reference=generation.id, target=generation.model,
        prompt_tokens=generation.prompt_tokens, completion_tokens=generation.completion_tokens,
    )  # fmt: skip


async def record_end(step: Step, ctx: Context, **fields: Any) -> None:
    """The step is done and will not be done again."""
    ended = step.model_copy(
        update=fields
        | {"version": step.version + 1, "status": "finished", "finished_at": ctx.now()}
    )
    async with ctx.transaction() as tx:
        await tx.record(StepFinished(step=ended))


async def finish(
    run: Run, to: RunStatus, steps: Sequence[Step], ctx: Context, **fields: Any
) -> None:
    """Record the end of the run and make room at the agent, unless somebody else has ended it."""
    async with ctx.transaction() as tx:
        current = await lock_run(tx, run.id)
        if current.status not in ("queued", "running"):
            raise IllegalMove(status=current.status)
        await release(tx, run.agent_id, ctx)
        await tx.record(RunFinished(run=rules.ended(current, to, ctx.now(), steps, **fields)))


async def find(run_id: str, ctx: Context) -> Run:
    """The run as it is now."""
    return Run.model_validate(await ctx.row(store.GET_RUN, run_id))


async def steps_of(run: Run, ctx: Context) -> list[Step]:
    """Every step so far, in order."""
    rows = await ctx.database.rows(store.STEPS, run.id)
    return [Step.model_validate(dict(row)) for row in rows]


def key_of(step: Step) -> str:
    """What makes asking again give the same answer."""
    return f"{step.run_id}/{step.ordinal}"


@service.reacts_to(agents.on_user_changed)
async def stop_disabled(event: UserChanged, ctx: Context) -> None:
    """What a disabled user has asked for stops, in whose hands ever it is."""
    if event.user.status != "active":
        async with ctx.transaction() as tx:  # its inbox row keeps the order of the user's events
            rows = await tx.rows(store.OPEN_RUNS_OF, event.user.id, None)
        await stop([str(row["id"]) for row in rows], "The owner was disabled.", ctx)


@service.reacts_to(agents.on_key_revoked)
async def stop_revoked(event: KeyRevoked, ctx: Context) -> None:
    """What was asked for with a revoked key stops."""
    key = event.key
    async with ctx.transaction() as tx:
        rows = await tx.rows(store.OPEN_RUNS_OF, key.owner_id, f"key/{key.id}")
    await stop([str(row["id"]) for row in rows], "The key was revoked.", ctx)


async def stop(run_ids: Sequence[str], reason: str, ctx: Context) -> None:
    """Cancel runs, each in a transaction of its own; one that has ended meanwhile needs nothing."""
    acting = ctx.as_principal(AGENTS.model_copy(update={"id": ctx.origin.actor}))
    for run_id in run_ids:
        with contextlib.suppress(IllegalMove):
            await cancelled(run_id, reason, acting)


READING, ANALYSIS, WRITING = ("read", "extract"), ("analyse", "compare", "calculate"), (
    "write", "summarise",
)  # fmt: skip
FIRST_AGENTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("reader", READING),
    ("analyst", ANALYSIS),
    ("writer", WRITING),
    ("generalist", READING + ANALYSIS + WRITING),
)
FIRST_LIMITS = AgentLimits(parallel=4, steps=4)


@service.starts
async def create_first_agents(ctx: Context) -> None:
    """An empty installation gets agents that cover every capability of the templates."""
    row = await ctx.database.row(store.HAS_AGENTS)
    if row is None or row["agents"]:
        return
    for name, capabilities in FIRST_AGENTS:
        command = CreateAgent(
            name=name, agent_type="builtin", capabilities=capabilities, limits=FIRST_LIMITS
        )
        agent = rules.new_agent(command, id=ctx.new_id(), owner="admin", at=ctx.now())
        try:
            async with ctx.transaction() as tx:
                await tx.record(AgentCreated(agent=agent))
        except Problem:
            return  # another process was first
