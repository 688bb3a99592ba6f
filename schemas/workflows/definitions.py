"""Workflows by name, and the versions of their documents."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from schemas.contract import (
    Entity,
    Event,
    Id,
    Json,
    Listing,
    Name,
    Operation,
    Page,
    Problem,
    Schema,
)
from schemas.problems import NotFound, VersionConflict
from schemas.workflows.document import Document


class Workflow(Entity, table="flow.workflows"):
    """A name and the document that new runs take; runs keep the one that they began with."""

    name: str
    owner_id: str
    status: Literal["active", "deleted"]
    document: Json
    created_at: datetime
    updated_at: datetime


class CreateWorkflow(Schema):
    """Create a workflow; its name is unique among its owner's."""

    name: Name
    document: Document


class ChangeWorkflow(Schema):
    """Give a workflow another document; runs that have begun keep theirs."""

    id: Id
    version: int = Field(ge=1)
    document: Document


class CheckWorkflow(Schema):
    """Say what is wrong with a document, without storing it."""

    document: Document


class Finding(Schema):
    """One thing that is wrong, and where."""

    step: str | None
    message: str


class Findings(Schema):
    """What is wrong; nothing when `ok`."""

    ok: bool
    items: tuple[Finding, ...]


class GetWorkflow(Schema):
    """Show one workflow."""

    id: Id


class ListWorkflows(Listing):
    """List workflows, newest first."""

    name: Name | None = None


class DeleteWorkflow(Schema):
    """Take a workflow away; its runs go on."""

    id: Id


class WorkflowNameTaken(
    Problem, code="ERR_190", status=409, constraint="workflows_owner_id_name_key"
):
    """The owner already has a workflow of this name."""


class BadDocument(Problem, code="ERR_191", status=400):
    """The document cannot be carried out; the details say what is wrong where."""


class WorkflowCreated(Event, name="workflows.created"):
    """There is a new workflow."""

    workflow: Workflow


class WorkflowChanged(Event, name="workflows.changed"):
    """It has another document."""

    workflow: Workflow


class WorkflowDeleted(Event, name="workflows.deleted"):
    """It takes no more runs."""

    workflow: Workflow


create = Operation(
    "workflows.create", CreateWorkflow, Workflow, rest="POST /workflows -> 201",
    may="workflows:create", problems=(WorkflowNameTaken, BadDocument), emits=(WorkflowCreated,),
    idempotent=True,
)  # fmt: skip
change = Operation(
    "workflows.change", ChangeWorkflow, Workflow, rest="PUT /workflows/{id}",
    may="workflows:update", problems=(NotFound, VersionConflict, BadDocument),
    emits=(WorkflowChanged,), idempotent=True,
)  # fmt: skip
check = Operation(
    "workflows.check", CheckWorkflow, Findings, rest="POST /workflows/check", may="workflows:read"
)
get = Operation(
    "workflows.get", GetWorkflow, Workflow, rest="GET /workflows/{id}", may="workflows:read",
    problems=(NotFound,),
)  # fmt: skip
listing = Operation(
    "workflows.list", ListWorkflows, Page[Workflow], rest="GET /workflows", may="workflows:read"
)
delete = Operation(
    "workflows.delete", DeleteWorkflow, Workflow, rest="DELETE /workflows/{id}",
    may="workflows:delete", problems=(NotFound,), emits=(WorkflowDeleted,), idempotent=True,
)  # fmt: skip
