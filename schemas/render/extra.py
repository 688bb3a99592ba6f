"""What OpenAPI says beyond the operations: shared headers, health, event streams."""

from schemas.contract import Json


def text(description: str, **more: object) -> Json:
    """A header or parameter that is text."""
    return {"description": description, "schema": {"type": "string", **more}}


HEADERS: Json = {
    "ETag": text("The entity's version, in quotes."),
    "X-Request-Id": text("Names this request in every log."),
    "Location": text("Where the job is."),
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}},
    "RateLimit": text("What is left, and seconds until all is there again."),
    "RateLimit-Policy": text("The limit that applies."),
    "Idempotency-Replayed": text("`true` when this is the answer of an earlier request."),
}


def header(name: str, description: str, **more: object) -> Json:
    """A request header."""
    return {"name": name, "in": "header", "required": False, **text(description, **more)}


PARAMETERS: Json = {
    "RequestId": header("X-Request-Id", "A request id of your own, 8 to 64 safe characters."),
    "TimeoutMs": header("X-Timeout-Ms", "Wait no longer than this.", pattern="^[0-9]{1,9}$"),
    "IdempotencyKey": header(
        "Idempotency-Key", "Makes a repetition harmless for 24 hours.", maxLength=200
    ),
    "IfMatch": header("If-Match", "The version that you have seen; another answers 412."),
    "IfNoneMatch": header("If-None-Match", "The version that you have; the same answers 304."),
    "LastEventId": header("Last-Event-ID", "Continue behind this position."),
}

EVENTS_BODY: Json = {
    "schema": {"type": "string", "description": "`chunk` events, then `end` or `error`."}
}
RAW_BODY: Json = {
    "schema": {
        "type": "string",
        "format": "binary",
        "description": "The file itself, with any content type but application/json; its name "
        "in ?name= or Content-Disposition, tags in ?tags=.",
    }
}


def reading(
    name: str, tag: str, summary: str, media_type: str, *, closed: bool, query: list[Json]
) -> Json:
    """One GET of the edge's own."""
    described: Json = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": query,
        "responses": {
            "200": {"description": summary, "content": {media_type: {"schema": {}}}},
        },
    }
    refused = {
        "description": "Refused.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    described["responses"]["default"] = refused
    return {"get": described | ({} if closed else {"security": []})}


def query(name: str, description: str) -> Json:
    """A query parameter that is text."""
    return {"name": name, "in": "query", "required": False, **text(description)}


def paths() -> Json:
    """What the edge answers besides operations."""
    resume = {"$ref": "#/components/parameters/LastEventId"}
    filters = [
        query(name, "Only events with this value.")
        for name in ("type", "goal_id", "agent_id", "task_id", "run_id", "document_id",
                     "entity_id", "correlation_id")
    ]  # fmt: skip
    place = [
        {"name": name, "in": "path", "required": True, **text(about)}
        for name, about in (("domain", "Of the operation."), ("id", "From X-Stream-Id."))
    ]
    kind = "text/event-stream"
    return {
        "/api/v1/events/stream": reading(
            "events.stream", "events", "Watch events as they happen.", kind,
            closed=True, query=[*filters, query("since", "As Last-Event-ID."), resume],
        ),
        "/api/v1/streams/{domain}/{id}": reading(
            "streams.resume", "models", "Read a stream operation's chunks again.", kind,
            closed=True, query=[*place, resume],
        ),
        "/health/live": health("health.live", "Whether the process lives."),
        "/health/ready": health("health.ready", "Whether requests may come."),
        "/health": health("health.detailed", "The state of each part."),
        "/metrics": reading(
            "metrics", "events", "Prometheus metrics.", "text/plain", closed=True, query=[]
        ),
    }  # fmt: skip


def health(name: str, summary: str) -> Json:
    """A health answer."""
    return reading(name, "supervision", summary, "application/json", closed=False, query=[])
