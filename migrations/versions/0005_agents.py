"""Agents, their runs and steps.

Why: agents do the work, and each step is a checkpoint.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA runtime;
CREATE TABLE mcp_documents.agents (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    agent_type text NOT NULL,
    capabilities text[] NOT NULL,
    config jsonb NOT NULL,
    limits jsonb NOT NULL,
    status text NOT NULL,
    status_reason text,
    running int NOT NULL CHECK (running >= 0),
    owner_id text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    terminated_at timestamptz
);
CREATE UNIQUE INDEX agents_owner_name_key ON mcp_documents.agents (owner_id, name)
    WHERE terminated_at IS NULL;
CREATE INDEX agents_capabilities_idx ON mcp_documents.agents USING gin (capabilities);
CREATE INDEX agents_status_idx ON mcp_documents.agents (status);
CREATE INDEX agents_created_at_idx ON mcp_documents.agents (created_at DESC, id);

CREATE TABLE runtime.runs (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    agent_id uuid NOT NULL REFERENCES mcp_documents.agents,
    task_id uuid,
    goal_id uuid,
    brief jsonb NOT NULL,
    status text NOT NULL,
    result jsonb,
    error jsonb,
    steps int NOT NULL,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    owner_id text NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX runs_agent_idx ON runtime.runs (agent_id, status);
CREATE INDEX runs_goal_idx ON runtime.runs (goal_id);
CREATE INDEX runs_created_at_idx ON runtime.runs (created_at DESC, id);

CREATE TABLE runtime.steps (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    run_id uuid NOT NULL REFERENCES runtime.runs,
    goal_id uuid,
    task_id uuid,
    ordinal int NOT NULL,
    kind text NOT NULL,
    name text NOT NULL,
    target text NOT NULL,
    status text NOT NULL,
    input jsonb NOT NULL,
    output jsonb,
    error jsonb,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    reference text,
    attempts int NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    CONSTRAINT steps_run_id_ordinal_key UNIQUE (run_id, ordinal)
);
"""

DOWN = """
DROP SCHEMA runtime CASCADE;
DROP TABLE mcp_documents.agents;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
