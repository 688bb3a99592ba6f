"""Tokens of agents' runs, and their end."""

from pydantic import SecretStr

from bus.context import Context
from handlers.identity import service, signing, tokens
from handlers.identity.operations.sessions import end
from handlers.identity.rules import sessions as rules
from handlers.identity.store import sessions as store
from schemas import agents
from schemas.agents import GetRun, RunFinished
from schemas.identity import runs
from schemas.identity.runs import IssueRunToken, RunToken
from schemas.identity.sessions import Session, SessionStarted
from schemas.principal import Mandate, Principal, RunRights
from schemas.problems import Denied, IllegalMove, VersionConflict

IDENTITY = Principal(id="identity", kind="service", roles=("admin",), via="bus")


@service.handles(runs.run_token)
async def issue(command: IssueRunToken, ctx: Context) -> RunToken:
    """Open the run's session, then look whether the run still goes on: its end ends the session."""
    principal, rights = command.principal, command.principal.run
    if rights is None:
        raise Denied("Only an agent in a run has a run token.")
    session = await session_of(principal, rights, ctx)
    run = await ctx.as_principal(IDENTITY).call(agents.run, GetRun(id=rights.run_id))
    if run.status != "running" or run.owner_id != principal.id:
        await end_session(session.id, ctx)
        raise IllegalMove("The run is not being carried out.", run_id=run.id)
    kid, private = await signing.current(ctx)
    needed = rights.narrowed_to(until=int(ctx.now().timestamp()) + command.seconds)
    token = tokens.run_token(session, needed, run.agent_id, kid, private, ctx)
    return RunToken(token=SecretStr(token))


async def session_of(principal: Principal, rights: RunRights, ctx: Context) -> Session:
    """The session of the run, opened at the first time.

    Raises:
        Denied: It was ended, or there is no time left.
    """
    at = ctx.now()
    row = await ctx.database.row(store.GET, rights.run_id)
    if row is None:
        session = rules.new_session(
            principal.id, "run", id=rights.run_id, at=at, scopes=principal.scopes,
            lives_s=rights.until - int(at.timestamp()),
        ).model_copy(update={"mandate": Mandate.of(principal)})  # fmt: skip
        if rules.good(session, at) and await opened(session, ctx):
            return session
        row = await ctx.database.row(store.GET, rights.run_id)
    if row is None or not rules.good(Session.model_validate(dict(row)), at):
        raise Denied("The session of this run is over.", run_id=rights.run_id)
    return Session.model_validate(dict(row))


async def opened(session: Session, ctx: Context) -> bool:
    """Record a new session; False if another request was faster."""
    try:
        async with ctx.transaction() as tx:
            await tx.record(SessionStarted(session=session))
    except VersionConflict:
        return False
    return True


async def end_session(run_id: str, ctx: Context) -> None:
    """End the session of a run, if it has one."""
    if await ctx.database.row(store.GET, run_id) is None:
        return
    async with ctx.transaction() as tx:
        await end(tx, run_id, "ended", ctx)


@service.reacts_to(runs.on_run_finished)
async def end_with_run(event: RunFinished, ctx: Context) -> None:
    """No token of a run outlives it."""
    await end_session(event.run.id, ctx)
