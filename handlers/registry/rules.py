"""From answers to `$SRV.INFO` to services: what is believed, and when something has changed. Pure.

An instance counts for as long as it answered one of the last three rounds, so that one lost
answer changes nothing. A service is what its newest version says of itself. Answers come from
anybody on the bus: whatever is too large, malformed or not text is refused as a whole.
"""

import json
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from schemas.registry import Service, ServiceEndpoint

SILENT_ROUNDS_MAX = 3
INSTANCES_MAX = 5_000
ANSWERS_KEPT = 512
SERVICES_MAX = 1_000
ENDPOINTS_MAX = 200
METADATA_BYTES_MAX = 32 * 1024
SERVICE_BYTES_MAX = 600 * 1024
TEXT_MAX = 1_000
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "story-portal:services")

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
    """The service as it answers now, in its next version."""
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


def differs(before: Service, after: Service) -> bool:
    """Whether anything but the times changed."""
    ignored = {"version", "last_seen_at", "created_at", "updated_at"}
    return before.model_dump(exclude=ignored) != after.model_dump(exclude=ignored)


def lost(service: Service, at: datetime) -> Service:
    """The service with nobody who answers for it."""
    return service.model_copy(
        update={"version": service.version + 1, "status": "lost", "instances": 0, "updated_at": at}
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
