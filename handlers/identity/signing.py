"""The keys that sign access tokens: published first, used when every verifier knows them.

    published ──30 s──► signs ──30 days──► replaced, still verifies for an hour and a bit

An edge process hears of a new key by its event, and reads the set again when a token names a key
that it does not know. The private half is sealed and opened only here.
"""

import base64
from datetime import datetime, timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bus.context import Context
from bus.credentials import private_pem
from bus.database import Transaction
from handlers.identity.store import sessions as store
from schemas.identity.sessions import ACCESS_S
from schemas.identity.signing import SigningKey, SigningKeyPublished, SigningKeyRetired
from schemas.problems import Unavailable

KNOWN_AFTER_S = 30
SIGNS_DAYS = 30
SKEW_S = 60


def about(key_id: str) -> str:
    """The place to which a sealed private key is bound."""
    return f"identity.signing_secrets/{key_id}"


def public_text(key: Ed25519PrivateKey) -> str:
    """The public half as RFC 8037 writes it."""
    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def when_known(ctx: Context) -> datetime:
    """When every verifier knows a key that is published now."""
    return ctx.now() + timedelta(seconds=KNOWN_AFTER_S)


async def publish(
    tx: Transaction, signs_from: datetime, ctx: Context, *, ends: datetime | None = None
) -> SigningKey:
    """Make a key; those before it end at `ends`, or when the last token that they signed does."""
    private = Ed25519PrivateKey.generate()
    key = SigningKey(
        id=ctx.new_id(), version=1, public=public_text(private), created_at=ctx.now(),
        signs_from=signs_from, verifies_until=None,
    )  # fmt: skip
    end = ends or signs_from + timedelta(seconds=ACCESS_S + SKEW_S)
    for row in await tx.rows(store.VERIFYING, ctx.now()):
        before = SigningKey.model_validate(dict(row))
        if before.verifies_until is None or before.verifies_until > end:
            change = {"version": before.version + 1, "verifies_until": end}
            await tx.record(SigningKeyRetired(key=before.model_copy(update=change)))
    await tx.record(SigningKeyPublished(key=key))
    sealed = ctx.platform.sealer.seal(private_pem(private), about(key.id))
    await tx.execute(store.ADD_SIGNING, key.id, sealed)
    return key


async def current(ctx: Context) -> tuple[str, bytes]:
    """The id and the private half of the key that signs now.

    Raises:
        Unavailable: There is none; the first is made when a process starts.
    """
    row = await ctx.database.row(store.SIGNING, ctx.now())
    if row is None:
        raise Unavailable("There is no signing key yet.", retry_after_s=1)
    key_id = str(row["id"])
    return key_id, ctx.platform.sealer.open_sealed(row["sealed"], about(key_id))
