"""Decisions about the log: which of its entries somebody may read.

An entry is read like the thing that it is about. What has a permission of its own in the contract
(accounts, keys, sessions, grants) needs that; of everything else a denial hides its entries.
"""

from functools import cache

from schemas import catalogue
from schemas.contract import Json
from schemas.events import PastEntity, StoredEvent
from schemas.policy import Reach
from schemas.principal import Principal

OWNERS = ("owner_id", "created_by", "assignee_id")


@cache
def permissions() -> dict[str, tuple[str | None, bool]]:
    """Event type -> the permission to read its entity, and whether that is asked besides."""
    readers = {
        o.reply: o.may for o in catalogue.operations() if o.reads and o.route and o.route.parameters
    }
    return {
        event.name: (event.entity_type.read or readers.get(event.entity_type),
                     event.entity_type.read is not None)
        for event in catalogue.events()
    }  # fmt: skip


def readable(event: StoredEvent, reach: Reach, principal: Principal) -> bool:
    """Whether an entry is shown to one whose permission to read its entity goes this far."""
    _, asked = permissions().get(event.type, (None, True))
    entity: Json = next(iter(event.payload.values()), {})
    texts = [text for text in entity.values() if isinstance(text, str)]
    facts = (event.aggregate_id, event.correlation_id or "", *texts)
    if not asked:
        return reach.denied.isdisjoint(facts)
    reach = reach.on(*facts)
    mine = principal.id in (event.aggregate_id, *(entity.get(name) for name in OWNERS))
    mine = mine or entity.get("for_role") in principal.roles
    return reach.scope == "all" or (reach.scope == "own" and mine)


def as_it_was(event: StoredEvent) -> PastEntity:
    """The entity right after an entry: its payload is the whole state."""
    return PastEntity(
        aggregate_type=event.aggregate_type,
        aggregate_id=event.aggregate_id,
        version=event.aggregate_version,
        state=next(iter(event.payload.values()), {}),
        type=event.type,
        event_id=event.event_id,
        seq=event.seq,
        recorded_at=event.recorded_at,
    )
