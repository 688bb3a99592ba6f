"""Tools: what an agent can call, each with a version and JSON Schemas; every call is kept."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from schemas.contract import (
    Entity,
    Event,
    Id,
    Json,
    Listing,
    Operation,
    Page,
    Problem,
    Reaction,
    Schema,
    Token,
)  # fmt: skip
from schemas.problems import BadSchema, NotFound, OutsideSchema, TimedOut, Unavailable
from schemas.registry import ServiceAppeared, ServiceChanged, ServiceLost, ToolSubject

ToolName = Annotated[
    str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,30}(\.[a-z0-9_-]{1,31})?$")
]
ToolVersion = Annotated[str, StringConstraints(pattern=r"^\d{1,4}\.\d{1,4}\.\d{1,4}$")]
InvocationStatus = Literal[
    "requested", "executing", "succeeded", "failed", "timed_out", "rejected", "needs_attention"
]


class Tool(Entity, table="mcp_documents.tool_definitions"):
    """A tool in one version."""

    name: str
    tool_version: str
    description: str
    category: str
    kind: Literal["builtin", "remote"]
    input_schema: Json
    output_schema: Json
    subject: str | None
    timeout_ms: int
    repeatable: bool
    status: Literal["active", "deprecated", "unavailable"]
    created_by: str
    created_at: datetime
    updated_at: datetime


class ToolInvocation(
    Entity, table="mcp_documents.tool_invocations", identity=("id", "requested_at")
):
    """One call of a tool."""

    tool_id: Id
    tool_name: str
    tool_version: str
    caller_type: str
    caller_id: str
    agent_id: Id | None
    task_id: Id | None
    goal_id: Id | None
    request_id: str
    params: Json
    params_hash: str
    status: InvocationStatus
    attempts: int
    result: Any
    error: Json | None
    requested_at: datetime
    started_at: datetime
    finished_at: datetime | None
    duration_ms: int | None


class RegisterTool(Schema):
    """Register a remote tool: a program that answers requests on `subject`."""

    name: ToolName
    tool_version: ToolVersion = "1.0.0"
    description: str = Field(min_length=1, max_length=1_000)
    category: Token = "remote"
    subject: ToolSubject
    input_schema: Json
    output_schema: Json = Field(default_factory=lambda: {"type": "object"})
    timeout_ms: int = Field(10_000, ge=100, le=120_000)
    repeatable: bool = Field(False, description="Calling it twice does no harm.")


class GetTool(Schema):
    """Show a tool, in its newest version unless one is named."""

    name: ToolName
    tool_version: ToolVersion | None = None


class ListTools(Listing):
    """List tools, by name."""

    category: Token | None = None
    status: Literal["active", "deprecated", "unavailable"] | None = None


class SearchTools(Schema):
    """Find tools by what they do."""

    q: str = Field(min_length=1, max_length=500)
    limit: int = Field(10, ge=1, le=50)


class ToolHit(Schema):
    """A tool that fits, best first."""

    tool: Tool
    score: float


class ToolHits(Schema):
    """What was found."""

    items: tuple[ToolHit, ...]


class DeprecateTool(Schema):
    """Take a tool out of use; what was recorded of it stays."""

    name: ToolName
    tool_version: ToolVersion | None = None


class InvokeTool(Schema):
    """Call a tool; arguments and result are checked against its JSON Schemas."""

    name: ToolName
    tool_version: ToolVersion | None = None
    arguments: Json = Field(default_factory=dict)
    agent_id: Id | None = None
    task_id: Id | None = None
    goal_id: Id | None = None
    timeout_ms: int | None = Field(None, ge=100, le=120_000)


class GetInvocation(Schema):
    """Show one call of a tool."""

    id: Id


class ListInvocations(Listing):
    """List calls of tools, newest first."""

    tool_name: ToolName | None = None
    status: InvocationStatus | None = None
    goal_id: Id | None = None
    task_id: Id | None = None


class ToolVersionTaken(
    Problem, code="ERR_140", status=409, constraint="tool_definitions_name_tool_version_key"
):
    """This version of the tool exists already; register a new version."""


class ToolUnknown(Problem, code="ERR_141", status=404):
    """There is no active tool of this name and version."""


class ToolFailed(Problem, code="ERR_510", status=502):
    """The tool answered with an error."""


class ToolTimedOut(Problem, code="ERR_511", status=504):
    """The tool did not answer in its time."""


class ToolBrokeItsSchema(Problem, code="ERR_512", status=502):
    """The tool's answer does not fit its own output schema, or is too large."""


class ToolStopped(Problem, code="ERR_514", status=409):
    """Whoever called the tool was stopped, and the call with him; what it has done stays."""


class NeedsAttention(Problem, code="ERR_513", status=409):
    """A call was cut off with its outcome unknown, and calling again might do it twice."""


class ToolRegistered(Event, name="tools.registered"):
    """A tool, or a new version of one, can be used."""

    tool: Tool


class ToolChanged(Event, name="tools.changed"):
    """A tool was deprecated, or went away, or came back."""

    tool: Tool


class InvocationRequested(Event, name="tools.invocation_requested"):
    """A tool is about to be called."""

    invocation: ToolInvocation


class InvocationSucceeded(Event, name="tools.invocation_succeeded"):
    """A tool answered."""

    invocation: ToolInvocation


class InvocationFailed(Event, name="tools.invocation_failed", category="error"):
    """A tool failed, was too slow, or was refused."""

    invocation: ToolInvocation


register = Operation(
    "tools.register", RegisterTool, Tool, rest="POST /tools -> 201", may="tools:create",
    problems=(ToolVersionTaken, BadSchema), emits=(ToolRegistered,), idempotent=True,
)  # fmt: skip
listing = Operation("tools.list", ListTools, Page[Tool], rest="GET /tools", may="tools:read")
search = Operation(
    "tools.search",
    SearchTools,
    ToolHits,
    rest="GET /tools/search",
    may="tools:read",
    runs="directly",
)
get = Operation(
    "tools.get", GetTool, Tool, rest="GET /tools/{name}", may="tools:read",
    problems=(ToolUnknown,), runs="directly",
)  # fmt: skip
deprecate = Operation(
    "tools.deprecate", DeprecateTool, Tool, rest="DELETE /tools/{name}", may="tools:delete",
    problems=(ToolUnknown,), emits=(ToolChanged,), idempotent=True,
)  # fmt: skip
invoke = Operation(
    "tools.invoke", InvokeTool, ToolInvocation, rest="POST /tools/{name}/invoke",
    may="tools:execute", idempotent=True, commits_itself=True, timeout_s=130, workers=16,
    problems=(ToolUnknown, OutsideSchema, ToolFailed, ToolTimedOut, ToolBrokeItsSchema,
              ToolStopped, NeedsAttention, TimedOut, Unavailable),
    emits=(InvocationRequested, InvocationSucceeded, InvocationFailed), runs="directly",
)  # fmt: skip
invocations = Operation(
    "tools.invocations", ListInvocations, Page[ToolInvocation], rest="GET /tool-invocations",
    may="tools:read",
)  # fmt: skip
invocation = Operation(
    "tools.invocation", GetInvocation, ToolInvocation, rest="GET /tool-invocations/{id}",
    may="tools:read", problems=(NotFound,),
)  # fmt: skip

on_service_appeared = Reaction("tools-learn-service", ServiceAppeared)
on_service_changed = Reaction("tools-relearn-service", ServiceChanged)
on_service_lost = Reaction("tools-forget-service", ServiceLost)
