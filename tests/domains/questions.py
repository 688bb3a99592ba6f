"""Questions to models, and what tests look at afterwards."""

import orjson

from bus import live
from schemas.models import (
    GenerateText,
    Message,
    ToolOffer,
)
from tests.conftest import look

FRUIT = {
    "type": "object",
    "properties": {
        "fruit": {"type": "string", "maxLength": 20},
        "price": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["fruit", "price"],
    "additionalProperties": False,
}
LOOK_UP = ToolOffer(
    name="shop.look_up",
    description="Look up a price",
    parameters={
        "type": "object",
        "properties": {"fruit": {"type": "string", "minLength": 1, "maxLength": 20}},
        "required": ["fruit"],
        "additionalProperties": False,
    },
)


def asked(content="Say hello", **fields):
    fields = {"tokens_max": 12, "seed": 1} | fields
    return GenerateText(messages=(Message(role="user", content=content),), **fields)


async def lane(client, stream_id):
    """The texts that went to the lane."""
    lines = []
    async for chunks in live.read(client.connection, f"live.models.{stream_id}"):
        if chunks.end:
            return lines
        lines += [orjson.loads(line)["text"] for line in chunks.lines]
    return None


async def usage_rows(platform):
    return await look(platform, "SELECT * FROM models.llm_usage")
