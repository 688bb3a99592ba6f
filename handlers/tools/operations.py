"""What the tools domain answers."""

from datetime import datetime

from bus import json_schemas
from bus.context import Context
from handlers.tools import rules, service, store
from handlers.tools.builtin import BUILTINS
from handlers.tools.calling import call_once
from schemas import tools
from schemas.contract import Page
from schemas.problems import Denied
from schemas.tools import (
    DeprecateTool,
    GetInvocation,
    GetTool,
    InvokeTool,
    ListInvocations,
    ListTools,
    RegisterTool,
    SearchTools,
    Tool,
    ToolChanged,
    ToolHit,
    ToolHits,
    ToolInvocation,
    ToolRegistered,
    ToolUnknown,
    ToolVersionTaken,
)


@service.handles(tools.register)
async def register(command: RegisterTool, ctx: Context) -> Tool:
    """Check the schemas, decide, write, announce, answer."""
    json_schemas.check(command.input_schema)
    json_schemas.check(command.output_schema)
    await require_name(command.name, ctx)
    tool = rules.registered(command, id=ctx.new_id(), owner=ctx.principal.id, at=ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(ToolRegistered(tool=tool))
    return tool


async def require_name(name: str, ctx: Context) -> None:
    """Refuse a name that belongs to a built-in tool, or to somebody else's.

    Raises:
        ToolVersionTaken: It does.
    """
    if name in BUILTINS:
        raise ToolVersionTaken("This is the name of a built-in tool.", name=name)
    owners = [row["created_by"] for row in await ctx.database.rows(store.OWNERS, name)]
    if "admin" not in ctx.principal.roles and set(owners) - {ctx.principal.id}:
        raise ToolVersionTaken("This name belongs to somebody else's tool.", name=name)


async def load(name: str, tool_version: str | None, ctx: Context) -> Tool:
    """The tool, active versions first, newest first.

    Raises:
        ToolUnknown: There is none.
    """
    row = await ctx.database.row(store.FIND, name, tool_version)
    if row is None:
        raise ToolUnknown(name=name)
    return Tool.model_validate(dict(row))


@service.handles(tools.get)
async def get(command: GetTool, ctx: Context) -> Tool:
    """One row."""
    return await load(command.name, command.tool_version, ctx)


@service.handles(tools.listing)
async def listing(command: ListTools, ctx: Context) -> Page[Tool]:
    """A page of rows."""
    page = await ctx.page(
        command, Tool, store.LIST, command.category, command.status,
        sort={"name": str, "id": str},
    )  # fmt: skip
    return ctx.reached(page, names_of)


def names_of(tool: Tool) -> tuple[str, ...]:
    """Its owner, and what grants may call it."""
    return tool.created_by, tool.name, tool.id


@service.handles(tools.search)
async def search(command: SearchTools, ctx: Context) -> ToolHits:
    """By words, stemmed, and by likeness."""
    rows = await ctx.database.rows(store.SEARCH, command.q.replace("\x00", " "), command.limit)
    hits = [
        ToolHit(tool=Tool.model_validate(dict(row), extra="ignore"), score=round(row["score"], 4))
        for row in rows
    ]
    return ToolHits(items=tuple(hit for hit in hits if ctx.reaches(*names_of(hit.tool))))


@service.handles(tools.deprecate)
async def deprecate(command: DeprecateTool, ctx: Context) -> Tool:
    """Deprecated once is deprecated for ever."""
    before = await load(command.name, command.tool_version, ctx)
    ctx.require_owner(before.created_by, before.name)
    if before.status == "deprecated":
        return before
    tool = rules.changed(before, "deprecated", ctx.now())
    async with ctx.transaction() as tx:
        await tx.record(ToolChanged(tool=tool))
    return tool


def require_granted(name: str, ctx: Context) -> None:
    """Refuse a tool that the agent's run was not given.

    Raises:
        Denied: It was not.
    """
    run = ctx.principal.run
    if run is not None and name not in run.tools:
        raise Denied("The agent's run may not call this tool.", tool=name, run_id=run.run_id)


@service.handles(tools.invoke)
async def invoke(command: InvokeTool, ctx: Context) -> ToolInvocation:
    """See `calling`: claim, run, check, record."""
    require_granted(command.name, ctx)
    return await call_once(command, ctx)


@service.handles(tools.invocation)
async def invocation(command: GetInvocation, ctx: Context) -> ToolInvocation:
    """One row."""
    return ToolInvocation.model_validate(await ctx.row(store.INVOCATION, command.id))


@service.handles(tools.invocations)
async def invocations(command: ListInvocations, ctx: Context) -> Page[ToolInvocation]:
    """A page of rows."""
    page = await ctx.page(
        command, ToolInvocation, store.INVOCATIONS,
        command.tool_name, command.status, command.goal_id, command.task_id,
        sort={"requested_at": datetime, "id": str},
    )  # fmt: skip
    return ctx.reached(page, lambda found: (None, found.tool_name, found.id))
