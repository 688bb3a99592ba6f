"""OAuth clients: register, change, give another secret, delete."""

from datetime import timedelta

from bus import credentials
from bus.context import Context
from bus.credentials import Credential
from bus.database import Transaction
from handlers.identity import service
from handlers.identity.operations import ending
from handlers.identity.operations.keys import require_rights
from handlers.identity.rules import clients as rules
from handlers.identity.store import clients as store
from schemas.contract import Page
from schemas.identity import clients
from schemas.identity.clients import (
    ClientChanged,
    ClientDeleted,
    ClientRegistered,
    ClientSecretRotated,
    DeleteClient,
    GetClient,
    IssuedClient,
    ListClients,
    OAuthClient,
    RegisterClient,
    RotateClientSecret,
    UpdateClient,
)
from schemas.problems import NotFound


async def lock(tx: Transaction, client_id: str, ctx: Context) -> OAuthClient:
    """The client as it is now, held until the transaction ends."""
    row = await tx.row(store.LOCK, client_id)
    if row is None:
        raise NotFound(id=client_id)
    client = OAuthClient.model_validate(dict(row))
    ctx.require_owner(client.owner_id, client.id)
    return client


def require_own_rights(client: OAuthClient, ctx: Context) -> None:
    """Refuse a client that could do more by itself than whoever decides about it.

    Raises:
        BeyondOwnRights: Names what.
    """
    if client.roles:
        require_rights(ctx.principal, client.roles, client.scopes)


@service.handles(clients.register_client)
async def register(command: RegisterClient, ctx: Context) -> IssuedClient:
    """Make a client and its first secret. The answer is not stored: it holds the secret."""
    client = rules.new_client(command, ctx.principal, id=ctx.new_id(), at=ctx.now())
    require_own_rights(client, ctx)
    secret = credentials.new_credential("client")
    async with ctx.transaction() as tx:
        await tx.record(ClientRegistered(client=client))
        if client.confidential:
            await add_secret(tx, client, secret, ctx)
    return IssuedClient(client=client, secret=secret.text if client.confidential else None)


async def add_secret(
    tx: Transaction, client: OAuthClient, secret: Credential, ctx: Context
) -> None:
    """Keep the hash of a secret.

    Raises:
        ClientSecretShown: One was made before under this idempotency key.
    """
    made_by = f"{ctx.principal.id}/{ctx.key}" if ctx.key is not None else None
    await tx.execute(store.ADD_SECRET, secret.id, client.id, secret.secret_hash, made_by)


@service.handles(clients.client)
async def get(command: GetClient, ctx: Context) -> OAuthClient:
    """The client, if the caller may know of it."""
    client = OAuthClient.model_validate(await ctx.row(store.GET, command.id))
    ctx.require_owner(client.owner_id, client.id)
    return client


@service.handles(clients.clients)
async def listing(command: ListClients, ctx: Context) -> Page[OAuthClient]:
    """A page of rows."""
    return await ctx.page(command, OAuthClient, store.LIST, *ctx.visible, command.status)


@service.handles(clients.update_client)
async def update(command: UpdateClient, ctx: Context) -> OAuthClient:
    """Change it; nobody keeps a token that was given under other terms."""
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        client = rules.updated(before, command, ctx.principal, ctx.now())
        require_own_rights(client, ctx)
        await tx.record(ClientChanged(client=client))
        await ending.end_sessions_of_client(tx, client.id, ctx)
    return client


@service.handles(clients.rotate_client_secret)
async def rotate(command: RotateClientSecret, ctx: Context) -> IssuedClient:
    """Add a secret; those before it end after the overlap, sessions go on."""
    secret, at = credentials.new_credential("client"), ctx.now()
    async with ctx.transaction() as tx:
        client = rules.with_new_secret(await lock(tx, command.id, ctx), at)
        require_own_rights(client, ctx)
        await tx.record(ClientSecretRotated(client=client))
        await tx.execute(store.END_SECRETS, client.id, at + timedelta(seconds=command.overlap_s))
        await add_secret(tx, client, secret, ctx)
    return IssuedClient(client=client, secret=secret.text)


@service.handles(clients.delete_client)
async def delete(command: DeleteClient, ctx: Context) -> OAuthClient:
    """The end of the client and of all that it has opened; a second time changes nothing."""
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        if before.status == "deleted":
            return before
        client = rules.changed(before, ctx.now(), status="deleted")
        await tx.record(ClientDeleted(client=client))
        await tx.execute(store.END_SECRETS, client.id, ctx.now())
        await ending.end_sessions_of_client(tx, client.id, ctx)
    return client
