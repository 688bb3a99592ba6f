"""Tools and their calls.

Why: every call of a tool is kept.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE mcp_documents.tool_definitions (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    tool_version text NOT NULL,
    description text NOT NULL,
    category text NOT NULL,
    kind text NOT NULL,
    input_schema jsonb NOT NULL,
    output_schema jsonb NOT NULL,
    subject text,
    timeout_ms int NOT NULL,
    repeatable boolean NOT NULL,
    status text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT tool_definitions_name_tool_version_key UNIQUE (name, tool_version)
);
CREATE INDEX tool_definitions_category_idx ON mcp_documents.tool_definitions (category, status);
CREATE INDEX tool_definitions_created_by_idx ON mcp_documents.tool_definitions (created_by);

CREATE TABLE mcp_documents.tool_invocations (
    id uuid NOT NULL,
    version int NOT NULL,
    tool_id uuid NOT NULL REFERENCES mcp_documents.tool_definitions,
    tool_name text NOT NULL,
    tool_version text NOT NULL,
    caller_type text NOT NULL,
    caller_id text NOT NULL,
    agent_id uuid,
    task_id uuid,
    goal_id uuid,
    request_id text NOT NULL,
    params jsonb NOT NULL,
    params_hash text NOT NULL,
    status text NOT NULL,
    attempts int NOT NULL,
    result jsonb,
    error jsonb,
    requested_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    duration_ms int,
    PRIMARY KEY (id, requested_at)
) PARTITION BY RANGE (requested_at);
CREATE TABLE mcp_documents.tool_invocations_other
    PARTITION OF mcp_documents.tool_invocations DEFAULT;
SELECT ops.add_month(
    'mcp_documents.tool_invocations', 'requested_at', (now() AT TIME ZONE 'UTC')::date);
CREATE INDEX tool_invocations_tool_idx ON mcp_documents.tool_invocations (tool_id, requested_at);
CREATE INDEX tool_invocations_requested_at_idx
    ON mcp_documents.tool_invocations (requested_at DESC, id);
CREATE INDEX tool_invocations_task_idx ON mcp_documents.tool_invocations (task_id);
CREATE INDEX tool_invocations_goal_idx ON mcp_documents.tool_invocations (goal_id);
"""

DOWN = """
DROP TABLE mcp_documents.tool_invocations;
DROP TABLE mcp_documents.tool_definitions;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
