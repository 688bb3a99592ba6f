"""What work may do that goes on without the one who asked for it.

    mandate (the rights at that time)  ∩  what the owner may now  ->  a principal of kind `agent`

A key that was revoked or has expired ends its work, and so does a session that was taken away; a
session that its person has just signed out of does not.
"""

from bus.context import IDS, Context
from handlers.identity.rules import principals as rules
from handlers.identity.store import keys as keys_store
from handlers.identity.store import sessions as sessions_store
from handlers.identity.store import users as users_store
from schemas.identity.sessions import Session
from schemas.identity.users import User
from schemas.principal import Mandate, Principal
from schemas.problems import Unauthenticated


async def agent_of(owner_id: str, mandate: Mandate | None, ctx: Context) -> Principal:
    """The principal with which an agent acts for an owner now.

    Raises:
        Unauthenticated: The owner is disabled, or what was shown has been taken away.
    """
    user = await user_of(owner_id, ctx)
    if mandate is None:
        if user is None:
            raise Unauthenticated("It is not known with which rights this was asked for.")
        return Principal(id=owner_id, kind="agent", roles=user.roles)
    await require_good(owner_id, mandate, ctx)
    principal = Principal(
        id=owner_id, kind="agent", roles=mandate.roles, scopes=mandate.scopes,
        credential=mandate.credential,
    )  # fmt: skip
    return principal if user is None else rules.narrowed(principal, user.roles)


async def user_of(owner_id: str, ctx: Context) -> User | None:
    """The owner, if it is a user.

    Raises:
        Unauthenticated: The user is disabled.
    """
    user = await account(owner_id, ctx)
    if user is not None and user.status != "active":
        raise Unauthenticated("The owner of this work is disabled.")
    return user


async def account(owner_id: str, ctx: Context) -> User | None:
    """The user of this id; what else owns things, as "admin" of the first key, is none."""
    row = await ctx.database.row(users_store.GET, owner_id) if IDS.fullmatch(owner_id) else None
    return User.model_validate(dict(row)) if row else None


async def require_good(owner_id: str, mandate: Mandate, ctx: Context) -> None:
    """Refuse work that was asked for with something that is no longer trusted.

    Raises:
        Unauthenticated: It is not.
    """
    kind, _, credential_id = (mandate.credential or "").partition("/")
    if kind == "key":
        row = await ctx.database.row(keys_store.STANDING, credential_id)
        if row is None or row["owner_id"] != owner_id:
            raise Unauthenticated("The key of this work is revoked.")
    if kind == "session":
        row = await ctx.database.row(sessions_store.GET, credential_id)
        if row is None or rules.taken_away(Session.model_validate(dict(row)), owner_id):
            raise Unauthenticated("The session of this work was taken away.")
