"""Ending what a user has opened: sessions and API keys."""

from bus.context import Context
from bus.database import Transaction
from handlers.identity.rules import keys as key_rules
from handlers.identity.rules import sessions as rules
from handlers.identity.store import clients as clients_store
from handlers.identity.store import keys as keys_store
from handlers.identity.store import sessions as store
from schemas.identity.keys import ApiKey, KeyRevoked
from schemas.identity.sessions import Ended, Session, SessionEnded


async def end_sessions(
    tx: Transaction, owner_id: str, because: Ended, ctx: Context, *, but: str | None = None
) -> int:
    """End every open session of an owner except the one that is shown; returns how many."""
    ended = 0
    for row in await tx.rows(store.OPEN_OF, owner_id):
        session = Session.model_validate(dict(row))
        if f"session/{session.id}" != but:
            await tx.record(SessionEnded(session=rules.ended(session, because, ctx.now())))
            ended += 1
    return ended


async def revoke_keys(tx: Transaction, owner_id: str, ctx: Context) -> None:
    """Revoke every API key of an owner."""
    for row in await tx.rows(keys_store.GOOD_OF, owner_id):
        key = ApiKey.model_validate(dict(row))
        await tx.record(KeyRevoked(key=key_rules.revoked(key, ctx.now())))


async def end_sessions_of_client(tx: Transaction, client_id: str, ctx: Context) -> None:
    """End every open session that was given to an OAuth client, and its codes under way."""
    await tx.execute(clients_store.DROP_CODES, client_id)
    for row in await tx.rows(clients_store.SESSIONS, client_id):
        session = Session.model_validate(dict(row))
        await tx.record(SessionEnded(session=rules.ended(session, "revoked", ctx.now())))
