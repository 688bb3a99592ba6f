"""Whom a credential stands for now, and why that may or may not do something."""

import hmac
from typing import Any

from bus.context import Context
from handlers.identity import acting, service
from handlers.identity.rules import principals as rules
from handlers.identity.rules import sessions as session_rules
from handlers.identity.rules.keys import until
from handlers.identity.store import clients as clients_store
from handlers.identity.store import grants as grants_store
from handlers.identity.store import keys as keys_store
from handlers.identity.store import sessions as sessions_store
from handlers.identity.store import users as users_store
from schemas.identity import principals
from schemas.identity.keys import ApiKey
from schemas.identity.principals import (
    PAGE_OF_RULES,
    ActFor,
    Explain,
    Explanation,
    FindPerson,
    ListRules,
    Person,
    Resolved,
    ResolveKey,
    ResolveKeyId,
    ResolveSession,
    ResolveToken,
    Rules,
    WhoAmI,
)
from schemas.identity.sessions import Session
from schemas.identity.users import User
from schemas.policy import Rule
from schemas.principal import Principal, RunRights
from schemas.problems import Denied, NotFound, Unauthenticated

USED_AGAIN_S = 60


@service.handles(principals.me)
async def me(_: WhoAmI, ctx: Context) -> Principal:
    """The principal is in the request."""
    return ctx.principal


def same(stored: str, given: str) -> bool:
    """Compare hashes in constant time."""
    return hmac.compare_digest(stored, given)


@service.handles(principals.resolve_key)
async def resolve_key(command: ResolveKey, ctx: Context) -> Resolved:
    """The key's owner with the key's rights, never more than the owner has now."""
    row = await ctx.database.row(keys_store.RESOLVE, command.prefix)
    if row is None or not same(row["secret_hash"], command.secret_hash):
        raise Unauthenticated
    return Resolved(
        principal=of_key(row),
        until=until(row["expires_at"], row["not_after"]),
    )


@service.handles(principals.resolve_key_id)
async def resolve_key_id(command: ResolveKeyId, ctx: Context) -> Resolved:
    """The same without its secret, for what stands for the key: a bus credential."""
    row = await ctx.database.row(keys_store.STANDING, command.id)
    if row is None:
        raise Unauthenticated
    return Resolved(principal=of_key(row), until=row["expires_at"])


def of_key(row: Any) -> Principal:
    """Whom a key stands for.

    Raises:
        Unauthenticated: Its owner is a user who is disabled.
    """
    principal = Principal(
        id=row["owner_id"], kind="key", roles=tuple(row["roles"]), scopes=tuple(row["scopes"]),
        credential=f"key/{row['id']}",
    )  # fmt: skip
    return within_owner(principal, row)


@service.handles(principals.resolve_session)
async def resolve_session(command: ResolveSession, ctx: Context) -> Resolved:
    """The session's user; notes that the session is in use, at most once a minute."""
    row = await ctx.database.row(sessions_store.COOKIE, command.prefix)
    if row is None or not same(row["secret_hash"], command.secret_hash):
        raise Unauthenticated
    if session_rules.idle(row["used_at"], ctx.now()):
        raise Unauthenticated
    principal = await of_session(Session.model_validate(fields_of(row)), ctx)
    if (ctx.now() - row["used_at"]).total_seconds() >= USED_AGAIN_S:
        await ctx.database.rows(sessions_store.USE_COOKIE, command.prefix, ctx.now())
    return Resolved(principal=principal, until=row["expires_at"])


@service.handles(principals.resolve_token)
async def resolve_token(command: ResolveToken, ctx: Context) -> Resolved:
    """The user or client of the token's session, or the agent in whose run it is."""
    row = await ctx.database.row(sessions_store.GET, command.session_id)
    if row is None:
        raise Unauthenticated
    session = Session.model_validate(dict(row))
    if session.kind == "run" or command.run is not None:
        return await of_run(session, command.run, ctx)
    session = session_rules.narrowed(session, command.scopes)
    principal = await of_session(session, ctx)
    return Resolved(principal=principal, until=session.expires_at)


async def of_run(session: Session, run: RunRights | None, ctx: Context) -> Resolved:
    """The agent in this run, with what its owner may now.

    Raises:
        Unauthenticated: The run has ended, or is not that of the session.
    """
    if run is None or run.run_id != session.id or not session_rules.good(session, ctx.now()):
        raise Unauthenticated
    principal = await acting.agent_of(session.owner_id, session.mandate, ctx)
    return Resolved(principal=principal.model_copy(update={"run": run}), until=session.expires_at)


@service.handles(principals.act_for)
async def act_for(command: ActFor, ctx: Context) -> Principal:
    """What is left of a mandate."""
    return await acting.agent_of(command.owner_id, command.mandate, ctx)


@service.handles(principals.person)
async def person(command: FindPerson, ctx: Context) -> Person:
    """A user, or the owner of a key who is none; nobody who could not show a credential."""
    user = await acting.account(command.id, ctx)
    if user is not None and user.status == "active":
        return Person(id=user.id, name=user.name)
    if user is not None or await ctx.database.row(keys_store.KEYED, command.id) is None:
        raise NotFound(id=command.id)
    return Person(id=command.id, name=command.id)


def fields_of(row: Any) -> dict[str, Any]:
    """The columns of a session in a row that has others too."""
    return {name: row[name] for name in Session.model_fields}


async def of_session(session: Session, ctx: Context) -> Principal:
    """Whom a session stands for.

    Raises:
        Unauthenticated: It has ended, or its user is disabled, or its client is gone.
    """
    if not session_rules.good(session, ctx.now()):
        raise Unauthenticated
    if session.client_id is not None:
        row = await ctx.database.row(clients_store.STANDING, session.client_id)
        if row is None:
            raise Unauthenticated
        if session.owner_id == session.client_id:
            return of_client(row, session)
    user = await acting.account(session.owner_id, ctx)
    if user is None or user.status != "active":
        raise Unauthenticated
    return Principal(
        id=user.id, kind="user", roles=user.roles, scopes=session.scopes,
        credential=f"session/{session.id}",
    )  # fmt: skip


def of_client(row: Any, session: Session) -> Principal:
    """A client that acts for itself, never with more than its owner has now.

    Raises:
        Unauthenticated: Its owner is a user who is disabled.
    """
    principal = Principal(
        id=session.owner_id, kind="client", roles=tuple(row["roles"]), scopes=session.scopes,
        credential=f"session/{session.id}",
    )  # fmt: skip
    return within_owner(principal, row)


def within_owner(principal: Principal, row: Any) -> Principal:
    """No more than the owner may, who need not be a user.

    Raises:
        Unauthenticated: The owner is a user who is disabled.
    """
    if row["owner_status"] is None:
        return principal
    if row["owner_status"] != "active":
        raise Unauthenticated
    return rules.narrowed(principal, tuple(row["owner_roles"]))


@service.handles(principals.rules)
async def read_rules(command: ListRules, ctx: Context) -> Rules:
    """A page of grants."""
    rows = await ctx.database.rows(grants_store.RULES, command.after, PAGE_OF_RULES + 1)
    shown = rows[:PAGE_OF_RULES]
    items = tuple(Rule.model_validate({n: row[n] for n in Rule.model_fields}) for row in shown)
    return Rules(items=items, next=str(shown[-1]["id"]) if len(rows) > PAGE_OF_RULES else None)


@service.handles(principals.explain)
async def explain(command: Explain, ctx: Context) -> Explanation:
    """Weigh as every door does, and keep the reasons; others than you need `users:read`."""
    principal, user = await asked_about(command, ctx)
    reasons = rules.reasons(command, principal, user, ctx.platform.rights.policy)
    return Explanation(
        principal=principal,
        permission=command.permission,
        allowed=rules.decided(reasons),
        reasons=tuple(reasons),
    )


async def asked_about(command: Explain, ctx: Context) -> tuple[Principal, User | None]:
    """Whose rights are explained.

    Raises:
        Denied: Somebody else's, and the caller may not read users.
        NotFound: There is nobody like that.
    """
    if command.user_id is None and command.key_id is None:
        return ctx.principal, None
    reach = ctx.platform.rights.reach(ctx.principal, "users:read")
    if reach.scope != "all":
        raise Denied(permission="users:read")
    if command.key_id is not None:
        key = ApiKey.model_validate(await ctx.row(keys_store.GET, command.key_id), extra="ignore")
        owner = await acting.account(key.owner_id, ctx)
        principal = Principal(
            id=key.owner_id, kind="key", roles=key.roles, scopes=key.scopes,
            credential=f"key/{key.id}",
        )  # fmt: skip
        return (rules.narrowed(principal, owner.roles) if owner else principal), owner
    user = User.model_validate(await ctx.row(users_store.GET, command.user_id))
    return Principal(id=user.id, kind="user", roles=user.roles), user
