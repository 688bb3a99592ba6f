"""Guesses at an account's password: few, then a lock that grows.

An attempt is counted as failed before the password is looked at, and forgiven when it fits: many
guesses at once are no way around the lock.
"""

from datetime import datetime

from bus.context import Context
from handlers.identity.rules.users import lock_after
from handlers.identity.store import users as store
from schemas.problems import TooManyRequests


async def count_attempt(login: str, ctx: Context) -> None:
    """Count an attempt as failed until the password fits.

    Raises:
        TooManyRequests: The login is locked for a while.
    """
    at = ctx.now()
    async with ctx.transaction() as tx:
        row = await tx.row(store.ATTEMPT, login, at)
        wait = lock_after(row["failures"]) if row else None
        if wait is not None:
            await tx.execute(store.LOCK_LOGIN, login, at + wait)
    if row is None:
        raise await locked(login, at, ctx)


async def locked(login: str, at: datetime, ctx: Context) -> TooManyRequests:
    """The refusal of a locked login, the same whether there is such a user or not."""
    row = await ctx.database.row(store.LOCKED_UNTIL, login)
    until = row["locked_until"] if row else None
    wait_s = max(1.0, (until - at).total_seconds()) if until else 1.0
    return TooManyRequests(
        "Too many failed sign-ins; wait, or let an administrator unlock you.",
        limit="account", retry_after_s=round(wait_s, 1),
    )  # fmt: skip
