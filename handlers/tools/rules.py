"""Decisions about tools and their calls. Pure: what is, the command and the time go in.

A definition is pinned: name and version stand for one schema for ever. A call has the moves

    executing -> succeeded | failed | timed_out | needs_attention
    executing, failed, timed_out -> executing      (again, under the same key)
"""

import hashlib
import json
import re
import uuid
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from schemas import json_schemas
from schemas.contract import Json, Problem
from schemas.principal import Principal
from schemas.problems import BadSchema, Internal, Unavailable
from schemas.registry import Service, ServiceEndpoint
from schemas.tools import (
    InvocationStatus,
    InvokeTool,
    RegisterTool,
    Tool,
    ToolInvocation,
    ToolTimedOut,
)

RESULT_BYTES_MAX = 256 * 1024
ARGUMENTS_BYTES_MAX = 256 * 1024
CUT_OFF_GRACE_S = 5.0
ATTEMPTS_MAX = 3
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "story-portal:tools")
NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}(\.[a-z0-9_-]{1,31})?")
VERSION = re.compile(r"\d{1,4}\.\d{1,4}\.\d{1,4}")
SUBJECT = re.compile(r"tool(\.[A-Za-z0-9_-]{1,64}){1,6}")
TIMEOUTS_MS = (100, 120_000)
DEFINITION = ("description", "category", "input_schema", "output_schema", "subject", "timeout_ms",
              "repeatable")  # fmt: skip

MOVES: dict[InvocationStatus, frozenset[InvocationStatus]] = {
    status: frozenset() for status in get_args(InvocationStatus)
}
MOVES["executing"] = frozenset({"executing", "succeeded", "failed", "timed_out", "needs_attention"})
MOVES["failed"] = MOVES["timed_out"] = frozenset({"executing"})

Next = Literal["answer", "fail", "wait", "again", "give_up"]


def tool_id(name: str, tool_version: str) -> str:
    """The id of a tool that is not registered by a request: the same in every process."""
    return str(uuid.uuid5(NAMESPACE, f"{name}@{tool_version}"))


def registered(command: RegisterTool, *, id: str, owner: str, at: datetime) -> Tool:
    """The remote tool of a request."""
    return Tool(
        id=id, version=1, kind="remote", status="active", created_by=owner, created_at=at,
        updated_at=at, **dict(command),
    )  # fmt: skip


def changed(
    tool: Tool, status: Literal["active", "deprecated", "unavailable"], at: datetime
) -> Tool:
    """The tool in another state."""
    return tool.model_copy(update={"version": tool.version + 1, "status": status, "updated_at": at})


def same_definition(one: Tool, other: Tool) -> bool:
    """Whether both are the same but for their state and origin."""
    return all(getattr(one, name) == getattr(other, name) for name in DEFINITION)


def offered(service: Service, at: datetime) -> list[Tool]:
    """The tools among a service's endpoints; what is not of a tool's form is left out."""
    tools = [offered_by(endpoint, service, at) for endpoint in service.endpoints]
    by_name = {tool.name: tool for tool in tools if tool is not None}
    return list(by_name.values())


def offered_by(endpoint: ServiceEndpoint, service: Service, at: datetime) -> Tool | None:
    """The tool that an endpoint is, if it is one."""
    about = endpoint.metadata
    name = str(about.get("tool") or endpoint.name)
    input_schema, output_schema = read_schema(about.get("input_schema")), {"type": "object"}
    if "output_schema" in about:
        output_schema = read_schema(about["output_schema"]) or {}
    fits = (
        SUBJECT.fullmatch(endpoint.subject)
        and NAME.fullmatch(name)
        and VERSION.fullmatch(service.service_version)
        and input_schema is not None
        and output_schema
    )
    if not fits or input_schema is None:
        return None
    return Tool(
        id=tool_id(name, service.service_version),
        version=1,
        name=name,
        tool_version=service.service_version,
        description=str(about.get("description") or endpoint.summary or name)[:1000],
        category=re.sub(r"[^A-Za-z0-9_-]", "-", str(about.get("category") or "remote"))[:64],
        kind="remote",
        input_schema=input_schema,
        output_schema=output_schema,
        subject=endpoint.subject,
        timeout_ms=bounded_ms(about.get("timeout_ms")),
        repeatable=str(about.get("repeatable", "")).lower() in ("true", "1", "yes"),
        status="active",
        created_by=learned_from(service.name),
        created_at=at,
        updated_at=at,
    )


def learned_from(service_name: str) -> str:
    """Who created a tool that was learned from a service."""
    return f"service:{service_name}"


def read_schema(text: Any) -> Json | None:
    """The JSON Schema in a text, if it is one that may be used."""
    try:
        schema = json.loads(text)
        if not isinstance(schema, dict):
            return None
        json_schemas.check(schema)
    except (ValueError, TypeError, RecursionError, BadSchema):
        return None
    return schema


def bounded_ms(text: Any) -> int:
    """A timeout out of metadata; 10 s when it says none."""
    try:
        wanted = int(text)
    except (ValueError, TypeError):
        wanted = 10_000
    return min(max(wanted, TIMEOUTS_MS[0]), TIMEOUTS_MS[1])


def learn(offer: Tool, stored: Tool | None, at: datetime) -> tuple[Tool | None, bool]:
    """What to record about an offered tool, and whether its definition contradicts the pinned one.

    A deprecated tool stays deprecated; a contradiction keeps what is stored as it is.
    """
    if stored is None:
        return offer, False
    if stored.created_by != offer.created_by or not same_definition(stored, offer):
        return None, True
    if stored.status == "unavailable":
        return changed(stored, "active", at), False
    return None, False


def invocation_id(principal: Principal, key: str) -> str:
    """The id of the call that this principal makes under this key."""
    return str(uuid.uuid5(NAMESPACE, f"{principal.id}\x00{key}"))


def hash_of(command: InvokeTool) -> str:
    """What makes two calls under one key the same call."""
    body = command.model_dump(mode="json", include={"name", "tool_version", "arguments"})
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def new_invocation(
    tool: Tool, command: InvokeTool, *, id: str, caller: Principal, request_id: str, at: datetime
) -> ToolInvocation:
    """A call that begins now."""
    return ToolInvocation(
        id=id,
        version=1,
        tool_id=tool.id,
        tool_name=tool.name,
        tool_version=tool.tool_version,
        caller_type=caller.kind,
        caller_id=caller.id,
        agent_id=command.agent_id,
        task_id=command.task_id,
        goal_id=command.goal_id,
        request_id=request_id,
        params=command.arguments,
        params_hash=hash_of(command),
        status="executing",
        attempts=1,
        result=None,
        error=None,
        requested_at=at,
        started_at=at,
        finished_at=None,
        duration_ms=None,
    )


def what_next(invocation: ToolInvocation, tool: Tool, now: datetime) -> Next:
    """What a second request under the same key means.

    A failure that may pass is tried again if the tool bears it or was never reached; a call that
    was cut off is tried again if the tool bears it, and otherwise given up to people. What was not
    heard in time may have been done, so only a tool that bears it is called again.
    """
    if invocation.status == "succeeded":
        return "answer"
    if invocation.status == "executing":
        if now < invocation.started_at + longest(tool):
            return "wait"
        return "again" if tool.repeatable else "give_up"
    if invocation.status == "timed_out" and tool.repeatable:
        return "again"
    error = invocation.error or {}
    unreached = error.get("code") == Unavailable.code
    if invocation.status == "failed" and error.get("retryable") and (tool.repeatable or unreached):
        return "again"
    return "fail"


def worth_another(invocation: ToolInvocation, tool: Tool) -> bool:
    """Whether a call that was not heard is tried once more for the same caller."""
    return tool.repeatable and invocation.attempts < ATTEMPTS_MAX


def longest(tool: Tool) -> timedelta:
    """After this time a call without an outcome was cut off."""
    return timedelta(seconds=tool.timeout_ms / 1000 + CUT_OFF_GRACE_S)


def again(invocation: ToolInvocation, at: datetime) -> ToolInvocation:
    """The same call, tried once more."""
    return moved(
        invocation, "executing", attempts=invocation.attempts + 1, started_at=at, error=None,
        finished_at=None, duration_ms=None,
    )  # fmt: skip


def succeeded(invocation: ToolInvocation, result: Any, at: datetime) -> ToolInvocation:
    """The call with its result."""
    return ended(invocation, "succeeded", at, result=result)


def failed(invocation: ToolInvocation, problem: Problem, at: datetime) -> ToolInvocation:
    """The call with why it has no result."""
    status: InvocationStatus = "timed_out" if isinstance(problem, ToolTimedOut) else "failed"
    return ended(invocation, status, at, error=error_of(problem))


def given_up(invocation: ToolInvocation, problem: Problem, at: datetime) -> ToolInvocation:
    """The call whose outcome nobody knows."""
    return ended(invocation, "needs_attention", at, error=error_of(problem))


def ended(
    invocation: ToolInvocation, status: InvocationStatus, at: datetime, **fields: Any
) -> ToolInvocation:
    """The call in a final state."""
    took = at - invocation.started_at
    duration_ms = max(int(took.total_seconds() * 1000), 0)
    return moved(invocation, status, finished_at=at, duration_ms=duration_ms, **fields)


def moved(invocation: ToolInvocation, to: InvocationStatus, **fields: Any) -> ToolInvocation:
    """The next version of the call.

    Raises:
        AssertionError: The table of moves does not allow it: a fault of ours.
    """
    if to not in MOVES[invocation.status]:
        raise AssertionError(f"{invocation.status} -> {to}")
    return invocation.model_copy(update=fields | {"status": to, "version": invocation.version + 1})


def error_of(problem: Problem) -> Json:
    """A problem as it is kept with a call."""
    return {
        "code": problem.code,
        "message": problem.message[:1000],
        "details": dict(problem.details),
        "retryable": problem.retryable,
    }


def problem_of(invocation: ToolInvocation) -> Problem:
    """The problem that a call ended with."""
    error = invocation.error or {}
    kind = Problem.by_code.get(str(error.get("code")), Internal)
    details = {str(k): v for k, v in (error.get("details") or {}).items() if k != "message"}
    return kind(error.get("message"), **details)
