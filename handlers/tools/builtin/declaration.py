"""How a built-in tool is declared: an input model, an output model and a function.

The JSON Schemas that agents and people see are those of the models, without pydantic's titles, so
that they are short in a prompt. The input model's docstring says what the tool does. Built-in tools
either only read or write under the call's own id, so each may be repeated.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, TypeVar

from bus.context import Context
from handlers.tools import rules
from schemas.contract import Json, Schema
from schemas.tools import Tool, ToolInvocation

I = TypeVar("I", bound=Schema)  # noqa: E741 - input
O = TypeVar("O", bound=Schema)  # noqa: E741 - output
TIMEOUT_MS = 15_000


@dataclass(frozen=True)
class Call:
    """What a built-in tool is given besides its input."""

    ctx: Context
    invocation: ToolInvocation

    @property
    def key(self) -> str:
        """The idempotency key of what this call writes elsewhere."""
        return f"tool-{self.invocation.id}"


@dataclass(frozen=True)
class Builtin:
    """A declared tool."""

    name: str
    input: type[Schema]
    output: type[Schema]
    run: Callable[[Any, Call], Awaitable[Schema]]
    timeout_ms: int
    tool_version: str

    @cached_property
    def input_schema(self) -> Json:
        """The schema of the arguments."""
        return without_titles(self.input.model_json_schema())

    @cached_property
    def output_schema(self) -> Json:
        """The schema of the result."""
        return without_titles(self.output.model_json_schema(mode="serialization"))

    def definition(self, at: datetime) -> Tool:
        """The tool as it is recorded."""
        return Tool(
            id=rules.tool_id(self.name, self.tool_version),
            version=1,
            name=self.name,
            tool_version=self.tool_version,
            description=" ".join((self.input.__doc__ or "").split()),
            category=self.name.split(".")[0],
            kind="builtin",
            input_schema=self.input_schema,
            output_schema=self.output_schema,
            subject=None,
            timeout_ms=self.timeout_ms,
            repeatable=True,
            status="active",
            created_by="platform",
            created_at=at,
            updated_at=at,
        )


def builtin(
    name: str,
    input: type[I],
    output: type[O],
    *,
    timeout_ms: int = TIMEOUT_MS,
    tool_version: str = "1.0.0",
) -> Callable[[Callable[[I, Call], Awaitable[O]]], Builtin]:
    """This function is the tool."""

    def declare(function: Callable[[I, Call], Awaitable[O]]) -> Builtin:
        return Builtin(name, input, output, function, timeout_ms, tool_version)

    return declare


def without_titles(schema: Json) -> Json:
    """The schema without the titles that only repeat names."""
    return {
        key: inner(value)
        for key, value in schema.items()
        if not (key == "title" and isinstance(value, str))
    }


def inner(value: Any) -> Any:
    """A value inside of a schema, without titles."""
    if isinstance(value, list):
        return [inner(item) for item in value]
    return without_titles(value) if isinstance(value, dict) else value
