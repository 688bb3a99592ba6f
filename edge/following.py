"""What the edge does about events of identity: forget what they have made untrue."""

from collections.abc import Callable

import orjson

from bus.rights import Rights
from edge.accesstokens import AccessTokens
from edge.authentication import Authentication
from edge.bus_door import BusDoor
from schemas.identity.keys import KeyRevoked, KeyRotated
from schemas.identity.sessions import SessionEnded
from schemas.identity.signing import SigningKeyPublished, SigningKeyRetired
from schemas.identity.users import PasswordChanged, UserChanged

OWNERS = {
    event.name: (event.field_name, field)
    for event, field in (
        (KeyRotated, "owner_id"), (KeyRevoked, "owner_id"),
        (SessionEnded, "owner_id"), (UserChanged, "id"), (PasswordChanged, "id"),
    )
}  # fmt: skip


def follower(
    authentication: Authentication, tokens: AccessTokens, rights: Rights, bus_door: BusDoor
) -> Callable[[str, bytes], None]:
    """What to call at each event of identity, with its type and body."""
    rights.on_change(authentication.tell_changed)

    def heard(name: str, body: bytes) -> None:
        if name == SigningKeyPublished.name:
            tokens.forget_keys()
        elif name == SigningKeyRetired.name:
            tokens.forget_keys()
            authentication.forget()
        elif name in OWNERS:
            entity, field = OWNERS[name]
            authentication.forget(orjson.loads(body)[entity][field])
            bus_door.forget()

    return heard
