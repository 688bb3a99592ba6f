"""Opaque credentials, and the signature on the principal that travels on the bus.

An API key is `sp_<id>_<secret>_<crc>`: the id finds it, the checksum lets scanners and typing
errors be told apart from guesses, and only the SHA-256 of its 256-bit secret is stored. Session
cookies (`ss_`), refresh tokens (`sr_`) and the secrets of OAuth clients (`sc_`) have its form.

The edge and every handlers process hold a signing key of their own; all hold the public keys. A
signed principal lives 60 s, so each signer keeps one per principal and renews it after 30 s.
"""

import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from schemas.principal import Principal
from schemas.problems import Expired, Forged, Unauthenticated

SIGNERS = ("edge", "handlers")
LIFE_S = 60
RENEW_S = 30
CACHE_MAX = 4096
HEADER_BYTES_MAX = 4096
ID_BYTES = 8
SECRET_BYTES = 32
PREFIXES = {"key": "sp", "session": "ss", "refresh": "sr", "client": "sc"}
_FORM = re.compile(r"(s[a-z])_([0-9a-f]{16})_([A-Za-z0-9_-]{43})_([0-9a-f]{8})")


@dataclass(frozen=True)
class Credential:
    """A fresh credential: `text` is shown once, `secret_hash` is what is stored."""

    id: str
    text: str
    secret_hash: str


def new_credential(kind: str) -> Credential:
    """Make a credential of 256 random bits."""
    return of_bytes(kind, secrets.token_bytes(ID_BYTES + SECRET_BYTES))


def of_bytes(kind: str, content: bytes) -> Credential:
    """The credential of these bytes: 8 for its id, 32 for its secret, the rest is not used."""
    name = content[:ID_BYTES].hex()
    secret = base64.urlsafe_b64encode(content[ID_BYTES : ID_BYTES + SECRET_BYTES]).decode()
    secret = secret.rstrip("=")
    body = f"{PREFIXES[kind]}_{name}_{secret}"
    return Credential(name, f"{body}_{checksum(body)}", hash_secret(secret))


def read_credential(kind: str, text: str) -> tuple[str, str]:
    """Split a credential into its id and its secret.

    Raises:
        Unauthenticated: It is not of the form, of another kind, or its checksum is wrong.
    """
    match = _FORM.fullmatch(text)
    if match is None or match[1] != PREFIXES[kind] or checksum(text.rpartition("_")[0]) != match[4]:
        raise Unauthenticated
    return match[2], match[3]


def csrf_token(cookie: str) -> str:
    """What a page must show besides its cookie; it cannot read the cookie, and nobody else can."""
    return hmac.digest(cookie.encode(), b"csrf", hashlib.sha256).hex()


def kind_of(text: str) -> str | None:
    """What kind of credential a text claims to be; None if it is none of ours."""
    return next((k for k, prefix in PREFIXES.items() if text.startswith(f"{prefix}_")), None)


def checksum(body: str) -> str:
    """Eight hex digits over the rest of the key."""
    return f"{binascii.crc32(body.encode()):08x}"


def hash_secret(secret: str) -> str:
    """What is stored of a secret; it is random, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


def same_secret(secret: str, secret_hash: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(hash_secret(secret), secret_hash)


def ensure_signing_keys(folder: Path) -> None:
    """Create the signing keys of this installation below `folder`, where they are missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in SIGNERS:
        private, public = folder / f"{name}.key", folder / f"{name}.pub"
        if public.exists():
            continue  # its private half may be another process's alone
        key = Ed25519PrivateKey.generate()
        write_secret(private, private_pem(key))
        write_secret(public, public_pem(key.public_key()))


def private_pem(key: Ed25519PrivateKey) -> bytes:
    """PKCS 8 without a password: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_pem(key: Ed25519PublicKey) -> bytes:
    """SubjectPublicKeyInfo."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def write_secret(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, never visible half-written."""
    partial = path.with_name(path.name + ".part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    partial.replace(path)


class Signer:
    """Signs principals with this process's own key."""

    def __init__(self, name: str, folder: Path) -> None:
        self._name = name
        key = serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self._key = key
        self._made: OrderedDict[Principal, tuple[float, str]] = OrderedDict()

    def sign(self, principal: Principal) -> str:
        """The value of the header `x-principal`, good for at least 30 s more."""
        made = self._made.get(principal)
        now = time.time()
        if made is not None and now - made[0] < RENEW_S:
            return made[1]
        claims = {"exp": int(now) + LIFE_S, "p": principal.model_dump(exclude_defaults=True)}
        text = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._name})
        self._made[principal] = (now, text)
        self._made.move_to_end(principal)
        if len(self._made) > CACHE_MAX:
            self._made.popitem(last=False)
        return text


class Verifier:
    """Reads signed principals; what was verified is kept until it expires."""

    def __init__(self, folder: Path) -> None:
        self._keys = {name: (folder / f"{name}.pub").read_bytes() for name in SIGNERS}
        self._seen: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    def read(self, header: str | None) -> Principal:
        """The principal that a header vouches for.

        Raises:
            Unauthenticated: There is no header.
            Expired: It is older than its life.
            Forged: It was not signed by the edge or a layer.
        """
        if not header:
            raise Unauthenticated
        seen = self._seen.get(header)
        if seen is None:
            seen = self._seen[header] = self._verify(header)
            if len(self._seen) > CACHE_MAX:
                self._seen.popitem(last=False)
        if seen[0] < time.time():
            self._seen.pop(header, None)
            raise Expired
        return seen[1]

    def _verify(self, header: str) -> tuple[float, Principal]:
        if len(header) > HEADER_BYTES_MAX:
            raise Forged
        try:
            key = self._keys[jwt.get_unverified_header(header)["kid"]]
            claims = jwt.decode(header, key, algorithms=["EdDSA"], options={"require": ["exp"]})
            return claims["exp"], Principal.model_validate_json(orjson.dumps(claims["p"]))
        except jwt.ExpiredSignatureError:
            raise Expired from None
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
            raise Forged from None
