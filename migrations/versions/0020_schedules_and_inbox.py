"""Schedules of workflows, and the inbox.

Why: runs begin by the clock, each time once, and people see what became of each time and what waits
for them.
Safe while the old code runs: yes, it only adds; the index on runs is made while writers wait.
"""

from migrations.statements import run

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE flow.schedules (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    owner_id text NOT NULL,
    workflow_id uuid NOT NULL,
    status text NOT NULL,
    cron text,
    zone text NOT NULL,
    every_s int,
    inputs jsonb NOT NULL,
    catch_up text NOT NULL,
    catch_up_max int NOT NULL,
    overlap text NOT NULL,
    counted_from timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    mandate jsonb
);
CREATE UNIQUE INDEX schedules_owner_id_name_key ON flow.schedules (owner_id, name)
    WHERE status <> 'deleted';
CREATE INDEX schedules_workflow_id_idx ON flow.schedules (workflow_id);
CREATE INDEX schedules_created_at_idx ON flow.schedules (created_at DESC, id);

CREATE TABLE flow.firings (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    schedule_id uuid NOT NULL,
    owner_id text NOT NULL,
    workflow_id uuid NOT NULL,
    inputs jsonb NOT NULL,
    due_at timestamptz NOT NULL,
    status text NOT NULL,
    passed_from timestamptz,
    run_id uuid,
    error jsonb,
    decided_at timestamptz NOT NULL
);
CREATE INDEX firings_schedule_id_idx ON flow.firings (schedule_id, due_at DESC, id);
CREATE INDEX firings_waiting_idx ON flow.firings (schedule_id) WHERE status IN ('due', 'queued');
CREATE INDEX firings_run_id_idx ON flow.firings (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX runs_open_idx ON flow.runs (id) WHERE finished_at IS NULL;

CREATE TABLE flow.clocks (
    schedule_id uuid PRIMARY KEY,
    next_at timestamptz
);
CREATE INDEX clocks_next_at_idx ON flow.clocks (next_at) WHERE next_at IS NOT NULL;

CREATE SCHEMA human;

CREATE TABLE human.tasks (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    owner_id text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    title text NOT NULL,
    question jsonb,
    answer_schema jsonb NOT NULL,
    content jsonb,
    sha256 text,
    run_id uuid,
    path text,
    assignee_id text,
    for_role text,
    claimed_by text,
    answer jsonb,
    answered_by text,
    answered_at timestamptz,
    due_at timestamptz,
    expires_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX tasks_created_at_idx ON human.tasks (created_at DESC, id);
CREATE INDEX tasks_open_idx ON human.tasks (created_at DESC, id) WHERE status = 'open';
CREATE INDEX tasks_expires_at_idx ON human.tasks (expires_at) WHERE status = 'open';
"""

DOWN = """
DROP SCHEMA human CASCADE;
DROP TABLE flow.clocks;
DROP INDEX flow.runs_open_idx;
DROP TABLE flow.firings;
DROP TABLE flow.schedules;
"""


def upgrade() -> None:
    """Apply."""
    run(UP)


def downgrade() -> None:
    """Take back."""
    run(DOWN)
