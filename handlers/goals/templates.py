"""Plans for kinds of goals that come again and again. Pure.

A template says which goals it fits and what tasks they become. Its tasks prescribe the tools, so
figures, quotes and findings are computed, not guessed; the model is asked only for prose. The
first template that fits is taken.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.agents import Brief, ModelStep, ToolStep
from schemas.contract import Json
from schemas.documents import Document
from schemas.goals import Goal, TaskDraft

TABLE_TYPES = ("csv", "json", "jsonl", "table")
ARTIFACT_TITLE_MAX = 120
SENTENCES = 8
CLAIMS_SHOWN = 60

COMPARING = re.compile(
    r"\b(compar\w*|disagree\w*|differ\w*|contradict\w*|conflict\w*|discrepanc\w*|inconsisten\w*)\b",
    re.IGNORECASE,
)
SUMMARISING = re.compile(
    r"\b(summar\w*|overview|key points|main points|abstract|gist)\b", re.IGNORECASE
)
ASKING = re.compile(
    r"\b(how many|how much|number of|count|total|sum|average|mean|median|minimum|maximum|most|least"
    r"|highest|lowest|largest|smallest|top|per|each|which|what)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Template:
    """A kind of goal and the tasks that reach it."""

    name: str
    fits: Callable[[str, Sequence[Document]], bool]
    tasks: Callable[[Goal, Sequence[Document]], tuple[TaskDraft, ...]]


def match(description: str, attached: Sequence[Document]) -> Template | None:
    """The first template that fits the goal and its documents."""
    return next((t for t in TEMPLATES if t.fits(description, attached)), None)


def is_table(document: Document) -> bool:
    """Whether the document holds rows."""
    return document.doc_type in TABLE_TYPES


def asks_tables(description: str, attached: Sequence[Document]) -> bool:
    """A question, and nothing but tables to answer it from."""
    return bool(attached) and all(map(is_table, attached)) and bool(ASKING.search(description))


def compares_texts(description: str, attached: Sequence[Document]) -> bool:
    """Two or more texts that are to be held against each other."""
    texts = [d for d in attached if not is_table(d)]
    return len(texts) == len(attached) >= 2 and bool(COMPARING.search(description))  # noqa: PLR2004


def summarises_texts(description: str, attached: Sequence[Document]) -> bool:
    """Texts that are to be made short."""
    return bool(attached) and bool(SUMMARISING.search(description))


def ref(path: str) -> Json:
    """A value that is known only when the step runs."""
    return {"$ref": path}


def prose(name: str, ask: str, length_max: int) -> ModelStep:
    """A question to the model whose answer is one field of text, `text`."""
    text = {"type": "string", "minLength": 1, "maxLength": length_max}
    return ModelStep(
        name=name,
        ask=ask,
        output_schema={
            "type": "object",
            "properties": {"text": text},
            "required": ["text"],
            "additionalProperties": False,
        },
        tokens_max=max(96, length_max // 2),
    )


def report(title: str, parts: Sequence[Json]) -> ToolStep:
    """The step that composes the artifact and notes where each part comes from."""
    arguments = {"title": title[:ARTIFACT_TITLE_MAX], "parts": list(parts)}
    return ToolStep(name="report", tool="artifact.report", arguments=arguments)


def result(answer: Json | list[Json], facts: Json | list[Json] | None = None) -> Json:
    """The result of the last task of a plan."""
    given: Json = {
        "answer": answer,
        "artifact_id": ref("steps.report.document_id"),
        "provenance": ref("steps.report.provenance"),
    }
    return given | ({"facts": facts} if facts is not None else {})


def table_tasks(goal: Goal, attached: Sequence[Document]) -> tuple[TaskDraft, ...]:
    """Look at each table and ask each, at the same time; then report the figures."""
    drafts: list[TaskDraft] = []
    for number, document in enumerate(attached, start=1):
        drafts += [describe_table(number, document), ask_table(number, document, goal)]
    asked = [draft.key for draft in drafts if draft.key.startswith("ask-")]
    described = [draft.key for draft in drafts if draft.key.startswith("describe-")]
    return (*drafts, report_figures(goal, asked, described))


def describe_table(number: int, document: Document) -> TaskDraft:
    """What columns and values there are."""
    step = ToolStep(name="columns", tool="table.describe", arguments={"document_id": document.id})
    return TaskDraft(
        key=f"describe-{number}",
        title=f"Look at the columns of {document.title}",
        brief=Brief(
            objective=f"Describe {document.title}", document_ids=(document.id,), steps=(step,)
        ),
        capabilities=("analyse",),
    )


def ask_table(number: int, document: Document, goal: Goal) -> TaskDraft:
    """The exact figures, computed by a query."""
    step = ToolStep(
        name="figures",
        tool="table.ask",
        arguments={"document_id": document.id, "question": goal.description[:2000]},
    )
    return TaskDraft(
        key=f"ask-{number}",
        title=f"Compute the figures from {document.title}",
        brief=Brief(objective=goal.description, document_ids=(document.id,), steps=(step,)),
        capabilities=("calculate",),
    )


def report_figures(goal: Goal, asked: Sequence[str], described: Sequence[str]) -> TaskDraft:
    """The figures as a table and in words, and how each phrase of the question was read."""
    parts: list[Json] = []
    for key in asked:
        parts += [
            {"heading": "Answer", "kind": "bullets", "value": ref(f"inputs.{key}.sentences")},
            {"heading": "Figures", "kind": "table", "value": ref(f"inputs.{key}")},
            {
                "heading": "How it was read",
                "kind": "bullets",
                "value": ref(f"inputs.{key}.explanation"),
            },
        ]
    return TaskDraft(
        key="report",
        title="Report the figures",
        brief=Brief(
            objective=goal.description,
            steps=(report(goal.title, parts),),
            result=result(
                [ref(f"inputs.{key}.sentences") for key in asked],
                [ref(f"inputs.{key}") for key in asked],
            ),
        ),
        depends_on=(*asked, *described),
        capabilities=("write",),
    )


def read_task(number: int, document: Document) -> TaskDraft:
    """Outline and claims of one document, and what it is about in a sentence."""
    given = {"document_id": document.id}
    return TaskDraft(
        key=f"read-{number}",
        title=f"Read {document.title}",
        brief=Brief(
            objective=f"Read {document.title} and list what it claims.",
            document_ids=(document.id,),
            steps=(
                ToolStep(name="outline", tool="documents.outline", arguments=given),
                ToolStep(
                    name="claims",
                    tool="documents.claims",
                    arguments=given | {"limit": CLAIMS_SHOWN},
                ),
                prose(
                    "about",
                    "In one sentence, what is this document about?\n{{ steps.outline }}",
                    240,
                ),
            ),
            result={
                "document_id": document.id,
                "title": document.title,
                "about": ref("steps.about.text"),
                "claims": ref("steps.claims.total"),
            },
        ),
        capabilities=("read",),
    )


def key_sentences_task(attached: Sequence[Document], goal: Goal) -> TaskDraft:
    """The sentences that carry the most, quoted exactly."""
    arguments = {"document_ids": [d.id for d in attached], "sentences": SENTENCES}
    step = ToolStep(name="sentences", tool="documents.summarize", arguments=arguments)
    return TaskDraft(
        key="key-sentences",
        title="Pick the most telling sentences",
        brief=Brief(objective=goal.description, steps=(step,)),
        capabilities=("extract",),
    )


def compare_tasks(goal: Goal, attached: Sequence[Document]) -> tuple[TaskDraft, ...]:
    """Read each text and pick its best sentences, compare, then write the report."""
    reads = [read_task(number, document) for number, document in enumerate(attached, start=1)]
    read_keys = tuple(draft.key for draft in reads)
    compare = TaskDraft(
        key="compare",
        title="Find the claims that disagree",
        brief=Brief(
            objective=goal.description,
            steps=(
                ToolStep(
                    name="comparison",
                    tool="documents.compare",
                    arguments={"document_ids": [d.id for d in attached]},
                ),
            ),
        ),
        depends_on=read_keys,
        capabilities=("compare",),
    )
    return (*reads, key_sentences_task(attached, goal), compare, write_comparison(goal, read_keys))


def write_comparison(goal: Goal, read_keys: Sequence[str]) -> TaskDraft:
    """One page: an overview in words, the disagreements with quotes, the key sentences."""
    about = "\n".join(f"{{{{ inputs.{key}.about }}}}" for key in read_keys)
    ask = (
        f"{goal.description[:800]}\nThe documents:\n{about}\n"
        "Where they disagree:\n{{ inputs.compare.disagreements }}\n"
        "Write a short overview in plain sentences."
    )
    parts: list[Json] = [
        {"heading": "Overview", "kind": "text", "value": ref("steps.overview.text")},
        {
            "heading": "Claims on which the documents disagree",
            "kind": "disagreements",
            "value": ref("inputs.compare.disagreements"),
        },
        {"heading": "Key sentences", "kind": "quotes", "value": ref("inputs.key-sentences.items")},
    ]
    return TaskDraft(
        key="write",
        title="Write the summary",
        brief=Brief(
            objective=goal.description,
            steps=(prose("overview", ask, 700), report(goal.title, parts)),
            result=result(ref("steps.report.markdown"), ref("inputs.compare.disagreements")),
        ),
        depends_on=("compare", "key-sentences", *read_keys),
        capabilities=("write",),
    )


def summary_tasks(goal: Goal, attached: Sequence[Document]) -> tuple[TaskDraft, ...]:
    """Read each text and pick its best sentences at the same time, then write the summary."""
    reads = [read_task(number, document) for number, document in enumerate(attached, start=1)]
    read_keys = tuple(draft.key for draft in reads)
    ask = (
        f"{goal.description[:800]}\nThe most telling sentences:\n{{{{ inputs.key-sentences }}}}\n"
        "Write a short summary in plain sentences."
    )
    parts: list[Json] = [
        {"heading": "Summary", "kind": "text", "value": ref("steps.summary.text")},
        {"heading": "Key sentences", "kind": "quotes", "value": ref("inputs.key-sentences.items")},
    ]
    write = TaskDraft(
        key="write",
        title="Write the summary",
        brief=Brief(
            objective=goal.description,
            steps=(prose("summary", ask, 700), report(goal.title, parts)),
            result=result(ref("steps.report.markdown"), ref("inputs.key-sentences.items")),
        ),
        depends_on=("key-sentences", *read_keys),
        capabilities=("write",),
    )
    return (*reads, key_sentences_task(attached, goal), write)


TEMPLATES = (
    Template("table-question", asks_tables, table_tasks),
    Template("compare-documents", compares_texts, compare_tasks),
    Template("summarise-documents", summarises_texts, summary_tasks),
)
