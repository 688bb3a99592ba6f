"""Small workflows, and waiting for what becomes of their runs."""

import base64
from typing import Any

from schemas.workflows import definitions, runs
from schemas.workflows.definitions import CreateWorkflow
from schemas.workflows.document import Document
from schemas.workflows.runs import GetWorkflowRun, ListRunSteps, StartWorkflow
from tests.conftest import eventually

ENDS = ("succeeded", "failed", "undone", "cancelled")


def document(*steps: dict[str, Any], **fields: Any) -> Document:
    return Document.model_validate({"steps": list(steps)} | fields)


def tool(key: str, expression: str, **more: Any) -> dict[str, Any]:
    step = {"key": key, "type": "tool", "tool": "calculator.evaluate"}
    return step | {"input": {"expression": expression}} | more


def write(key: str, title: str, **more: Any) -> dict[str, Any]:
    """A step that leaves a document behind; taken back, it is deleted."""
    step = {"key": key, "type": "call", "operation": "documents.attach"}
    undo = {"operation": "documents.delete", "input": {"id": "$.output.id"}}
    content = base64.b64encode(title.encode()).decode()
    return step | {"input": {"name": f"{title}.md", "content": content}, "undo": undo} | more


async def made(ask, name, *steps, **fields):
    command = CreateWorkflow(name=name, document=document(*steps, **fields))
    return await ask(definitions.create, command)


async def started(ask, workflow, **inputs):
    return await ask(runs.start, StartWorkflow(id=workflow.id, inputs=inputs))


async def now(ask, run):
    return await ask(runs.run, GetWorkflowRun(id=run.id))


async def ended(ask, run, timeout_s=60):
    async def check():
        found = await now(ask, run)
        return found if found.status in ENDS else None

    return await eventually(check, timeout_s)


async def steps_of(ask, run):
    page = await ask(runs.steps, ListRunSteps(id=run.id, limit=200))
    return {step.path: step for step in page.items}


async def waits(ask, run, path):
    async def check():
        step = (await steps_of(ask, run)).get(path)
        return step if step and step.status == "waiting" else None

    return await eventually(check)


async def done(ask, name, *steps, inputs=None, **fields):
    """The end of a run of these steps."""
    workflow = await made(ask, name, *steps, **fields)
    return await ended(ask, await started(ask, workflow, **(inputs or {})))
