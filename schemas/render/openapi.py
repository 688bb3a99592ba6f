"""OpenAPI of the REST interface, read off the catalogue; in 3.1, and as a 3.0 rendering of it."""

from collections.abc import Iterable
from typing import Any

from schemas import catalogue
from schemas.contract import KNOWN, Entity, Json, Operation, Problem
from schemas.problems import (
    ANY_OPERATION,
    EDGE_ONLY,
    IDEMPOTENCY,
    MethodNotAllowed,
    PreconditionFailed,
    TooLarge,
)
from schemas.render import extra, models
from schemas.render.downgrade import downgraded

VERSION = "0.1.0"
ERROR_REF = {"$ref": "#/components/schemas/Error"}
STATUS_TEXT = {200: "Done.", 201: "Created.", 202: "Accepted: a job was queued."}
ABOUT = """\
Everything the platform can do over HTTP. Each operation is also a request on the bus, at the
subject in `x-subject`. Events are at `/api/v1/ws` (WebSocket) and `/api/v1/events/stream` (SSE);
their forms are in `asyncapi.json`.
"""


def render() -> Json:
    """OpenAPI 3.1."""
    paths: Json = {}
    for operation in catalogue.operations():
        if operation.route is not None:
            path = paths.setdefault("/api/v1" + operation.route.path, {})
            path[operation.route.method.lower()] = describe(operation)
    for place, methods in extra.paths().items():
        paths.setdefault(place, {}).update(methods)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Story Portal", "version": VERSION, "description": ABOUT,
                 "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "servers": [{"url": "/", "description": "This edge."}],
        "security": [{"bearer": []}, {"apiKey": []}],
        "tags": [{"name": domain} for domain in catalogue.DOMAINS],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted({**models.definitions(), "Error": models.ERROR}.items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            },
            "headers": extra.HEADERS,
            "parameters": extra.PARAMETERS,
        },
    }  # fmt: skip


def render_3_0() -> Json:
    """OpenAPI 3.0.3: the same, in the older vocabulary."""
    document: Json = downgraded(render())
    document["openapi"] = "3.0.3"
    document["info"]["license"].pop("identifier", None)
    return document


def describe(operation: Operation[Any, Any]) -> Json:
    """One operation."""
    described: Json = {
        "operationId": operation.name,
        "tags": [operation.domain],
        "summary": operation.summary,
        "description": about(operation),
        "parameters": [*parameters(operation), *headers(operation)],
        "responses": responses(operation),
        "x-subject": operation.subject,
        "x-permission": operation.may,
    }
    body = request_body(operation)
    return described | ({"requestBody": body} if body else {})


def about(operation: Operation[Any, Any]) -> str:
    """What the summary does not say."""
    needs = {None: "Needs no credential.", KNOWN: "Needs a valid credential."}
    words = [needs.get(operation.may, f"Needs `{operation.may}`.")]
    words.append(f"On the bus: `{operation.subject}`. Ends within {operation.timeout_s:g} s.")
    if operation.emits:
        words.append("Records " + ", ".join(f"`{e.name}`" for e in operation.emits) + ".")
    return " ".join(words)


def path_names(operation: Operation[Any, Any]) -> tuple[str, ...]:
    """The fields that stand in the path."""
    return operation.route.parameters if operation.route else ()


def takes_body(operation: Operation[Any, Any]) -> bool:
    """Whether fields come as a JSON body; otherwise they come in the query."""
    return operation.route is not None and operation.route.method in ("POST", "PUT")


def parameters(operation: Operation[Any, Any]) -> list[Json]:
    """Path and query parameters."""
    schema = models.definition(operation.request, "validation")
    required, found = schema.get("required", []), []
    for name, field in schema.get("properties", {}).items():
        in_path = name in path_names(operation)
        if not in_path and takes_body(operation):
            continue
        parameter: Json = {
            "name": name, "in": "path" if in_path else "query",
            "required": in_path or name in required, "schema": field,
        }  # fmt: skip
        if "description" in field:
            parameter["description"] = field["description"]
        found.append(parameter)
    return found


def headers(operation: Operation[Any, Any]) -> list[Json]:
    """Request headers that mean something to this operation."""
    names = ["RequestId", "TimeoutMs"]
    if operation.idempotent:
        names.append("IdempotencyKey")
    if answers_version(operation) and operation.reads:
        names.append("IfNoneMatch")
    if "version" in operation.request.model_fields:
        names.append("IfMatch")
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def answers_version(operation: Operation[Any, Any]) -> bool:
    """Whether the reply is an entity with a version."""
    return issubclass(operation.reply, Entity)


def request_body(operation: Operation[Any, Any]) -> Json | None:
    """The body without the fields that stand in the path or that only the edge sets."""
    if not takes_body(operation):
        return None
    schema = models.definition(operation.request, "validation")
    hidden = {*path_names(operation), *filter(None, [operation.upload])}
    shown: Json = models.reference(operation.request, "validation")
    if hidden:
        shown = {**schema, "properties": {
            name: field for name, field in schema["properties"].items() if name not in hidden
        }}  # fmt: skip
        left = [name for name in schema.get("required", []) if name not in hidden]
        shown = {k: v for k, v in shown.items() if k != "required"}
        shown |= {"required": left} if left else {}
    needed = bool(set(schema.get("required", [])) - hidden)
    content: Json = {"application/json": {"schema": shown}}
    if operation.upload is not None:
        content["application/octet-stream"] = extra.RAW_BODY
    return {"required": needed, "content": content,
            "description": f"At most {operation.body_bytes_max} bytes."}  # fmt: skip


def responses(operation: Operation[Any, Any]) -> Json:
    """The answer, and every problem by status."""
    assert operation.route is not None
    status = operation.route.status
    described: Json = {str(status): success(operation)}
    if answers_version(operation) and operation.reads:
        described["304"] = {"description": "If-None-Match names the current version."}
    for code, problems in by_status(problems_of(operation)).items():
        described[str(code)] = refusal(problems)
    return described


def success(operation: Operation[Any, Any]) -> Json:
    """The answer when all goes well."""
    assert operation.route is not None
    names = ["X-Request-Id", "RateLimit", "RateLimit-Policy"]
    names += ["ETag"] if answers_version(operation) else []
    names += ["Location"] if operation.kind == "task" else []
    names += ["Idempotency-Replayed"] if operation.idempotent else []
    content: Json = {
        "application/json": {"schema": models.reference(operation.reply, "serialization")}
    }
    if operation.kind == "stream":
        content["text/event-stream"] = extra.EVENTS_BODY
    if operation.name == "documents.content":
        content["application/octet-stream"] = {"schema": {"type": "string", "format": "binary"}}
    return {
        "description": STATUS_TEXT.get(operation.route.status, "Done."),
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": content,
    }


def problems_of(operation: Operation[Any, Any]) -> list[type[Problem]]:
    """Every problem that the operation may answer over HTTP."""
    from_edge = [p for p in EDGE_ONLY if p is not MethodNotAllowed and applies(p, operation)]
    found = [*operation.problems, *ANY_OPERATION, *from_edge]
    found += IDEMPOTENCY if operation.idempotent else ()
    return sorted(dict.fromkeys(found), key=lambda problem: problem.code)


def applies(problem: type[Problem], operation: Operation[Any, Any]) -> bool:
    """Whether a problem of the HTTP door concerns this operation."""
    if problem is PreconditionFailed:
        return "version" in operation.request.model_fields
    return problem is TooLarge or takes_body(operation)


def by_status(problems: Iterable[type[Problem]]) -> dict[int, list[type[Problem]]]:
    """Problems grouped, because a response is described once for each status."""
    grouped: dict[int, list[type[Problem]]] = {}
    for problem in problems:
        grouped.setdefault(problem.status, []).append(problem)
    return dict(sorted(grouped.items()))


def refusal(problems: list[type[Problem]]) -> Json:
    """One status with its codes."""
    lines = [f"`{p.code}` {' '.join((p.__doc__ or '').split())}" for p in problems]
    content = {kind: {"schema": ERROR_REF} for kind in ("application/json",)}
    content["application/problem+json"] = {"schema": {"type": "object"}}
    described: Json = {
        "description": "\n\n".join(lines),
        "content": content,
        "x-problems": [problem.code for problem in problems],
    }
    if problems[0].status in (429, 503):
        described["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return described
