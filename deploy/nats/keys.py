"""The NKey seeds of one installation: one for each role, and the one that signs guests' rights.

A seed is a private key; the server gets the public ones only. They are made at the first start
and kept in files that their owner alone may read.
"""

import os
import re
from pathlib import Path

import nkeys

from bus.credentials import write_secret
from deploy.nats.render import variable
from deploy.nats.server import ACCOUNTS

ISSUER = "issuer"
SEED_BYTES = 32


def role_names() -> list[str]:
    """Every role of `accounts.conf`."""
    found = re.findall(r"nkey: \$NKEY_(\w+)", ACCOUNTS.read_text(encoding="utf-8"))
    return [name.lower() for name in found]


def ensure(folder: Path) -> None:
    """Make the seeds that are missing."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in (*role_names(), ISSUER):
        path = folder / f"{name}.seed"
        if not path.exists():
            write_secret(path, new_seed(name))


def new_seed(name: str) -> bytes:
    """A private key, in the form of a user's or, for the issuer, of an account's."""
    kind = nkeys.PREFIX_BYTE_ACCOUNT if name == ISSUER else nkeys.PREFIX_BYTE_USER
    seed: bytes = nkeys.encode_seed(os.urandom(SEED_BYTES), kind)
    return seed


def seed(folder: Path, name: str) -> str:
    """The seed of a role."""
    return (folder / f"{name}.seed").read_text().strip()


def public(folder: Path, name: str) -> str:
    """The public key that belongs to it."""
    pair = nkeys.from_seed(bytearray(seed(folder, name).encode()))
    key: bytes = pair.public_key
    return key.decode()


def variables(folder: Path) -> dict[str, str]:
    """What `accounts.conf` leaves open."""
    keys = {variable(name): public(folder, name) for name in role_names()}
    return keys | {"ISSUER": public(folder, ISSUER)}
