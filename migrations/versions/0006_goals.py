"""Goals, plans and tasks.

Why: a goal is planned as a graph of tasks.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE mcp_documents.goals (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    title text NOT NULL,
    description text NOT NULL,
    owner_id text NOT NULL,
    priority int NOT NULL,
    constraints jsonb NOT NULL,
    document_ids uuid[] NOT NULL,
    status text NOT NULL,
    progress double precision NOT NULL,
    current_plan_id uuid,
    result jsonb,
    error jsonb,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    completed_at timestamptz
);
CREATE INDEX goals_status_idx ON mcp_documents.goals (status, priority);
CREATE INDEX goals_owner_idx ON mcp_documents.goals (owner_id);
CREATE INDEX goals_created_at_idx ON mcp_documents.goals (created_at DESC, id);

CREATE TABLE mcp_documents.plans (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    goal_id uuid NOT NULL REFERENCES mcp_documents.goals,
    plan_no int NOT NULL,
    strategy text NOT NULL,
    status text NOT NULL,
    levels jsonb NOT NULL,
    findings jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT plans_goal_id_plan_no_key UNIQUE (goal_id, plan_no)
);

CREATE TABLE mcp_documents.tasks (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    plan_id uuid NOT NULL REFERENCES mcp_documents.plans,
    goal_id uuid NOT NULL REFERENCES mcp_documents.goals,
    key text NOT NULL,
    title text NOT NULL,
    kind text NOT NULL,
    brief jsonb NOT NULL,
    depends_on text[] NOT NULL,
    capabilities text[] NOT NULL,
    agent_id uuid,
    run_id uuid,
    status text NOT NULL,
    attempt int NOT NULL,
    max_attempts int NOT NULL,
    priority int NOT NULL,
    result jsonb,
    error jsonb,
    prompt_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    created_at timestamptz NOT NULL,
    ready_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT tasks_plan_id_key_key UNIQUE (plan_id, key)
);
CREATE INDEX tasks_plan_idx ON mcp_documents.tasks (plan_id, status);
CREATE INDEX tasks_goal_idx ON mcp_documents.tasks (goal_id);
CREATE INDEX tasks_ready_idx ON mcp_documents.tasks (priority, ready_at) WHERE status = 'ready';
"""

DOWN = """
DROP TABLE mcp_documents.tasks;
DROP TABLE mcp_documents.plans;
DROP TABLE mcp_documents.goals;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
