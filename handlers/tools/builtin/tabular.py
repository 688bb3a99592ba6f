"""Tools over attached CSV and JSON tables. The bytes are read and asked in a confined child."""

from typing import Any

from pydantic import Field, JsonValue

from bus import confined
from bus.context import Context
from handlers.tools import rules
from handlers.tools.builtin.declaration import Call, builtin
from schemas import documents
from schemas.contract import Id, Json, Schema
from schemas.documents import UPLOAD_BYTES_MAX, GetContent
from schemas.problems import Overloaded
from schemas.tools import ToolFailed, ToolTimedOut

WALL_S = 20.0
CPU_S = 15
MEMORY_MB = 1024
OUTPUT_BYTES_MAX = rules.RESULT_BYTES_MAX - 8 * 1024
TIMEOUT_MS = 30_000
ROWS_MAX = 200


class Describe(Schema):
    """Show the columns of an attached table: types, counts, the most frequent values."""

    document_id: Id


class Described(Schema):
    """A table's columns."""

    file: str
    rows: int
    columns: tuple[Json, ...]


class Query(Schema):
    """Run one SQL SELECT over an attached table, which is named `data`."""

    document_id: Id
    sql: str = Field(min_length=1, max_length=20_000)
    limit: int = Field(ROWS_MAX, ge=1, le=1_000)


class Rows(Schema):
    """What was selected; money and other decimals are texts with their exact digits."""

    sql: str
    columns: tuple[Json, ...]
    rows: tuple[tuple[Any, ...], ...]
    truncated: bool


class AskTable(Schema):
    """Answer a question about an attached CSV or JSON table with exact figures.

    For how many, total, sum, average, most and least, in each group and under conditions.
    """

    document_id: Id
    question: str = Field(min_length=1, max_length=1_000)


class TableAnswer(Schema):
    """The exact answer with its SQL and how each phrase was read, or why there is none."""

    answered: bool
    file: str = ""
    table_rows: int = 0
    question: str = ""
    sql: str = ""
    columns: tuple[Any, ...] = ()
    rows: tuple[tuple[Any, ...], ...] = ()
    truncated: bool = False
    markdown: str = ""
    sentences: tuple[str, ...] = ()
    explanation: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()
    confidence: float = 0
    reason: str = ""


@builtin("table.describe", Describe, Described, timeout_ms=TIMEOUT_MS)
async def describe(wanted: Describe, call: Call) -> Described:
    """Columns, types, values."""
    answer = await over_table("tables:describe", wanted.document_id, {}, call.ctx)
    return Described.model_validate(answer)


@builtin("table.query", Query, Rows, timeout_ms=TIMEOUT_MS)
async def query(wanted: Query, call: Call) -> Rows:
    """SQL as it stands."""
    argument = {"sql": wanted.sql, "table": "data", "limit": wanted.limit}
    return Rows.model_validate(
        await over_table("tables:query", wanted.document_id, argument, call.ctx)
    )


@builtin("table.ask", AskTable, TableAnswer, timeout_ms=TIMEOUT_MS)
async def ask(wanted: AskTable, call: Call) -> TableAnswer:
    """A question in words."""
    argument = {"question": wanted.question}
    answer = await over_table("questions:ask", wanted.document_id, argument, call.ctx)
    if not answer["answered"]:
        why = f"The table does not answer this: {answer['reason']}."
        answer |= {"question": wanted.question, "sentences": (why,)}
    return TableAnswer.model_validate(answer)


async def over_table(function: str, document_id: str, argument: Json, ctx: Context) -> Json:
    """What a confined function says of a document's bytes.

    Raises:
        ToolFailed: The document is no table, or the question cannot be answered.
        ToolTimedOut: It took too long.
        Overloaded: Too many tables are being read now.
    """
    name, content = await bytes_of(document_id, ctx)
    value: dict[str, JsonValue] = dict(argument)
    try:
        answer = await confined.run(
            f"handlers.tools.{function}", value, attachments={name: content}, wall_s=WALL_S,
            cpu_s=CPU_S, memory_mb=MEMORY_MB, output_bytes_max=OUTPUT_BYTES_MAX,
        )  # fmt: skip
    except confined.Busy:
        raise Overloaded("Too many tables are being read now.") from None
    except confined.TimedOut:
        raise ToolTimedOut("The table could not be read in time.") from None
    except confined.Failed as failed:
        raise ToolFailed(failed.message, kind=failed.kind) from None
    except confined.Confined as failed:
        raise ToolFailed(f"The table is too large: {failed}") from None
    if not isinstance(answer, dict):
        raise ToolFailed("The table gave no answer.")
    return dict(answer)


async def bytes_of(document_id: str, ctx: Context) -> tuple[str, bytes]:
    """A document's name and bytes, read piece by piece."""
    pieces: list[bytes] = []
    offset = 0
    while True:
        content = await ctx.call(documents.content, GetContent(id=document_id, offset=offset))
        pieces.append(content.content)
        offset += len(content.content)
        if not content.content or offset >= min(content.size_bytes, UPLOAD_BYTES_MAX):
            return content.name, b"".join(pieces)
