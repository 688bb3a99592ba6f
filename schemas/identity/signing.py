"""Signing keys of access tokens, and the set of public keys that verifies them (RFC 7517)."""

from datetime import datetime

from pydantic import Field

from schemas.contract import Entity, Event, Operation, Schema
from schemas.problems import VersionConflict


class SigningKey(Entity, table="identity.signing_keys", read="keys:read"):
    """An Ed25519 key pair; the private half is sealed and never leaves the handlers.

    It is published from `created_at`, signs from `signs_from` until the next key does, and
    verifies until `verifies_until`.
    """

    public: str
    created_at: datetime
    signs_from: datetime
    verifies_until: datetime | None


class RotateSigningKey(Schema):
    """Publish a new signing key; it signs as soon as every verifier has had time to know it."""

    compromised: bool = Field(
        default=False,
        description="The key before is known to others: it ends now, with every token it signed.",
    )


class GetKeySet(Schema):
    """Read the public keys that verify access tokens."""


class PublicKey(Schema):
    """One key of the set (RFC 8037)."""

    kid: str
    x: str
    kty: str = "OKP"
    crv: str = "Ed25519"
    alg: str = "EdDSA"
    use: str = "sig"
    exp: int | None = Field(None, description="Unix seconds after which it verifies nothing.")


class KeySet(Schema):
    """A JSON Web Key Set."""

    keys: tuple[PublicKey, ...]


class SigningKeyPublished(Event, name="identity.signing_key_published"):
    """There is another signing key."""

    key: SigningKey


class SigningKeyRetired(Event, name="identity.signing_key_retired"):
    """A signing key's end is set."""

    key: SigningKey


key_set = Operation("identity.key-set", GetKeySet, KeySet, public=True, timeout_s=2)
rotate_signing_key = Operation(
    "identity.rotate-signing-key", RotateSigningKey, SigningKey,
    rest="POST /signing-keys/rotate -> 201", may="keys:grant", problems=(VersionConflict,),
    emits=(SigningKeyPublished, SigningKeyRetired), idempotent=True, commits_itself=True,
)  # fmt: skip
