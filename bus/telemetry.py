"""What a process tells of itself: JSON log lines, Prometheus metrics, W3C trace context.

Every log line of a request carries its request id and trace id through context variables. Spans
are exported only when `otlp_url` is set; the trace context is passed on either way.
"""

import logging
import random
import re
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from prometheus_client import Counter, Gauge, Histogram

from bus import redaction, spans
from bus.settings import Settings

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300)
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029]")  # JSON escapes those below 32 itself
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

requests_total = Counter("portal_requests_total", "Operations answered.", ["operation", "code"])
request_seconds = Histogram(
    "portal_request_seconds", "Time from receipt to reply.", ["operation"], buckets=SECONDS
)
jobs_total = Counter("portal_jobs_total", "Jobs finished.", ["job", "outcome"])
reactions_total = Counter("portal_reactions_total", "Events reacted to.", ["durable", "outcome"])
running = Gauge("portal_running", "Operations, reactions and jobs at work now.", ["kind"])
background_failures_total = Counter(
    "portal_background_failures_total", "Rounds of background work that failed.", ["work"]
)
outbox_pending = Gauge("portal_outbox_pending", "Messages committed and not yet published.")
outbox_published_total = Counter("portal_outbox_published_total", "Messages published.")

trace_parent: ContextVar[str | None] = ContextVar("trace_parent", default=None)
request: ContextVar[str | None] = ContextVar("request", default=None)
"""The request that this task works for; structlog's own context took 4 % of the CPU of a read."""


def set_up(settings: Settings, process: str) -> None:
    """Write JSON lines to standard error from now on, and export spans if a collector is set."""
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            name_request,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            structlog.processors.format_exc_info,
            redact,
            structlog.processors.JSONRenderer(serializer=_dump),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    settings.tell_reads(
        lambda read: log().info("secret read", name=read.name, provider=read.provider)
    )
    library = logging.StreamHandler(sys.stderr)
    library.setFormatter(Lines())
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[library])
    if settings.otlp_url:
        spans.export(settings.otlp_url, process)


def name_request(_: Any, __: str, event: Any) -> Any:
    """Add the id of the request at work."""
    if (request_id := request.get()) is not None:
        event.setdefault("request_id", request_id)
    return event


def _dump(value: Any, **_: Any) -> str:
    """One line, whatever the reader takes for an end of line or a terminal for a command."""
    line = orjson.dumps(value, default=str).decode()
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


def redact(_: Any, __: str, event: Any) -> Any:
    """Cut secrets out of every field."""
    return {name: redaction.field(name, told) for name, told in event.items()}


class Lines(logging.Formatter):
    """What libraries log, in the form of our own lines."""

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, redacted."""
        event = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        event["level"] = record.levelname.lower()
        event["at"] = datetime.fromtimestamp(record.created, UTC).isoformat()
        return _dump(redact(None, "", event))


def log() -> Any:
    """The logger of this process."""
    return structlog.get_logger()


def child_of(headers: Mapping[str, str] | None) -> str:
    """The `traceparent` of the work that these headers ask for: same trace, new span id."""
    match = _TRACEPARENT.fullmatch((headers or {}).get("traceparent", ""))
    trace_id, flags = (match[1], match[3]) if match else (f"{random.getrandbits(128):032x}", "01")
    return f"00-{trace_id}-{random.getrandbits(64):016x}-{flags}"


def trace_id(traceparent: str | None) -> str:
    """The trace's part of a `traceparent`, for log lines."""
    return traceparent[3:35] if traceparent else ""
