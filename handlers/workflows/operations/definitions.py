"""What workflows answer: their documents by name and version."""

from bus.context import Context
from bus.database import Transaction
from handlers.workflows import checking, service, store
from schemas.contract import Page
from schemas.problems import NotFound, VersionConflict
from schemas.workflows import definitions
from schemas.workflows.definitions import (
    BadDocument,
    ChangeWorkflow,
    CheckWorkflow,
    CreateWorkflow,
    DeleteWorkflow,
    Findings,
    GetWorkflow,
    ListWorkflows,
    Workflow,
    WorkflowChanged,
    WorkflowCreated,
    WorkflowDeleted,
)
from schemas.workflows.document import Document

FINDINGS_SHOWN = 20


def require_good(document: Document) -> None:
    """Refuse a document that cannot be carried out.

    Raises:
        BadDocument: Says what is wrong where.
    """
    found = checking.findings(document)
    if found:
        shown = [finding.model_dump() for finding in found[:FINDINGS_SHOWN]]
        raise BadDocument(findings=shown, more=max(0, len(found) - FINDINGS_SHOWN))


async def load(workflow_id: str, ctx: Context) -> Workflow:
    """The workflow, if the caller may know of it."""
    workflow = Workflow.model_validate(await ctx.row(store.GET, workflow_id))
    ctx.require_owner(workflow.owner_id, workflow.id)
    return workflow


async def lock(tx: Transaction, workflow_id: str, ctx: Context) -> Workflow:
    """The workflow, held until the transaction ends.

    Raises:
        NotFound: It is not there, or not the caller's.
    """
    row = await tx.row(store.LOCK, workflow_id)
    if row is None:
        raise NotFound(id=workflow_id)
    workflow = Workflow.model_validate(dict(row))
    ctx.require_owner(workflow.owner_id, workflow.id)
    if workflow.status == "deleted":
        raise NotFound(id=workflow_id)
    return workflow


@service.handles(definitions.create)
async def create(command: CreateWorkflow, ctx: Context) -> Workflow:
    """Check the document, then keep it as the first version."""
    require_good(command.document)
    at = ctx.now()
    workflow = Workflow(
        id=ctx.new_id(), version=1, name=command.name, owner_id=ctx.principal.id, status="active",
        document=written(command.document), created_at=at, updated_at=at,
    )  # fmt: skip
    async with ctx.transaction() as tx:
        await tx.record(WorkflowCreated(workflow=workflow))
        await tx.execute(store.KEEP_DOCUMENT, workflow.id, 1, workflow.document)
    return workflow


def written(document: Document) -> dict[str, object]:
    """The document as it is kept: what was not said is not there."""
    return document.model_dump(mode="json", exclude_defaults=True)


@service.handles(definitions.change)
async def change(command: ChangeWorkflow, ctx: Context) -> Workflow:
    """Keep the document as the next version."""
    require_good(command.document)
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        if before.version != command.version:
            raise VersionConflict(version=before.version)
        changes = {
            "version": before.version + 1, "document": written(command.document),
            "updated_at": ctx.now(),
        }  # fmt: skip
        workflow = before.model_copy(update=changes)
        await tx.record(WorkflowChanged(workflow=workflow))
        await tx.execute(store.KEEP_DOCUMENT, workflow.id, workflow.version, workflow.document)
    return workflow


@service.handles(definitions.check)
async def check(command: CheckWorkflow, _: Context) -> Findings:
    """Everything that is wrong with a document."""
    found = checking.findings(command.document)
    return Findings(ok=not found, items=tuple(found))


@service.handles(definitions.get)
async def get(command: GetWorkflow, ctx: Context) -> Workflow:
    """One row."""
    return await load(command.id, ctx)


@service.handles(definitions.listing)
async def listing(command: ListWorkflows, ctx: Context) -> Page[Workflow]:
    """A page of rows."""
    return await ctx.page(command, Workflow, store.LIST, *ctx.visible, command.name)


@service.handles(definitions.delete)
async def delete(command: DeleteWorkflow, ctx: Context) -> Workflow:
    """No more runs; those that there are keep their documents."""
    async with ctx.transaction() as tx:
        before = await lock(tx, command.id, ctx)
        changes = {"version": before.version + 1, "status": "deleted", "updated_at": ctx.now()}
        workflow = before.model_copy(update=changes)
        await tx.record(WorkflowDeleted(workflow=workflow))
    return workflow
