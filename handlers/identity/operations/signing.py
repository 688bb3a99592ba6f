"""Signing keys: the published set, and rotation, by hand or every 30 days."""

from datetime import timedelta

from bus.context import Context
from handlers.identity import service, signing
from handlers.identity.store import sessions as store
from schemas.identity import signing as contract
from schemas.identity.signing import GetKeySet, KeySet, PublicKey, RotateSigningKey, SigningKey

LOOK_S = 3600


@service.handles(contract.key_set)
async def key_set(_: GetKeySet, ctx: Context) -> KeySet:
    """Every key that still verifies something, or soon will."""
    rows = await ctx.database.rows(store.VERIFYING, ctx.now())
    keys = [SigningKey.model_validate(dict(row)) for row in rows]
    return KeySet(keys=tuple(published(key) for key in keys))


def published(key: SigningKey) -> PublicKey:
    """What everybody may know of it."""
    ends = key.verifies_until
    return PublicKey(kid=key.id, x=key.public, exp=None if ends is None else int(ends.timestamp()))


@service.handles(contract.rotate_signing_key)
async def rotate(command: RotateSigningKey, ctx: Context) -> SigningKey:
    """A new key; tokens of the one before stay good until they expire, unless it is compromised."""
    async with ctx.transaction() as tx:
        await tx.row(store.LOCK_SIGNING)
        if command.compromised:
            return await signing.publish(tx, ctx.now(), ctx, ends=ctx.now())
        return await signing.publish(tx, signing.when_known(ctx), ctx)


@service.starts
@service.every(seconds=LOOK_S)
async def keep_a_key(ctx: Context) -> None:
    """Make the first key, and the next one when the newest has signed for 30 days."""
    async with ctx.transaction() as tx:
        await tx.row(store.LOCK_SIGNING)
        row = await tx.row(store.NEWEST_SIGNING)
        if row is None:
            await signing.publish(tx, ctx.now(), ctx)
        elif ctx.now() - row["signs_from"] > timedelta(days=signing.SIGNS_DAYS):
            await signing.publish(tx, signing.when_known(ctx), ctx)
