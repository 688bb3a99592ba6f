"""Tools that write. Both write under the call's own key, so a repeated call writes once."""

from typing import Any, Literal

from pydantic import Field

from bus.context import Context
from handlers.tools.builtin.declaration import Call, builtin
from handlers.tools.builtin.report import QUOTES_KEPT_MAX, Report, compose, documents_in
from schemas import documents
from schemas.contract import Json, Schema, Text, Title
from schemas.documents import GetDocument, Tag, WriteArtifact
from schemas.problems import Malformed, NotFound

PARTS_MAX = 40
CITED_MAX = 50


class Write(Schema):
    """Store a text as a document, with notes on where it came from."""

    title: Title
    body: Text = Field(min_length=1)
    provenance: tuple[Json, ...] = Field((), max_length=1000)
    tags: tuple[Tag, ...] = Field((), max_length=20)


class Written(Schema):
    """The document that was written."""

    document_id: str
    title: str
    words: int


class Part(Schema):
    """One part of a report. `source` may name what made it: task_id, run_id, model, tool."""

    heading: str = Field("", max_length=300)
    kind: Literal["text", "bullets", "table", "disagreements", "quotes", "figures"]
    value: Any = None
    source: Json = Field(default_factory=dict)


class WriteReport(Schema):
    """Compose a Markdown report from parts, with citations, and store it as a document."""

    title: Title
    parts: tuple[Part, ...] = Field(min_length=1, max_length=PARTS_MAX)


class Reported(Schema):
    """The report and where each part of it came from."""

    document_id: str
    title: str
    markdown: str
    words: int
    provenance: tuple[Json, ...]


@builtin("artifact.write", Write, Written)
async def write(wanted: Write, call: Call) -> Written:
    """Store the text as it is."""
    notes = wanted.provenance or (made_by(call),)
    command = WriteArtifact(
        title=wanted.title, body=wanted.body, provenance=notes, tags=wanted.tags
    )
    document = await call.ctx.call(documents.write, command, key=call.key)
    return Written(document_id=document.id, title=document.title, words=len(wanted.body.split()))


@builtin("artifact.report", WriteReport, Reported)
async def report(wanted: WriteReport, call: Call) -> Reported:
    """Compose, then store with the provenance of every part."""
    cited = [d for part in wanted.parts for d in documents_in(part.value)]
    composer = Report(await titles_of(list(dict.fromkeys(cited)), call.ctx))
    composed = [(part, composer.part(part.kind, part.value)) for part in wanted.parts]
    markdown = compose(wanted.title, [(part.heading, each.lines) for part, each in composed])
    provenance = tuple(
        made_by(call) | {"part": number, "heading": part.heading, "kind": part.kind}
        | part.source | {"sources": each.quotes[:QUOTES_KEPT_MAX]}
        for number, (part, each) in enumerate(composed)
    )  # fmt: skip
    command = WriteArtifact(title=wanted.title, body=markdown, provenance=provenance)
    document = await call.ctx.call(documents.write, command, key=call.key)
    return Reported(
        document_id=document.id,
        title=document.title,
        markdown=markdown,
        words=len(markdown.split()),
        provenance=provenance,
    )


def made_by(call: Call) -> Json:
    """Which call, task and agent wrote it."""
    invocation = call.invocation
    return {
        "invocation_id": invocation.id,
        "tool": invocation.tool_name,
        "task_id": invocation.task_id,
        "goal_id": invocation.goal_id,
        "agent_id": invocation.agent_id,
    }


async def titles_of(document_ids: list[str], ctx: Context) -> dict[str, str]:
    """Titles by id; a document that is not there is cited by its id."""
    titles: dict[str, str] = {}
    for document_id in document_ids[:CITED_MAX]:
        try:
            document = await ctx.call(documents.get, GetDocument.model_construct(id=document_id))
        except (NotFound, Malformed):
            continue
        titles[document_id] = document.title
    return titles
