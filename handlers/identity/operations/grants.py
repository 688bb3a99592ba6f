"""Grants: exceptions to the roles; every process hears of a change and weighs anew."""

from bus.context import Context
from handlers.identity import service
from handlers.identity.store import grants as store
from schemas.contract import Page
from schemas.identity import grants
from schemas.identity.grants import (
    GRANTS_MAX,
    GetGrant,
    Give,
    Grant,
    GrantGiven,
    GrantWithdrawn,
    ListGrants,
    Withdraw,
)
from schemas.identity.keys import BeyondOwnRights
from schemas.problems import NotFound, Overloaded


@service.handles(grants.give)
async def give(command: Give, ctx: Context) -> Grant:
    """Decide, write, announce, answer. Nobody can allow what he may not do himself."""
    if command.allow and ctx.principal.scope_of(command.permission) != "all":
        raise BeyondOwnRights(permissions=[command.permission])
    grant = Grant(
        id=ctx.new_id(), version=1, **command.model_dump(), created_by=ctx.principal.id,
        created_at=ctx.now(), withdrawn_at=None,
    )  # fmt: skip
    async with ctx.transaction() as tx:
        counted = await tx.row(store.COUNT)
        if counted is not None and counted["found"] >= GRANTS_MAX:
            raise Overloaded(f"There are {GRANTS_MAX} grants: use roles, or withdraw some.")
        await tx.record(GrantGiven(grant=grant))
    return grant


@service.handles(grants.grant)
async def get(command: GetGrant, ctx: Context) -> Grant:
    """One row."""
    return Grant.model_validate(await ctx.row(store.GET, command.id))


@service.handles(grants.grants)
async def listing(command: ListGrants, ctx: Context) -> Page[Grant]:
    """A page of rows."""
    return await ctx.page(command, Grant, store.LIST, command.subject, command.thing)


@service.handles(grants.withdraw)
async def withdraw(command: Withdraw, ctx: Context) -> Grant:
    """End it; a second time changes nothing."""
    async with ctx.transaction() as tx:
        row = await tx.row(store.LOCK, command.id)
        if row is None:
            raise NotFound(id=command.id)
        grant = Grant.model_validate(dict(row))
        if grant.withdrawn_at is None:
            change = {"version": grant.version + 1, "withdrawn_at": ctx.now()}
            grant = grant.model_copy(update=change)
            await tx.record(GrantWithdrawn(grant=grant))
    return grant
