"""What a credential is good for now: its own row, and the API key behind it, which identity has."""

import re

from bus.context import Context
from bus.credentials import same_secret
from bus.service import own_context
from handlers.credentials import rules, service, store
from handlers.credentials.rules import Standing
from schemas import identity
from schemas.identity import GetKey
from schemas.problems import NotFound, Unauthenticated

NOBODY = "0" * 64
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def of_login(user: str, password: str, ctx: Context) -> Standing:
    """Who comes with this user name and password.

    Raises:
        Unauthenticated: Nobody, or not any more.
    """
    row = await ctx.database.row(store.GOOD, user) if ID.fullmatch(user) else None
    stored = row["secret_hash"] if row else NOBODY
    if not same_secret(password, stored) or row is None:
        raise Unauthenticated
    return await of_key(str(row["key_id"]), ctx)


async def of_credential(credential_id: str, ctx: Context) -> Standing:
    """Whom a credential stands for.

    Raises:
        Unauthenticated: Nobody, or not any more.
    """
    row = await ctx.database.row(store.GOOD, credential_id)
    if row is None:
        raise Unauthenticated
    return await of_key(str(row["key_id"]), ctx)


async def of_key(key_id: str, ctx: Context) -> Standing:
    """Ask identity on our own behalf: whoever comes in has no rights yet."""
    try:
        key = await own_context(service, ctx.platform).call(identity.key, GetKey(id=key_id))
    except NotFound:
        raise Unauthenticated from None
    if not rules.good(key, ctx.now()):
        raise Unauthenticated
    return Standing(rules.principal_of(key), key.expires_at)
