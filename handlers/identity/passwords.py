"""Passwords: argon2id, in threads, two at a time; 250 ms and 64 MiB each are what it shall cost.

A login that does not exist costs the same as one that does: its attempt is checked against a hash
that no password has.
"""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

AT_ONCE = 2

_hasher = PasswordHasher()
_threads = ThreadPoolExecutor(AT_ONCE, "passwords")
_nobodys: list[str] = []


async def hashed(password: str) -> str:
    """What is stored of a password."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_threads, _hasher.hash, password)


async def fits(stored: str | None, password: str) -> bool:
    """Whether the password is the stored one; takes as long when nothing is stored."""
    if stored is None and not _nobodys:
        _nobodys.append(await hashed(secrets.token_urlsafe()))
    loop = asyncio.get_running_loop()
    fitting = await loop.run_in_executor(_threads, _verify, stored or _nobodys[0], password)
    return fitting and stored is not None


def _verify(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (Argon2Error, InvalidHashError):
        return False


def outdated(stored: str) -> bool:
    """Whether the hash was made with weaker parameters than now."""
    return _hasher.check_needs_rehash(stored)
