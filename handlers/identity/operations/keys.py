"""API keys: issue, rotate, revoke, and how often each is used."""

import contextlib
from datetime import timedelta
from uuid import NAMESPACE_OID, uuid5

from bus import credentials
from bus.context import Context
from bus.database import Transaction
from handlers.identity import service
from handlers.identity.rules import keys as rules
from handlers.identity.store import keys as store
from schemas.contract import Page
from schemas.identity import keys
from schemas.identity.keys import (
    ApiKey,
    BeyondOwnRights,
    Counted,
    CountUses,
    GetKey,
    IssuedKey,
    IssueKey,
    KeyIssued,
    KeyRevoked,
    KeyRotated,
    ListKeys,
    RevokeKey,
    RotateKey,
    UsedKey,
)
from schemas.principal import Principal, Role
from schemas.problems import NotFound, VersionConflict

ADMIN = Principal(id="admin", kind="key", roles=("admin",))


async def lock(tx: Transaction, key_id: str, ctx: Context) -> ApiKey:
    """The key as it is now, held until the transaction ends."""
    row = await tx.row(store.LOCK, key_id)
    if row is None:
        raise NotFound(id=key_id)
    key = ApiKey.model_validate(dict(row))
    ctx.require_owner(key.owner_id, key.id)
    return key


def require_rights(maker: Principal, roles: tuple[Role, ...], scopes: tuple[str, ...]) -> None:
    """Refuse a key that could do more than its maker.

    Raises:
        BeyondOwnRights: Names what.
    """
    beyond = rules.excess(maker, roles, scopes)
    if beyond:
        raise BeyondOwnRights(permissions=list(beyond))


@service.handles(keys.issue_key)
async def issue(command: IssueKey, ctx: Context) -> IssuedKey:
    """Make a key and its first secret. The answer is not stored: it holds the secret."""
    key = rules.new_key(command, ctx.principal, id=ctx.new_id(), at=ctx.now())
    require_rights(ctx.principal, key.roles, key.scopes)
    secret = credentials.new_credential("key")
    async with ctx.transaction() as tx:
        await tx.record(KeyIssued(key=key))
        await add_secret(tx, key, secret, ctx)
    return IssuedKey(key=key, secret=secret.text)


async def add_secret(
    tx: Transaction, key: ApiKey, secret: credentials.Credential, ctx: Context
) -> None:
    """Keep the hash of a secret.

    Raises:
        SecretShown: One was made before under this idempotency key.
    """
    made_by = f"{ctx.principal.id}/{ctx.key}" if ctx.key is not None else None
    await tx.execute(store.ADD_SECRET, secret.id, key.id, secret.secret_hash, made_by)


@service.handles(keys.key)
async def get(command: GetKey, ctx: Context) -> UsedKey:
    """The key, if the caller may know of it."""
    key = UsedKey.model_validate(await ctx.row(store.GET, command.id))
    ctx.require_owner(key.owner_id, key.id)
    return key


@service.handles(keys.keys)
async def listing(command: ListKeys, ctx: Context) -> Page[UsedKey]:
    """A page of rows."""
    return await ctx.page(command, UsedKey, store.LIST, *ctx.visible)


@service.handles(keys.count_uses)
async def count_uses(command: CountUses, ctx: Context) -> Counted:
    """Add what an edge process has counted."""
    items = command.items
    counted = await ctx.database.rows(
        store.COUNT_USES,
        [use.key_id for use in items],
        [use.count for use in items],
        [use.last_at for use in items],
    )
    return Counted(keys=len(counted))


@service.handles(keys.rotate_key)
async def rotate(command: RotateKey, ctx: Context) -> IssuedKey:
    """Add a secret; those before it end after the overlap."""
    secret, at = credentials.new_credential("key"), ctx.now()
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        require_rights(ctx.principal, before.roles, before.scopes)
        key = rules.rotated(before, at)
        await tx.record(KeyRotated(key=key))
        await tx.execute(store.END_SECRETS, key.id, at + timedelta(seconds=command.overlap_s))
        await add_secret(tx, key, secret, ctx)
    return IssuedKey(key=key, secret=secret.text)


@service.handles(keys.revoke_key)
async def revoke(command: RevokeKey, ctx: Context) -> ApiKey:
    """End the key; every edge hears of it and forgets what it knew."""
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        key = rules.revoked(before, ctx.now())
        if key is not before:
            await tx.record(KeyRevoked(key=key))
    return key


@service.starts
async def store_first_key(ctx: Context) -> None:
    """Keep the hash of the first admin key, which only its maker has seen."""
    prefix, secret_hash = ctx.settings.bootstrap_key_id, ctx.settings.bootstrap_key_hash
    if not prefix or not secret_hash or await ctx.database.row(store.SECRET, prefix):
        return
    command = IssueKey(name="first-admin-key", days=None)
    key_id = str(uuid5(NAMESPACE_OID, prefix))  # the same in every process that starts now
    key = rules.new_key(command, ADMIN, id=key_id, at=ctx.now())
    with contextlib.suppress(VersionConflict):
        async with ctx.transaction() as tx:
            await tx.record(KeyIssued(key=key))
            await tx.execute(store.ADD_SECRET, prefix, key.id, secret_hash, None)
