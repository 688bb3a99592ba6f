"""What the vault answers. A value goes in, and comes out only to a layer on the bus."""

import hmac

from bus import telemetry
from bus.context import Context
from bus.database import Transaction
from handlers.vault import rules, service, store
from schemas import vault
from schemas.contract import Page
from schemas.problems import Denied, NotFound
from schemas.vault import (
    DeleteSecret,
    ListSecrets,
    PutSecret,
    ReadSecret,
    SecretDeleted,
    SecretStored,
    SecretValue,
    StoredSecret,
)

PLACE = "vault.sealed/"


async def locked(tx: Transaction, name: str) -> StoredSecret | None:
    """The secret of that name, deleted or not, held until the transaction ends."""
    await tx.execute(store.LOCK, name)
    row = await tx.row(store.BY_NAME, name)
    return StoredSecret.model_validate(dict(row)) if row else None


@service.handles(vault.put)
async def put(command: PutSecret, ctx: Context) -> StoredSecret:
    """Seal the value. The same value again changes nothing, so repeating is safe."""
    value = command.value.get_secret_value().encode()
    sealer = ctx.platform.sealer
    async with ctx.transaction() as tx:
        before = await locked(tx, command.name)
        row = await tx.row(store.SEALED, command.name)
        if before is not None and row is not None:
            known = sealer.open_sealed(row["sealed"], PLACE + before.id)
            if hmac.compare_digest(known, value):
                return before
        secret = rules.stored(
            before, command.name, by=ctx.principal.id, id=ctx.new_id(), at=ctx.now()
        )
        await tx.record(SecretStored(secret=secret))
        await tx.execute(store.KEEP, secret.id, sealer.seal(value, PLACE + secret.id))
    return secret


@service.handles(vault.listing)
async def listing(command: ListSecrets, ctx: Context) -> Page[StoredSecret]:
    """A page of rows."""
    return await ctx.page(command, StoredSecret, store.LIST)


@service.handles(vault.delete)
async def delete(command: DeleteSecret, ctx: Context) -> StoredSecret:
    """Forget the value; that there was one stays in the log."""
    async with ctx.transaction() as tx:
        before = await locked(tx, command.name)
        secret = rules.deleted(before, command.name, by=ctx.principal.id, at=ctx.now())
        await tx.record(SecretDeleted(secret=secret))
        await tx.execute(store.FORGET, secret.id)
    return secret


@service.handles(vault.read)
async def read(command: ReadSecret, ctx: Context) -> SecretValue:
    """Open the value for a layer that works on its own behalf; nobody else, whatever the role.

    Raises:
        Denied: A person, a key or an agent asks.
    """
    if ctx.principal.kind != "service":
        raise Denied
    row = await ctx.database.row(store.SEALED, command.name)
    if row is None:
        raise NotFound(name=command.name)
    value = ctx.platform.sealer.open_sealed(row["sealed"], PLACE + row["secret_id"])
    telemetry.log().info(
        "secret read", name=command.name, provider="vault.sealed", actor=ctx.principal.id
    )
    return SecretValue(value=value.decode())
