"""What is believed of services, and when something has changed. Pure.

An instance counts for as long as it answered one of the last three rounds, so that one lost
answer changes nothing. A service is what its newest version says of itself. Answers come from
anybody on the bus: whatever is too large, malformed or not text is refused as a whole.

What was registered is believed while its lease lasts, and answers under its name change nothing.
"""

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from handlers.registry.health import Health, Watch, forgiven, unchecked
from schemas import catalogue
from schemas.contract import Event
from schemas.principal import Principal
from schemas.problems import Unavailable
from schemas.registry import (
    NewEndpoint,
    RegisterService,
    Service,
    ServiceAppeared,
    ServiceChanged,
    ServiceEndpoint,
    ServiceHealthChanged,
    ServiceLost,
    ServiceNameTaken,
    ServiceVersionTaken,
)
from schemas.tools import ToolBrokeItsSchema, ToolFailed, ToolTimedOut

SILENT_ROUNDS_MAX = 3
INSTANCES_MAX = 5_000
ANSWERS_KEPT = 512
SERVICES_MAX = 1_000
OWNED_MAX = 200
ENDPOINTS_MAX = 200
METADATA_BYTES_MAX = 32 * 1024
SERVICE_BYTES_MAX = 600 * 1024
TEXT_MAX = 1_000
TAGS_MAX = 20
CHECK_EVERY_S = 30
ORPHAN_S = 600
RESERVED = frozenset({*catalogue.DOMAINS, "search", "entries", "platform"})
"""Names of the platform's own services, of its paths, and under which its tools are listed."""
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "story-portal:services")

FAULTS = frozenset(
    {kind.code for kind in (ToolFailed, ToolTimedOut, ToolBrokeItsSchema, Unavailable)}
)

_TAG = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_SUBJECT = re.compile(r"tool(\.[A-Za-z0-9_-]{1,64}){1,6}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}(?:[-+][0-9A-Za-z.+-]{1,40})?")


class Malformed(ValueError):
    """An answer that is not to be believed."""


@dataclass(frozen=True)
class Instance:
    """One answer to `$SRV.INFO`, checked."""

    id: str
    name: str
    service_version: str
    description: str
    metadata: Mapping[str, str]
    endpoints: tuple[ServiceEndpoint, ...]


@dataclass(frozen=True)
class Sighting:
    """An instance, and the round in which it last answered."""

    instance: Instance
    round: int


@dataclass(frozen=True)
class Observation:
    """A service as it answers now."""

    newest: Instance
    instances: int


def read(body: Mapping[str, Any]) -> Instance:
    """The instance in an INFO answer that was parsed from JSON.

    Raises:
        Malformed: It is not of the protocol's form, or too large.
    """
    endpoints = body.get("endpoints") or []
    if not isinstance(endpoints, list) or len(endpoints) > ENDPOINTS_MAX:
        raise Malformed(f"endpoints is no list of at most {ENDPOINTS_MAX}")
    instance = Instance(
        id=text(body, "id", 100),
        name=matching(body, "name", _NAME),
        service_version=matching(body, "version", _VERSION),
        description=text(body, "description", TEXT_MAX) if body.get("description") else "",
        metadata=metadata(body.get("metadata")),
        endpoints=tuple(endpoint(entry) for entry in endpoints),
    )
    if sum(len(each.model_dump_json()) for each in instance.endpoints) > SERVICE_BYTES_MAX:
        raise Malformed(f"the endpoints take more than {SERVICE_BYTES_MAX} bytes")
    return instance


def endpoint(entry: Any) -> ServiceEndpoint:
    """One endpoint."""
    if not isinstance(entry, Mapping):
        raise Malformed("an endpoint is no object")
    about = metadata(entry.get("metadata"))
    return ServiceEndpoint(
        name=text(entry, "name", 200),
        subject=text(entry, "subject", 300),
        summary=(about.get("summary") or about.get("description") or "")[:TEXT_MAX],
        metadata=about,
    )


def metadata(value: Any) -> dict[str, str]:
    """Texts by name, as the protocol has them."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise Malformed("metadata is no object")
    about = {clean(k): clean(v) for k, v in value.items()}
    if sum(len(k.encode()) + len(v.encode()) for k, v in about.items()) > METADATA_BYTES_MAX:
        raise Malformed(f"metadata is larger than {METADATA_BYTES_MAX} bytes")
    return about


def text(body: Mapping[str, Any], name: str, length_max: int) -> str:
    """A text that is there and not too long."""
    value = clean(body.get(name))
    if not 0 < len(value) <= length_max:
        raise Malformed(f"{name} is empty or longer than {length_max}")
    return value


def matching(body: Mapping[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    """A text of the given form."""
    value = clean(body.get(name))
    if not pattern.fullmatch(value):
        raise Malformed(f"{name} is not of its form")
    return value


def clean(value: Any) -> str:
    """A text that Postgres can store."""
    if not isinstance(value, str) or "\x00" in value:
        raise Malformed("something is not a text")
    return value


def seen(
    sightings: Mapping[str, Sighting], answers: Iterable[Instance], number: int
) -> dict[str, Sighting]:
    """Who answered in this round or the ones just before it."""
    now = {f"{a.name}/{a.id}": Sighting(a, number) for a in answers}
    kept = {k: s for k, s in sightings.items() if number - s.round < SILENT_ROUNDS_MAX}
    together = kept | now
    return dict(list(together.items())[-INSTANCES_MAX:])


def observe(sightings: Iterable[Sighting]) -> dict[str, Observation]:
    """The services that the sightings add up to; their newest version speaks for them."""
    groups: dict[str, list[Instance]] = {}
    for sighting in sightings:
        groups.setdefault(sighting.instance.name, []).append(sighting.instance)
    return {
        name: Observation(max(group, key=rank), len(group))
        for name, group in sorted(groups.items())[:SERVICES_MAX]
    }


def rank(instance: Instance) -> tuple[Any, ...]:
    """Newer versions first; the id only makes the choice the same in every process."""
    numbers, _, suffix = re.sub("[-+]", "~", instance.service_version, count=1).partition("~")
    return (*(int(part) for part in numbers.split(".")), suffix == "", suffix, instance.id)


def service_id(name: str) -> str:
    """A service keeps its id for ever."""
    return str(uuid.uuid5(NAMESPACE, name))


def appeared(observation: Observation, before: Service | None, at: datetime) -> Service:
    """The service as it answers now, in its next version; how it is stays to be weighed."""
    newest = observation.newest
    return Service(
        id=service_id(newest.name),
        version=before.version + 1 if before else 1,
        name=newest.name,
        service_version=newest.service_version,
        description=newest.description,
        layer=newest.metadata.get("layer", "")[:10] or None,
        instances=observation.instances,
        endpoints=newest.endpoints,
        metadata=dict(newest.metadata),
        status="ready",
        last_seen_at=at,
        created_at=before.created_at if before else at,
        updated_at=at,
    )


def require_registrable(command: RegisterService, before: Service | None, by: Principal) -> None:
    """Refuse a name that is somebody else's, and a version that meant something else.

    Raises:
        ServiceNameTaken: Somebody else answers or registered under this name, or it is reserved.
        ServiceVersionTaken: The same version had other endpoints.
    """
    if command.name in RESERVED:
        raise ServiceNameTaken("This name is the platform's own.", name=command.name)
    if before is None:
        return
    if before.owner_id != by.id and "admin" not in by.roles:
        raise ServiceNameTaken(name=command.name)
    same_version = before.owner_id is not None and before.service_version == command.service_version
    if same_version and before.endpoints != endpoints_of(command):
        raise ServiceVersionTaken(name=command.name, service_version=command.service_version)


def registered(
    command: RegisterService, before: Service | None, owner: str, at: datetime
) -> Service:
    """The service as it was registered, in its next version; how it is stays to be weighed."""
    anew = before is None or before.status == "lost"
    return Service(
        id=service_id(command.name),
        version=before.version + 1 if before else 1,
        name=command.name,
        service_version=command.service_version,
        description=command.description,
        layer=command.layer,
        instances=1,
        endpoints=endpoints_of(command),
        metadata={"tags": ",".join(command.tags)} if command.tags else {},
        status="ready",
        owner_id=owner if before is None or anew else before.owner_id,
        last_seen_at=at,
        created_at=before.created_at if before else at,
        updated_at=at,
    )


def endpoints_of(command: RegisterService) -> tuple[ServiceEndpoint, ...]:
    """What it does, in the form in which services tell it of themselves."""
    return tuple(
        ServiceEndpoint(
            name=new.name,
            subject=new.subject,
            summary=new.description,
            metadata=told_of(new, command.name),
        )
        for new in command.endpoints
    )


def told_of(new: NewEndpoint, service_name: str) -> dict[str, str]:
    """The metadata of an endpoint that is a tool."""
    return {
        "tool": f"{service_name}.{new.name}",
        "description": new.description,
        "input_schema": json.dumps(new.input_schema),
        "output_schema": json.dumps(new.output_schema),
        "timeout_ms": str(new.timeout_ms),
        "repeatable": str(new.repeatable).lower(),
        "tags": ",".join(new.tags),
    }


def watched(command: RegisterService, before: Watch | None, *, anew: bool, at: datetime) -> Watch:
    """What is looked after from a registration on; what is there keeps its health."""
    health = before.health if before else Health(at=at)
    health = forgiven(health, at) if anew else health
    return Watch(
        health=health if command.health_subject else unchecked(health, at),
        lease_s=command.lease_s,
        remove_after_s=command.remove_after_s,
        health_subject=command.health_subject,
        check_every_s=command.check_every_s,
        check_at=at + timedelta(seconds=command.check_every_s),
    ).renewed(at)


def checked_by_itself(about: Mapping[str, Any], before: Watch, at: datetime) -> Watch:
    """What is looked after in a service that answers by itself and names a subject to be asked."""
    subject = str(about.get("health", ""))
    if not _SUBJECT.fullmatch(subject):
        return Watch(health=unchecked(before.health, at))
    return Watch(
        health=before.health,
        health_subject=subject,
        check_every_s=CHECK_EVERY_S,
        check_at=at + timedelta(seconds=CHECK_EVERY_S),
    )


def invocable_names(service: Service) -> list[str]:
    """The operations and tools of a service, by the names under which they are invoked."""
    return [
        str(each.metadata.get("operation") or each.metadata.get("tool") or each.name)
        for each in service.endpoints
    ]


def to_blame(error: Mapping[str, Any] | None) -> bool:
    """Whether a tool's service, and not its caller, is at fault for how a call ended."""
    if error is None or error.get("code") not in FAULTS:
        return False
    return not str(error.get("details", {}).get("code", "")).startswith("4")


def tags_of(about: Mapping[str, Any]) -> tuple[str, ...]:
    """The tags in metadata, which are one text; what is no tag is left out."""
    tags = str(about.get("tags", "")).split(",")[:TAGS_MAX]
    return tuple(dict.fromkeys(tag for tag in tags if _TAG.fullmatch(tag)))


def shown(service: Service, before: Service | None, health: Health, at: datetime) -> Service:
    """The next version of a service, with the status that its health gives it."""
    return service.model_copy(
        update={
            "version": before.version + 1 if before else 1,
            "status": health.status,
            "reason": health.reason,
            "instances": 0 if health.status == "lost" else service.instances,
            "updated_at": at,
        }
    )


def news(before: Service | None, after: Service) -> Event | None:
    """What is to be announced; nothing when only times have changed."""
    was = before.status if before else "lost"
    if after.status == "lost":
        return None if was == "lost" else ServiceLost(service=after)
    if before is None or was == "lost":
        return ServiceAppeared(service=after)
    if differs(before, after):
        return ServiceChanged(service=after)
    return None if was == after.status else ServiceHealthChanged(service=after)


def differs(before: Service, after: Service) -> bool:
    """Whether it is another service: anything but times, and how it is, has changed."""
    ignored = {"version", "last_seen_at", "created_at", "updated_at", "status", "reason"}
    return before.model_dump(exclude=ignored) != after.model_dump(exclude=ignored)


def removed(service: Service, reason: str, at: datetime) -> Service:
    """The service, out of the registry."""
    return service.model_copy(
        update={
            "version": service.version + 1,
            "status": "lost",
            "reason": reason,
            "instances": 0,
            "updated_at": at,
        }
    )


@lru_cache(maxsize=ANSWERS_KEPT)
def parse(data: bytes) -> Instance:
    """The instance in the bytes of an answer; most answers are the same round after round.

    Raises:
        Malformed: It is not JSON of the protocol's form.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed("it is not JSON") from None
    if not isinstance(body, Mapping):
        raise Malformed("it is no object")
    return read(body)
