"""What a bus credential may do, read off the permission table. Pure.

    publish     api.<credential>.<domain>.<verb>   operations with a route that its key may call
    subscribe   evt.<domain>.<past>.*              events of things all of which its key may read
                replay.*.<domain>.<past>           the same events, played again
                live.<domain>.*                    tokens, where its key may start such a stream
                _INBOX.<credential>.>              its replies

A permission that reaches only own things opens no subject: a subject does not say whose it is.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from schemas import catalogue
from schemas.contract import Entity, Event, Operation, Page
from schemas.credentials import BusCredential, CreateCredential
from schemas.identity.keys import ApiKey
from schemas.policy import Policy, Reach
from schemas.principal import Principal, permissions

WIDTH = {"none": 0, "own": 1, "all": 2}
EVERY_EVENT = "events:read"


@dataclass(frozen=True)
class Rights:
    """Subjects of one NATS user."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The same for the same rights: what an open connection is compared by."""
        text = "\n".join((*self.publish, "", *self.subscribe))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def new_credential(
    command: CreateCredential, key: ApiKey, *, id: str, at: datetime
) -> BusCredential:
    """A credential that stands for the key and belongs to the key's owner."""
    return BusCredential(
        id=id, version=1, name=command.name, key_id=key.id, owner_id=key.owner_id,
        created_at=at, revoked_at=None,
    )  # fmt: skip


def revoked(credential: BusCredential, at: datetime) -> BusCredential:
    """The credential at its end; a second time changes nothing."""
    if credential.revoked_at is not None:
        return credential
    return credential.model_copy(update={"version": credential.version + 1, "revoked_at": at})


def excess(maker: Principal, key: Principal, policy: Policy) -> tuple[str, ...]:
    """Permissions that the key has beyond whoever would get its credential."""
    return tuple(
        permission
        for permission in permissions()
        if wider(policy.reach(key, permission), policy.reach(maker, permission))
    )


def wider(one: Reach, other: Reach) -> bool:
    """Whether one reaches something that the other does not."""
    if one.nothing:
        return False
    return (
        WIDTH[one.scope] > WIDTH[other.scope]
        or (other.scope != "all" and not one.allowed <= other.allowed)
        or not other.denied <= one.denied
    )


def rights(credential_id: str, principal: Principal, policy: Policy) -> Rights:
    """Every subject that a credential may use."""
    known = catalogue.operations()
    asked = (f"api.{credential_id}.{o.name}" for o in known if may(principal, o, policy))
    tokens = (f"live.{o.domain}.*" for o in known if streams(principal, o, policy))
    heard = {
        *events(principal, policy),
        *replays(principal, policy),
        *tokens,
        f"_INBOX.{credential_id}.>",
    }
    return Rights(tuple(sorted(asked)), tuple(sorted(heard)))


def may(principal: Principal, operation: Operation[Any, Any], policy: Policy) -> bool:
    """Whether it may be asked: what has no route is the layers' own, what is public is HTTP's."""
    if operation.route is None or operation.public:
        return False
    return not policy.reach(principal, operation.may).nothing


def streams(principal: Principal, operation: Operation[Any, Any], policy: Policy) -> bool:
    """Whether its tokens may be read."""
    return operation.kind == "stream" and may(principal, operation, policy)


def events(principal: Principal, policy: Policy) -> tuple[str, ...]:
    """Events that it may read."""
    allowed = [event for event in catalogue.events() if reads(principal, event, policy)]
    if len(allowed) == len(catalogue.events()):
        return ("evt.>",)
    return tuple(f"{event.subject_root()}.*" for event in allowed)


def replays(principal: Principal, policy: Policy) -> tuple[str, ...]:
    """The same events, when somebody plays them again."""
    allowed = [event for event in catalogue.events() if reads(principal, event, policy)]
    if len(allowed) == len(catalogue.events()):
        return ("replay.>",)
    return tuple(f"replay.*.{event.name}" for event in allowed)


def reads(principal: Principal, event: type[Event], policy: Policy) -> bool:
    """Whether it may read all events of this kind: a denial on one thing hides all."""
    needed = event.entity_type.read
    own = [needed] if needed else sorted(readers()[event.entity_type])
    reaches = [policy.reach(principal, permission) for permission in own]
    if any(reach.denied for reach in reaches):
        return False
    if not needed:
        reaches.append(policy.reach(principal, EVERY_EVENT))
    return any(reach.scope == "all" and not reach.denied for reach in reaches)


@cache
def readers() -> dict[type[Entity], frozenset[str]]:
    """Each kind of thing with the permissions under which it is shown."""
    reading = [o for o in catalogue.operations() if o.reads and o.may]
    return {
        event.entity_type: frozenset(
            o.may for o in reading if o.may and shows(o, event.entity_type)
        )
        for event in catalogue.events()
    }


def shows(operation: Operation[Any, Any], kind: type[Entity]) -> bool:
    """Whether an operation answers with things of this kind."""
    if issubclass(operation.reply, Page):
        return operation.reply.model_fields["items"].annotation == tuple[kind, ...]  # type: ignore[valid-type]
    return operation.reply is kind
