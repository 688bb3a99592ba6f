"""Workflows and their runs.

Why: work in several steps goes on after any crash, and each step is done once.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA flow;

CREATE TABLE flow.workflows (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    owner_id text NOT NULL,
    status text NOT NULL,
    document jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX workflows_owner_id_name_key ON flow.workflows (owner_id, name)
    WHERE status = 'active';
CREATE INDEX workflows_created_at_idx ON flow.workflows (created_at DESC, id);

CREATE TABLE flow.documents (
    workflow_id uuid NOT NULL,
    version int NOT NULL,
    document jsonb NOT NULL,
    PRIMARY KEY (workflow_id, version)
);
CREATE TRIGGER documents_refuse_change BEFORE UPDATE OR DELETE ON flow.documents
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_change();

CREATE TABLE flow.runs (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    workflow_id uuid NOT NULL,
    workflow_name text NOT NULL,
    workflow_version int NOT NULL,
    owner_id text NOT NULL,
    status text NOT NULL,
    inputs jsonb NOT NULL,
    result jsonb,
    error jsonb,
    parent_id uuid,
    parent_path text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    deadline timestamptz,
    mandate jsonb
);
CREATE INDEX runs_owner_id_idx ON flow.runs (owner_id);
CREATE INDEX runs_workflow_id_idx ON flow.runs (workflow_id);
CREATE INDEX runs_started_at_idx ON flow.runs (started_at DESC, id);

CREATE TABLE flow.steps (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    run_id uuid NOT NULL,
    path text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    attempt int NOT NULL,
    output jsonb,
    error jsonb,
    awaits text,
    due_at timestamptz,
    started_at timestamptz NOT NULL,
    finished_at timestamptz
);
CREATE INDEX steps_run_id_idx ON flow.steps (run_id, started_at, id);
CREATE INDEX steps_awaits_idx ON flow.steps (awaits) WHERE status = 'waiting';

CREATE TABLE flow.signals (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id uuid NOT NULL,
    name text NOT NULL,
    data jsonb,
    sent_at timestamptz NOT NULL
);
CREATE INDEX signals_run_id_idx ON flow.signals (run_id, name, position);

CREATE TABLE flow.drivers (
    run_id uuid PRIMARY KEY,
    holder uuid,
    lease_until timestamptz,
    wakes bigint NOT NULL,
    due_at timestamptz
);
CREATE INDEX drivers_due_at_idx ON flow.drivers (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX drivers_lease_until_idx ON flow.drivers (lease_until) WHERE lease_until IS NOT NULL;
"""

DOWN = """
DROP SCHEMA flow CASCADE;
"""


def upgrade() -> None:
    """Apply."""
    run(UP)


def downgrade() -> None:
    """Take back."""
    run(DOWN)
