"""What identity answers."""

import hmac

from bus.context import Context
from handlers.identity import service, store
from schemas import identity
from schemas.identity import ResolveKey, WhoAmI
from schemas.principal import Principal
from schemas.problems import Unauthenticated


@service.handles(identity.resolve_key)
async def resolve_key(command: ResolveKey, ctx: Context) -> Principal:
    """Find the key by its id and compare secrets in constant time."""
    row = await ctx.database.row(store.FIND, command.key_id)
    stored = row["secret_hash"] if row else "0" * 64
    if not hmac.compare_digest(stored, command.secret_hash) or row is None:
        raise Unauthenticated
    return Principal(
        id=row["owner_id"], kind="key", roles=tuple(row["roles"]), scopes=tuple(row["scopes"])
    )


@service.handles(identity.me)
async def me(_: WhoAmI, ctx: Context) -> Principal:
    """The principal is in the request."""
    return ctx.principal


@service.starts
async def store_bootstrap_key(ctx: Context) -> None:
    """Store the hash of the first admin key, which only its maker has seen."""
    key_id, key_hash = ctx.settings.bootstrap_key_id, ctx.settings.bootstrap_key_hash
    if key_id and key_hash:
        await ctx.database.execute(store.BOOTSTRAP, key_id, key_hash)
