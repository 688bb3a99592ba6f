"""What credentials answers."""

import secrets

from bus.context import Context
from bus.credentials import hash_secret
from bus.subjects import inbox_of
from handlers.credentials import rules, service, standing, store
from schemas import credentials, identity
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
from schemas.identity import ApiKey, GetKey
from schemas.problems import Denied, IllegalMove, NotFound, Unauthenticated

PASSWORD_BYTES = 32


@service.handles(credentials.create)
async def create(command: CreateCredential, ctx: Context) -> IssuedCredential:
    """Make a credential and its password. The answer is not stored: it holds the password."""
    if ctx.settings.issuer_seed is None:
        raise NoGate
    key = await ctx.call(identity.key, GetKey(id=command.for_key))
    require_rights(key, ctx)
    credential = rules.new_credential(command, key, id=ctx.new_id(), at=ctx.now())
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    made_by = f"{ctx.principal.id}/{ctx.key}" if ctx.key is not None else None
    async with ctx.transaction() as tx:
        await tx.record(CredentialIssued(credential=credential))
        await tx.execute(store.ADD_SECRET, credential.id, hash_secret(password), made_by)
    rights = rules.rights(credential.id, rules.principal_of(key))
    return IssuedCredential(
        credential=credential, user=credential.id, password=password,
        inbox_prefix=inbox_of(credential.id), publish=rights.publish, subscribe=rights.subscribe,
    )  # fmt: skip


def require_rights(key: ApiKey, ctx: Context) -> None:
    """Refuse a credential that could do more than whoever asks for it.

    Raises:
        NotFound: The key is somebody else's.
        Denied: Names the permissions that are missing.
        IllegalMove: The key is not good any more.
    """
    ctx.require_owner(key.owner_id)
    if not rules.good(key, ctx.now()):
        raise IllegalMove("The key is revoked or has expired: use another one.")
    beyond = rules.excess(ctx.principal, rules.principal_of(key))
    if beyond:
        raise Denied("The key may do more than you may.", permissions=list(beyond))


@service.handles(credentials.listing)
async def listing(command: ListCredentials, ctx: Context) -> Page[BusCredential]:
    """A page of rows."""
    return await ctx.page(command, BusCredential, store.LIST, ctx.owner_filter)


@service.handles(credentials.revoke)
async def revoke(command: RevokeCredential, ctx: Context) -> BusCredential:
    """End it; the gate hears of it and closes its connections."""
    async with ctx.transaction() as tx:
        row = await tx.row(store.LOCK, command.id)
        if row is None:
            raise NotFound(id=command.id)
        before = BusCredential.model_validate(dict(row))
        ctx.require_owner(before.owner_id)
        credential = rules.revoked(before, ctx.now())
        if credential is not before:
            await tx.record(CredentialRevoked(credential=credential))
    return credential


@service.handles(credentials.resolve)
async def resolve(command: ResolveCredential, ctx: Context) -> ResolvedCredential:
    """Tell the edge who asks; nobody else may know."""
    if ctx.principal.kind != "service":
        raise Unauthenticated
    found = await standing.of_credential(command.id, ctx)
    return ResolvedCredential(principal=found.principal, until=found.until)
