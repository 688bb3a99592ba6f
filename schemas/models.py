"""Models: one door to inference; what was used is counted with every call."""

from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from schemas.contract import Id, Json, ModelName, Operation, Page, Problem, Schema, Text
from schemas.problems import NotFound, OutsideSchema, Unavailable, Upstream

MESSAGES_MAX = 100


class Message(Schema):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text
    tool_name: str | None = None


class ToolOffer(Schema):
    """A tool that the model may call."""

    name: str
    description: str
    parameters: Json


class ToolCall(Schema):
    """A tool that the model wants to be called."""

    name: str
    arguments: Json


class GenerateText(Schema):
    """Continue a conversation; the tokens come as a stream, the whole text at the end."""

    messages: tuple[Message, ...] = Field(min_length=1, max_length=MESSAGES_MAX)
    model: ModelName | None = Field(None, description="The configured chat model if absent.")
    output_schema: Json | None = Field(None, description="JSON Schema that the text must fit.")
    tools: tuple[ToolOffer, ...] = Field((), max_length=32)
    temperature: float = Field(0.2, ge=0, le=2)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)
    tokens_max: int = Field(256, ge=1, le=8192)
    purpose: str = Field("general", max_length=64)


class TokenChunk(Schema):
    """A few tokens."""

    text: str


class Generation(Schema):
    """What the model said."""

    id: Id
    model: str
    text: str
    value: Any = Field(None, description="The text as JSON, when an output schema was given.")
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Literal["stop", "length", "tool_calls"]
    prompt_tokens: int
    completion_tokens: int
    duration_ms: int


class EmbedTexts(Schema):
    """Turn texts into vectors of 768 numbers (shorter vectors are padded with zeros)."""

    texts: tuple[Text, ...] = Field(min_length=1, max_length=64)
    model: ModelName | None = None


class Vectors(Schema):
    """One vector for each text, in order."""

    model: str
    dimensions: int
    vectors: tuple[tuple[float, ...], ...]


class ListModels(Schema):
    """List the models that the provider has, with what each is used for."""


class Model(Schema):
    """A model that can be used now."""

    name: str
    digest: str
    purposes: tuple[str, ...]
    context: int | None
    parameters: str | None
    size_bytes: int


class GetModel(Schema):
    """Show one model."""

    name: ModelName


class ReportUsage(Schema):
    """Sum tokens and calls by model and purpose."""

    goal_id: Id | None = None
    hours: int = Field(24, ge=1, le=24 * 400)


class UsageLine(Schema):
    """What one model was used for."""

    model: str
    purpose: str
    calls: int
    repeated: int = Field(description="Calls billed again under a key that was billed before.")
    prompt_tokens: int
    completion_tokens: int
    duration_ms: int


class Usage(Schema):
    """Tokens and calls."""

    since: datetime
    lines: tuple[UsageLine, ...]


class ModelUnknown(Problem, code="ERR_130", status=404):
    """The provider has no model of this name."""


class ContextExceeded(Problem, code="ERR_131", status=400):
    """The conversation is longer than the model can read."""


class OutputOutsideSchema(Problem, code="ERR_132", status=502, retryable=True):
    """The model's text does not fit the output schema, again and again."""


generate = Operation(
    "models.generate", GenerateText, Generation, rest="POST /models/generate",
    may="models:execute", kind="stream", chunk=TokenChunk, idempotent=True, timeout_s=180,
    workers=4, problems=(
        ModelUnknown, ContextExceeded, OutsideSchema, OutputOutsideSchema, Upstream, Unavailable,
    ), runs="directly",
)  # fmt: skip
embed = Operation(
    "models.embed", EmbedTexts, Vectors, rest="POST /models/embed", may="models:execute",
    problems=(ModelUnknown, Upstream, Unavailable), timeout_s=60, workers=4,
)  # fmt: skip
listing = Operation(
    "models.list", ListModels, Page[Model], rest="GET /models", may="models:read",
    problems=(Upstream, Unavailable),
)  # fmt: skip
get = Operation(
    "models.get", GetModel, Model, rest="GET /models/{name}", may="models:read",
    problems=(NotFound, Upstream, Unavailable),
)  # fmt: skip
usage = Operation("models.usage", ReportUsage, Usage, rest="GET /usage", may="usage:read")
