"""One call of a tool, from the claim to its recorded outcome.

    claim    the intent is recorded under the caller's key; of two, one wins
    run      built-in function or remote subject, inside the tool's timeout
    check    against the output schema
    record   the outcome; the same key is answered with it from then on
    again    at most twice, when nothing was heard and the tool bears being called again

Between claim and record the process may die. The next request under the same key finds the call
without an outcome and, once its time is over, repeats it if the tool bears that.
"""

import asyncio
import math
from typing import Any

import orjson

from bus import faults, json_schemas, stopping
from bus.context import Context
from handlers.tools import remote, rules, store
from handlers.tools.builtin import BUILTINS, Call
from schemas.contract import Event, Problem
from schemas.identity import runs
from schemas.identity.runs import RUN_TOKEN_S, IssueRunToken
from schemas.principal import Principal
from schemas.problems import (
    DependencyDown,
    KeyReused,
    OutsideSchema,
    StillRunning,
    TimedOut,
    Unavailable,
    VersionConflict,
)
from schemas.tools import (
    InvocationFailed,
    InvocationRequested,
    InvocationSucceeded,
    InvokeTool,
    NeedsAttention,
    Tool,
    ToolBrokeItsSchema,
    ToolFailed,
    ToolInvocation,
    ToolStopped,
    ToolTimedOut,
    ToolUnknown,
)

ANSWER_MARGIN_S = 0.5
TIME_MIN_S = 0.05
TOOLS = Principal(id="tools", kind="service", via="bus")
OWN_PROBLEMS = (OutsideSchema, ToolFailed, ToolTimedOut, ToolBrokeItsSchema, Unavailable)


async def call_once(command: InvokeTool, ctx: Context) -> ToolInvocation:
    """Call the tool, or answer with what the same key gave before.

    Raises:
        Problem: What the call ended with, now or before.
    """
    before = await earlier(command, ctx)
    if before is None:
        tool = await find(command, ctx)
        check_arguments(tool, command)
        invocation = rules.new_invocation(
            tool, command, id=id_of(ctx), caller=ctx.principal,
            request_id=ctx.origin.request_id, at=ctx.now(),
        )  # fmt: skip
    else:
        tool = Tool.model_validate(await ctx.row(store.GET, before.tool_id))
        following = await follow(before, tool, ctx)
        if following is None:
            return before
        invocation = following
    return await call_until_heard(tool, command, invocation, ctx)


async def call_until_heard(
    tool: Tool, command: InvokeTool, invocation: ToolInvocation, ctx: Context
) -> ToolInvocation:
    """Call the tool; one that bears it is called again when a request or answer was lost.

    Every attempt has the id of the first, so a careful tool knows it again.
    """
    while True:
        time_s = time_for(tool, command, ctx)
        await claim(invocation, ctx)
        try:
            return await carry_out(tool, invocation, time_s, ctx)
        except ToolTimedOut:
            left_s = time_left_s(ctx)
            if not rules.worth_another(invocation, tool) or left_s < ANSWER_MARGIN_S + TIME_MIN_S:
                raise
            unheard = ToolInvocation.model_validate(await ctx.row(store.INVOCATION, invocation.id))
            invocation = rules.again(unheard, ctx.now())


def id_of(ctx: Context) -> str:
    """The id of this call; a key always gives the same."""
    return rules.invocation_id(ctx.principal, ctx.key) if ctx.key else ctx.new_id()


async def earlier(command: InvokeTool, ctx: Context) -> ToolInvocation | None:
    """The call that was made under this key before.

    Raises:
        KeyReused: It was another call.
    """
    if ctx.key is None:
        return None
    row = await ctx.database.row(store.INVOCATION, id_of(ctx))
    if row is None:
        return None
    before = ToolInvocation.model_validate(dict(row))
    if before.params_hash != rules.hash_of(command):
        raise KeyReused
    return before


async def find(command: InvokeTool, ctx: Context) -> Tool:
    """The tool that is meant, if it can be called.

    Raises:
        ToolUnknown: There is none.
        Unavailable: Its service does not answer now.
    """
    row = await ctx.database.row(store.FIND, command.name, command.tool_version)
    if row is None or row["status"] == "deprecated":
        raise ToolUnknown(name=command.name)
    if row["status"] == "unavailable":
        raise Unavailable("The service of this tool does not answer now.", tool=command.name)
    return Tool.model_validate(dict(row))


def check_arguments(tool: Tool, command: InvokeTool) -> None:
    """Refuse arguments that the tool does not take.

    Raises:
        OutsideSchema: They do not fit.
    """
    if len(orjson.dumps(command.arguments)) > rules.ARGUMENTS_BYTES_MAX:
        raise OutsideSchema("The arguments are too large.", path="", tool=tool.name)
    json_schemas.require_fit(tool.input_schema, command.arguments, "/arguments", tool=tool.name)


async def follow(before: ToolInvocation, tool: Tool, ctx: Context) -> ToolInvocation | None:
    """What an earlier call under this key leads to: None is its answer, else it runs again.

    Raises:
        StillRunning: It has not ended.
        NeedsAttention: It was cut off and must not be repeated.
        Problem: It ended with this.
    """
    match rules.what_next(before, tool, ctx.now()):
        case "answer":
            return None
        case "wait":
            raise StillRunning(invocation_id=before.id)
        case "again":
            return rules.again(before, ctx.now())
        case "give_up":
            problem = NeedsAttention(invocation_id=before.id, tool=tool.name)
            given_up = rules.given_up(before, problem, ctx.now())
            await record(InvocationFailed(invocation=given_up), ctx)
            raise problem
    raise rules.problem_of(before)


def time_for(tool: Tool, command: InvokeTool, ctx: Context) -> float:
    """How long the tool may take, in seconds; enough is left to record and answer.

    Raises:
        TimedOut: No time is left.
    """
    time_s = min(command.timeout_ms or tool.timeout_ms, tool.timeout_ms) / 1000
    time_s = min(time_s, time_left_s(ctx) - ANSWER_MARGIN_S)
    if time_s < TIME_MIN_S:
        raise TimedOut("No time is left to call the tool.")
    return time_s


def time_left_s(ctx: Context) -> float:
    """Until the caller waits no more."""
    if ctx.deadline_ms is None:
        return math.inf
    return (ctx.deadline_ms - ctx.platform.clock.unix_ms()) / 1000


async def claim(invocation: ToolInvocation, ctx: Context) -> None:
    """Record that the tool is about to be called.

    Raises:
        StillRunning: Another request under the same key was faster.
    """
    try:
        await record(InvocationRequested(invocation=invocation), ctx)
    except VersionConflict:
        raise StillRunning(invocation_id=invocation.id) from None
    faults.point("tool-claimed")


async def carry_out(
    tool: Tool, invocation: ToolInvocation, time_s: float, ctx: Context
) -> ToolInvocation:
    """Run the tool and record its outcome.

    Raises:
        Problem: The tool gave no result that can be used.
    """
    try:
        result = await run(tool, invocation, time_s, ctx)
        check_result(tool, result)
    except DependencyDown:
        raise  # whether it ran is not known: the call stays open until its time is over
    except asyncio.CancelledError as cancelled:
        if stopping.is_for_good(cancelled):
            failed = rules.failed(invocation, ToolStopped(tool=tool.name), ctx.now())
            await record(InvocationFailed(invocation=failed), ctx)
        raise
    except Problem as failure:
        problem = as_own(failure)
        failed = rules.failed(invocation, problem, ctx.now())
        await record(InvocationFailed(invocation=failed), ctx)
        raise problem from failure
    faults.point("tool-ran")
    done = rules.succeeded(invocation, result, ctx.now())
    await record(InvocationSucceeded(invocation=done), ctx)
    return done


async def run(tool: Tool, invocation: ToolInvocation, time_s: float, ctx: Context) -> Any:
    """The result, not yet checked."""
    if tool.kind == "remote":
        deadline_ms = ctx.platform.clock.unix_ms() + int(time_s * 1000)
        headers = remote.headers_for(invocation.id, deadline_ms, ctx.origin)
        if ctx.principal.run is not None:
            headers[remote.RUN_TOKEN] = await run_token(ctx, time_s)
        connection = ctx.platform.connection
        return await remote.call(connection, tool, invocation.params, headers, time_s)
    declared = BUILTINS.get(tool.name)
    if declared is None or declared.tool_version != tool.tool_version:
        raise ToolUnknown("This version of the tool is not in this process.", name=tool.name)
    wanted = declared.input.model_validate(invocation.params)
    try:
        async with asyncio.timeout(time_s):
            answer = await declared.run(wanted, Call(ctx, invocation))
    except TimeoutError:
        raise ToolTimedOut(tool=tool.name, timeout_s=round(time_s, 3)) from None
    return answer.model_dump(mode="json")


async def run_token(ctx: Context, time_s: float) -> str:
    """With what the tool may call back in the agent's run, for as long as its own call lasts."""
    command = IssueRunToken(principal=ctx.principal, seconds=min(RUN_TOKEN_S, math.ceil(time_s)))
    issued = await ctx.as_principal(TOOLS).call(runs.run_token, command)
    return issued.token.get_secret_value()


def check_result(tool: Tool, result: Any) -> None:
    """Refuse a result that the tool did not promise.

    Raises:
        ToolBrokeItsSchema: It is too large or does not fit.
    """
    size = len(orjson.dumps(result))
    if size > rules.RESULT_BYTES_MAX:
        raise ToolBrokeItsSchema("The tool's answer is too large.", bytes=size)
    wrong = json_schemas.violation(tool.output_schema, result)
    if wrong is not None:
        raise ToolBrokeItsSchema(
            f"The tool's answer does not fit its schema: {wrong['reason']}", path=wrong["path"]
        )


def as_own(problem: Problem) -> Problem:
    """A problem of another domain as one that a tool call may answer."""
    if isinstance(problem, OWN_PROBLEMS):
        return problem
    details = {str(k): v for k, v in problem.details.items()} | {"cause": problem.code}
    if problem.retryable:
        return Unavailable(problem.message, **details)
    return ToolFailed(problem.message, **details)


async def record(event: Event, ctx: Context) -> None:
    """One transaction of its own."""
    async with ctx.transaction() as tx:
        await tx.record(event)
