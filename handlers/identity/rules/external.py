"""Decisions about people who sign in elsewhere: as whom they come in the first time."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from schemas.identity.users import CreateUser
from schemas.principal import Role

NAME_MAX = 300
SUFFIX = 8


def newcomer(
    claims: Mapping[str, Any], issuer: str, roles: tuple[Role, ...], *, taken: bool
) -> CreateUser:
    """The account of somebody who comes for the first time; it has no password."""
    login = wished_login(claims)
    if login is None or taken:
        mark = hashlib.sha256(f"{issuer} {claims['sub']}".encode()).hexdigest()[:SUFFIX]
        login = f"{(login or 'external')[:80]}-{mark}"
    name = claims.get("name")
    named = isinstance(name, str) and 0 < len(name) <= NAME_MAX
    return CreateUser(login=login, name=str(name) if named else login, roles=roles)


def wished_login(claims: Mapping[str, Any]) -> str | None:
    """What the provider calls this person, if it can be a login here."""
    for claim in ("preferred_username", "email"):
        text = re.sub(r"\s", "", str(claims.get(claim) or "")).lower()
        try:
            return CreateUser(login=text, name=text).login
        except ValueError:
            continue
    return None
