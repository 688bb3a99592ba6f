"""OpenTelemetry spans of operations, exported only when a collector is set.

The libraries are imported then, because they cost a tenth of a second at every start.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_tracers: list[Any] = []


def export(otlp_url: str, process: str) -> None:
    """Send spans to this collector, OTLP over HTTP, from now on."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"portal-{process}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(otlp_url)))
    trace.set_tracer_provider(provider)
    _tracers.append(trace.get_tracer("story-portal"))


def exporting() -> bool:
    """Whether spans go anywhere."""
    return bool(_tracers)


@contextmanager
def span(name: str, trace_parent: str) -> Iterator[None]:
    """A span below the caller's; use only while `exporting()`.

    Of what goes wrong it tells the kind and not the words, which may hold what was sent.
    """
    from opentelemetry.propagate import extract
    from opentelemetry.trace import Status, StatusCode

    started = _tracers[-1].start_as_current_span(
        name,
        context=extract({"traceparent": trace_parent}),
        record_exception=False,
        set_status_on_exception=False,
    )
    with started as current:
        try:
            yield
        except Exception as failed:
            current.set_status(Status(StatusCode.ERROR, type(failed).__name__))
            raise
