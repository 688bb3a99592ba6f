"""AsyncAPI 3.0 of the bus: requests with their replies, events, jobs, and live streams.

Seen from the platform: it receives requests and jobs, and sends replies, events and tokens.
"""

from typing import Any

from schemas import catalogue
from schemas.contract import Event, Job, Json, Operation
from schemas.render import models

VERSION = "0.1.0"
ABOUT = """\
The bus is an interface too. A request goes to `req.<domain>.<verb>` with the headers `x-principal`
(signed), `x-deadline` (Unix milliseconds) and `x-request-id`; its reply comes to the inbox that it
names, with `Nats-Service-Error-Code` set when it is a problem. Events are CloudEvents in NATS
binary mode.
"""
REQUEST_HEADERS: Json = {
    "type": "object",
    "required": ["x-principal"],
    "properties": {
        "x-principal": {"type": "string", "description": "The signed principal."},
        "x-deadline": {"type": "string", "description": "Unix milliseconds."},
        "x-request-id": {"type": "string"},
        "x-correlation-id": {"type": "string"},
        "x-idempotency-key": {"type": "string"},
        "x-stream-id": {"type": "string", "description": "Where tokens go."},
        "traceparent": {"type": "string"},
    },
}
REPLY_HEADERS: Json = {
    "type": "object",
    "properties": {
        "x-version": {"type": "string", "description": "The entity's version."},
        "x-replayed": {"type": "string", "description": "`1`: the answer of an earlier request."},
        "Nats-Service-Error": {"type": "string"},
        "Nats-Service-Error-Code": {"type": "string"},
    },
}
EVENT_HEADERS: Json = {
    "type": "object",
    "required": ["ce-id", "ce-type", "ce-source", "ce-time", "ce-subject"],
    "properties": {
        name: {"type": "string"}
        for name in ("ce-specversion", "ce-id", "ce-type", "ce-source", "ce-time", "ce-subject",
                     "ce-category", "ce-version", "ce-actor", "ce-causation", "ce-hash",
                     "x-correlation-id", "Nats-Msg-Id")
    },
}  # fmt: skip


def render() -> Json:
    """The document."""
    channels: Json = {"reply": {"address": None, "messages": {"problem": message_ref("problem")}}}
    operations: Json = {}
    messages: Json = {"problem": message("problem", {"$ref": "#/components/schemas/Error"},
                                         "Any refusal.", REPLY_HEADERS)}  # fmt: skip
    for operation in catalogue.operations():
        add_request(operation, channels, operations, messages)
    for event in catalogue.events():
        add_event(event, channels, operations, messages)
    for job in catalogue.jobs():
        add_job(job, channels, operations, messages)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Story Portal bus", "version": VERSION, "description": ABOUT,
                 "license": {"name": "Apache-2.0"}},
        "defaultContentType": "application/json",
        "servers": {"nats": {"host": "127.0.0.1:4222", "protocol": "nats"}},
        "channels": dict(sorted(channels.items())),
        "operations": dict(sorted(operations.items())),
        "components": {
            "schemas": dict(sorted({**models.definitions(), "Error": models.ERROR}.items())),
            "messages": dict(sorted(messages.items())),
        },
    }  # fmt: skip


def message_ref(name: str) -> Json:
    """A message of the components."""
    return {"$ref": f"#/components/messages/{name}"}


def message(name: str, payload: Json, summary: str, headers: Json | None = None) -> Json:
    """One message."""
    described: Json = {"name": name, "summary": summary, "payload": payload}
    return described | ({"headers": headers} if headers else {})


def add_request(
    operation: Operation[Any, Any], channels: Json, operations: Json, messages: Json
) -> None:
    """A request, its reply, and the stream in between if there is one."""
    key, subject = operation.name, operation.subject
    request, reply = f"{key}.request", f"{key}.reply"
    asked = models.reference(operation.request, "validation")
    answered = models.reference(operation.reply, "serialization")
    messages[request] = message(request, asked, operation.summary, REQUEST_HEADERS)
    messages[reply] = message(reply, answered, operation.reply.described(), REPLY_HEADERS)
    channels[subject] = {"address": subject, "messages": {request: message_ref(request)}}
    channels["reply"]["messages"][reply] = message_ref(reply)
    operations[key] = {
        "action": "receive",
        "channel": {"$ref": f"#/channels/{subject}"},
        "summary": operation.summary,
        "messages": [{"$ref": f"#/channels/{subject}/messages/{request}"}],
        "reply": {
            "address": {"location": "$message.header#/reply-to", "description": "The inbox."},
            "channel": {"$ref": "#/channels/reply"},
            "messages": [
                {"$ref": f"#/channels/reply/messages/{name}"} for name in (reply, "problem")
            ],
        },
        "x-permission": operation.may,
        "x-timeout-s": operation.timeout_s,
        "x-problems": [problem.code for problem in operation.problems],
    }
    if operation.chunk is not None:
        add_live(operation, channels, operations, messages)


def add_live(
    operation: Operation[Any, Any], channels: Json, operations: Json, messages: Json
) -> None:
    """The lane of a stream operation: lines of chunks, the last message is the reply."""
    assert operation.chunk is not None
    name = f"{operation.name}.chunk"
    payload = models.reference(operation.chunk, "serialization")
    messages[name] = message(name, payload, "JSON lines; `x-end` marks the reply.")
    send(f"live.{operation.domain}.{{id}}", name, f"{operation.name}.stream", channels, operations)


def add_event(event: type[Event], channels: Json, operations: Json, messages: Json) -> None:
    """An event."""
    name = f"{event.name}.event"
    payload = models.reference(event, "serialization")
    messages[name] = message(name, payload, event.described(), EVENT_HEADERS)
    send(f"{event.subject_root()}.{{id}}", name, name, channels, operations)
    send(f"replay.{{id}}.{event.name}", name, f"{event.name}.replayed", channels, operations)


def add_job(job: type[Job], channels: Json, operations: Json, messages: Json) -> None:
    """A job: sent and received by the platform itself."""
    name = f"{job.name}.job"
    messages[name] = message(name, models.reference(job, "validation"), job.described())
    send(job.subject(), name, name, channels, operations)


def send(address: str, name: str, key: str, channels: Json, operations: Json) -> None:
    """Something that the platform sends, on a channel of its own."""
    channel: Json = {"address": address, "messages": {name: message_ref(name)}}
    if "{id}" in address:
        channel["parameters"] = {"id": {"description": "Of the entity or stream."}}
    place = address.replace(".{id}", "")
    channels[place] = channel
    operations[key] = {
        "action": "send",
        "channel": {"$ref": f"#/channels/{place}"},
        "messages": [{"$ref": f"#/channels/{place}/messages/{name}"}],
    }
