"""What credentials answers."""

import secrets

from bus.context import Context
from bus.credentials import hash_secret
from bus.subjects import inbox_of
from handlers.credentials import rules, service, standing, store
from schemas import credentials
from schemas.contract import Page
from schemas.credentials import (
    BusCredential,
    CreateCredential,
    CredentialIssued,
    CredentialRevoked,
    IssuedCredential,
    ListCredentials,
    NoGate,
    ResolveCredential,
    ResolvedCredential,
    RevokeCredential,
)
from schemas.identity import keys
from schemas.identity.keys import GetKey
from schemas.principal import Principal
from schemas.problems import Denied, NotFound

PASSWORD_BYTES = 32


@service.handles(credentials.create)
async def create(command: CreateCredential, ctx: Context) -> IssuedCredential:
    """Make a credential and its password. The answer is not stored: it holds the password."""
    if ctx.settings.issuer_seed is None:
        raise NoGate
    key = await ctx.call(keys.key, GetKey(id=command.for_key))
    ctx.require_owner(key.owner_id, key.id)
    stands_for = (await standing.of_key(key.id, ctx)).principal
    require_rights(stands_for, ctx)
    credential = rules.new_credential(command, key, id=ctx.new_id(), at=ctx.now())
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    made_by = f"{ctx.principal.id}/{ctx.key}" if ctx.key is not None else None
    async with ctx.transaction() as tx:
        await tx.record(CredentialIssued(credential=credential))
        await tx.execute(store.ADD_SECRET, credential.id, hash_secret(password), made_by)
    rights = rules.rights(credential.id, stands_for, ctx.platform.rights.policy)
    return IssuedCredential(
        credential=credential, user=credential.id, password=password,
        inbox_prefix=inbox_of(credential.id), publish=rights.publish, subscribe=rights.subscribe,
    )  # fmt: skip


def require_rights(stands_for: Principal, ctx: Context) -> None:
    """Refuse a credential that could do more than whoever asks for it.

    Raises:
        Denied: Names the permissions that are missing.
    """
    beyond = rules.excess(ctx.principal, stands_for, ctx.platform.rights.policy)
    if beyond:
        raise Denied("The key may do more than you may.", permissions=list(beyond))


@service.handles(credentials.listing)
async def listing(command: ListCredentials, ctx: Context) -> Page[BusCredential]:
    """A page of rows."""
    return await ctx.page(command, BusCredential, store.LIST, *ctx.visible)


@service.handles(credentials.revoke)
async def revoke(command: RevokeCredential, ctx: Context) -> BusCredential:
    """End it; the gate hears of it and closes its connections."""
    async with ctx.transaction() as tx:
        row = await tx.row(store.LOCK, command.id)
        if row is None:
            raise NotFound(id=command.id)
        before = BusCredential.model_validate(dict(row))
        ctx.require_owner(before.owner_id, before.id, before.key_id)
        credential = rules.revoked(before, ctx.now())
        if credential is not before:
            await tx.record(CredentialRevoked(credential=credential))
    return credential


@service.handles(credentials.resolve)
async def resolve(command: ResolveCredential, ctx: Context) -> ResolvedCredential:
    """Tell the edge who asks."""
    found = await standing.of_credential(command.id, ctx)
    return ResolvedCredential(principal=found.principal, until=found.until)
