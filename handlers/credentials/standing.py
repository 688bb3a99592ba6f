"""What a credential is good for now: its own row, and the API key behind it, which identity has."""

import re

from bus.context import Context
from bus.credentials import same_secret
from bus.service import own_context
from handlers.credentials import service, store
from schemas.identity import principals
from schemas.identity.principals import Resolved, ResolveKeyId
from schemas.problems import Unauthenticated

NOBODY = "0" * 64
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


async def of_login(user: str, password: str, ctx: Context) -> Resolved:
    """Who comes with this user name and password.

    Raises:
        Unauthenticated: Nobody, or not any more.
    """
    row = await ctx.database.row(store.GOOD, user) if ID.fullmatch(user) else None
    stored = row["secret_hash"] if row else NOBODY
    if not same_secret(password, stored) or row is None:
        raise Unauthenticated
    return await of_key(str(row["key_id"]), ctx)


async def of_credential(credential_id: str, ctx: Context) -> Resolved:
    """Whom a credential stands for.

    Raises:
        Unauthenticated: Nobody, or not any more.
    """
    row = await ctx.database.row(store.GOOD, credential_id)
    if row is None:
        raise Unauthenticated
    return await of_key(str(row["key_id"]), ctx)


async def of_key(key_id: str, ctx: Context) -> Resolved:
    """Ask identity on our own behalf: whoever comes in has no rights yet.

    Raises:
        Unauthenticated: The key is not good any more.
    """
    own = own_context(service, ctx.platform)
    return await own.call(principals.resolve_key_id, ResolveKeyId(id=key_id))
