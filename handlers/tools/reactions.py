"""How tools come and go: built-in ones at start, remote ones with the services that offer them.

A definition is pinned by name and version. A service that offers another one under the same
version is not believed until it says a new version; what was recorded before goes on to count.
"""

from bus import json_schemas, telemetry
from bus.context import Context
from bus.database import Transaction
from handlers.tools import rules, service, store
from handlers.tools.builtin import BUILTINS
from schemas import registry, tools
from schemas.contract import Event, Problem
from schemas.problems import BadSchema, VersionConflict
from schemas.registry import GetService, Service, ServiceAppeared, ServiceChanged, ServiceLost
from schemas.tools import Tool, ToolChanged, ToolRegistered, ToolVersionTaken


@service.starts
async def register_builtin(ctx: Context) -> None:
    """Register the tools of this code, and retire versions that a newer one has replaced."""
    rows = await ctx.database.rows(store.BUILTIN)
    stored = {(row["name"], row["tool_version"]): Tool.model_validate(dict(row)) for row in rows}
    for declared in BUILTINS.values():
        tool = declared.definition(ctx.now())
        before = stored.get((tool.name, tool.tool_version))
        if before is None:
            await record(ToolRegistered(tool=tool), ctx)
        elif not rules.same_definition(before, tool):
            contradicted(before, "this code")
    for tool in replaced(stored):
        await record(ToolChanged(tool=rules.changed(tool, "deprecated", ctx.now())), ctx)


def replaced(stored: dict[tuple[str, str], Tool]) -> list[Tool]:
    """Active built-in tools that this code has in a newer version."""
    return [
        tool
        for (name, version), tool in stored.items()
        if tool.status == "active"
        and name in BUILTINS
        and numbers(version) < numbers(BUILTINS[name].tool_version)
    ]


def numbers(version: str) -> tuple[int, ...]:
    """`1.10.0` as numbers, for comparing."""
    return tuple(int(part) for part in version.split("."))


async def record(event: Event, ctx: Context) -> None:
    """Record it, unless another process that starts now was faster."""
    try:
        async with ctx.transaction() as tx:
            await tx.record(event)
    except (VersionConflict, ToolVersionTaken):
        return


def contradicted(tool: Tool, by: str) -> None:
    """Log that a pinned definition was contradicted."""
    telemetry.log().warning(
        "tool definition differs under the same version; a new version is needed",
        tool=tool.name, tool_version=tool.tool_version, by=by,
    )  # fmt: skip


@service.reacts_to(tools.on_service_appeared)
async def learn_appeared(event: ServiceAppeared, ctx: Context) -> None:
    """Learn what the service offers now."""
    await learn(event.service.name, ctx)


@service.reacts_to(tools.on_service_changed)
async def learn_changed(event: ServiceChanged, ctx: Context) -> None:
    """Learn what the service offers now."""
    await learn(event.service.name, ctx)


@service.reacts_to(tools.on_service_lost)
async def learn_lost(event: ServiceLost, ctx: Context) -> None:
    """Its tools cannot be called now."""
    await learn(event.service.name, ctx)


async def learn(name: str, ctx: Context) -> None:
    """Bring the tools of a service in line with what it is now, whatever event came first."""
    async with ctx.transaction() as tx:
        await tx.execute(store.ONE_AT_A_TIME, name)
        current = await ctx.call(registry.service, GetService(name=name))
        offers = usable(current, ctx) if current.status != "lost" else []
        for offer in offers:
            await learn_one(offer, tx, ctx)
        await withdraw(current, {(o.name, o.tool_version) for o in offers}, tx, ctx)


def usable(current: Service, ctx: Context) -> list[Tool]:
    """The offered tools whose schemas can be used and whose names are free to take."""
    found: list[Tool] = []
    for offer in rules.offered(current, ctx.now()):
        try:
            json_schemas.check(offer.input_schema)
            json_schemas.check(offer.output_schema)
            if offer.name in BUILTINS:
                raise ToolVersionTaken("This is the name of a built-in tool.")
            found.append(offer)
        except (BadSchema, ToolVersionTaken) as refused:
            refuse(offer, refused)
    return found


def refuse(offer: Tool, reason: Problem) -> None:
    """Log that an offered tool is not taken."""
    telemetry.log().warning(
        "tool refused", tool=offer.name, by=offer.created_by, reason=reason.message
    )


async def learn_one(offer: Tool, tx: Transaction, ctx: Context) -> None:
    """Register it, or take it up again, or keep what is pinned."""
    owners = {row["created_by"] for row in await tx.rows(store.OWNERS, offer.name)}
    if owners - {offer.created_by}:
        refuse(offer, ToolVersionTaken("This name belongs to somebody else's tool."))
        return
    row = await tx.row(store.EXACT, offer.name, offer.tool_version)
    stored = Tool.model_validate(dict(row)) if row else None
    tool, contradiction = rules.learn(offer, stored, ctx.now())
    if contradiction:
        contradicted(offer, offer.created_by)
    if tool is not None:
        await tx.record(ToolChanged(tool=tool) if stored else ToolRegistered(tool=tool))


async def withdraw(
    current: Service, offers: set[tuple[str, str]], tx: Transaction, ctx: Context
) -> None:
    """What the service no longer offers cannot be called."""
    for row in await tx.rows(store.OF_CREATOR, rules.learned_from(current.name)):
        tool = Tool.model_validate(dict(row))
        if tool.status == "active" and (tool.name, tool.tool_version) not in offers:
            await tx.record(ToolChanged(tool=rules.changed(tool, "unavailable", ctx.now())))
