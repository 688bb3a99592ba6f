"""Which events a principal may see: those of things that it may read.

Events of identity and the inbox need the permission of their entity, and with `own` reach their
owner and whom they are meant for; every event of a thing on which the caller has a denial is
hidden.
"""

from functools import cache

from bus.rights import Rights
from edge import topics
from edge.feed import Happened
from schemas import catalogue
from schemas.principal import Principal


@cache
def permissions() -> dict[str, tuple[str, bool]]:
    """Event type -> the permission to read its entity, and whether that is asked besides."""
    return {
        event.name: (event.entity_type.read or of_topic(event.name), bool(event.entity_type.read))
        for event in catalogue.events()
    }


def of_topic(event_type: str) -> str:
    """The permission of the narrowest topic that carries a type of event."""
    return topics.PERMISSIONS[topics.of_type(event_type)[0]]


def sees(rights: Rights, principal: Principal, happened: Happened) -> bool:
    """Whether this principal may see an event."""
    permission, asked = permissions().get(happened.type, (topics.PERMISSIONS[topics.ALL], True))
    reach = rights.reach(principal, permission)
    if not asked:
        return not reach.denied or reach.denied.isdisjoint(happened.facts.values())
    reach = reach.on(*happened.facts.values())
    if reach.scope == "own":
        mine = [happened.facts.get(fact) for fact in ("owner_id", "assignee_id", "entity_id")]
        return principal.id in mine or happened.facts.get("for_role") in principal.roles
    return reach.scope == "all"
