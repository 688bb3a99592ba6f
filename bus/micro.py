"""Discovery by the NATS service protocol (ADR-32): every domain answers $SRV.PING, INFO and STATS.

The protocol's library owns its endpoints' subscriptions; ours belong to FastStream. So the service
is created without endpoints and given records that look like them: name, subject, metadata, and
counters read from our own metrics.
"""

from functools import cache
from typing import Any

import orjson
from nats.aio.client import Client as Connection
from nats.micro.service import (
    EndpointInfo,
    EndpointStats,
    ServiceConfig,
)
from nats.micro.service import (
    Service as MicroService,
)

from bus import telemetry
from bus.service import Service
from bus.version import VERSION
from schemas.contract import Operation


class Announced(MicroService):  # type: ignore[misc]
    """One domain, as `nats micro ls|info|stats` shows it."""

    def __init__(self, connection: Connection, service: Service) -> None:
        super().__init__(
            connection,
            ServiceConfig(
                name=service.name,
                version=VERSION,
                description=service.about,
                metadata={"layer": service.layer, "platform": "story-portal"},
            ),
        )
        self._service = service

    def info(self) -> Any:
        """Every operation with its schema."""
        answer = super().info()
        answer.endpoints = [endpoint_info(operation) for operation in self._service.handlers]
        return answer

    def stats(self) -> Any:
        """Every operation with its counters."""
        answer = super().stats()
        answer.endpoints = [endpoint_stats(operation) for operation in self._service.handlers]
        return answer


@cache
def endpoint_info(operation: Operation[Any, Any]) -> EndpointInfo:
    """What there is to know of an operation before calling it."""
    metadata = {
        "operation": operation.name,
        "summary": operation.summary,
        "kind": operation.kind,
        "permission": operation.may or "",
        "rest": operation.rest or "",
        "tags": ",".join(operation.tags),
        "schema": orjson.dumps(operation.request.model_json_schema()).decode(),
    }
    return EndpointInfo(
        name=operation.verb,
        subject=operation.subject,
        queue_group=operation.domain,
        metadata=metadata,
    )


def endpoint_stats(operation: Operation[Any, Any]) -> EndpointStats:
    """Counters of one operation in this process."""
    samples = [
        sample
        for metric in telemetry.requests_total.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels.get("operation") == operation.name
    ]
    errors = sum(int(s.value) for s in samples if s.labels["code"] != "ok")
    seconds = telemetry.request_seconds.labels(operation.name)._sum.get()
    total = sum(int(sample.value) for sample in samples)
    return EndpointStats(
        name=operation.verb,
        subject=operation.subject,
        queue_group=operation.domain,
        num_requests=total,
        num_errors=errors,
        processing_time=int(seconds * 1e9),
        average_processing_time=int(seconds * 1e9 / total) if total else 0,
    )
