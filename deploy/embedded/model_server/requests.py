"""What clients may send: bodies of Ollama's protocol, checked before anything runs.

Fields that this server cannot honour (images, thinking, fill-in-the-middle, own templates) are
refused by name; load-time options that have no meaning here (`num_gpu`, `num_thread`) are
ignored, as Ollama ignores options it does not know.
"""

import asyncio
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request

from deploy.embedded.model_server.embedder import DIMENSIONS
from deploy.embedded.model_server.engine import SLOT_TOKENS
from deploy.embedded.model_server.errors import ApiError

BODY_BYTES_MAX = 4 * 1024 * 1024
BODY_S_MAX = 30.0
MESSAGES_MAX = 1024
TOOLS_MAX = 64
STOPS_MAX = 16
EMBED_TEXTS_MAX = 1024


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = BeforeValidator(_listed)
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Options(_Body):
    """Sampling options; the defaults are Ollama's."""

    num_predict: int | None = Field(default=None, ge=-2)
    num_ctx: int = Field(default=SLOT_TOKENS, ge=1)
    seed: int | None = None
    temperature: float = Field(default=0.8, ge=0, le=10)
    top_k: int = Field(default=40, ge=0)
    top_p: float = Field(default=0.9, ge=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repeat_last_n: int = Field(default=64, ge=-1, le=SLOT_TOKENS)
    repeat_penalty: float = Field(default=1.1, gt=0, le=10)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    stop: Annotated[list[str], Texts] = Field(default=[], max_length=STOPS_MAX)


class Named(_Body):
    """A body that names a model, under the new or the old key."""

    model: str = ""
    name: str = ""
    stream: bool | None = None

    def model_name(self) -> str:
        """The name as given; raises ApiError 400 without one."""
        if not (self.model or self.name):
            raise ApiError(400, "model is required")
        return self.model or self.name


class Generating(Named):
    """What `/api/chat` and `/api/generate` have in common."""

    options: Options | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    think: bool | str | None = None
    logprobs: bool | None = None


class Function(_Body):
    """A function that the model may call."""

    name: str = Field(min_length=1, max_length=128)
    description: str | None = None
    parameters: dict[str, Any] | None = None


class Tool(_Body):
    """A tool as offered."""

    function: Function


class Called(_Body):
    """A function as called earlier in a conversation."""

    name: str
    arguments: dict[str, Any] = {}


class ToolCall(_Body):
    """A call as it stands in an assistant's message."""

    function: Called


class Message(_Body):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text = ""
    tool_name: str | None = None
    tool_calls: list[ToolCall] | None = None
    images: list[Any] | None = None


class ChatBody(Generating):
    """`POST /api/chat`."""

    messages: list[Message] | None = Field(default=None, max_length=MESSAGES_MAX)
    tools: list[Tool] | None = Field(default=None, max_length=TOOLS_MAX)


class GenerateBody(Generating):
    """`POST /api/generate`."""

    prompt: Text = ""
    system: Text = ""
    raw: bool | None = None
    suffix: str | None = None
    template: str | None = None
    context: list[int] | None = None
    images: list[Any] | None = None


class EmbedBody(Named):
    """`POST /api/embed`."""

    input: Annotated[list[str], Texts] = Field(default=[], max_length=EMBED_TEXTS_MAX)
    truncate: bool | None = None
    dimensions: int | None = Field(default=None, ge=0, le=DIMENSIONS)


class EmbeddingsBody(Named):
    """`POST /api/embeddings`, the older form for one text."""

    prompt: Text = ""


B = TypeVar("B", bound=_Body)


async def parse(request: Request, kind: type[B]) -> B:
    """Read and check a body; raises ApiError 400, 408 or 413."""
    try:
        async with asyncio.timeout(BODY_S_MAX):
            raw = await _read(request)
        return kind.model_validate(orjson.loads(raw))
    except TimeoutError as error:
        raise ApiError(408, f"the body did not arrive within {BODY_S_MAX:.0f} s") from error
    except ClientDisconnect as error:
        raise ApiError(400, "the body was not sent to its end") from error
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
    except ValidationError as error:
        raise ApiError(400, f"invalid request: {_complaint(error)}") from error


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            raise ApiError(413, f"the body is over the limit of {BODY_BYTES_MAX} bytes")
    return bytes(body)


def _complaint(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    return f"{place}: {first['msg']}" if place else first["msg"]
