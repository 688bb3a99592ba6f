"""Plans that are carried out by runs of workflows, approved, and made anew.

Why: goals and workflows have one engine; a plan knows its run, a step what agents did for it.
Safe while the old code runs: yes, the columns may be NULL and old events do not name them.
"""

from migrations.statements import run

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE flow.runs ADD COLUMN goal_id uuid;
ALTER TABLE flow.steps ADD COLUMN work jsonb, ADD COLUMN goal_id uuid;
ALTER TABLE mcp_documents.goals ADD COLUMN approve boolean, ADD COLUMN execute boolean;
ALTER TABLE mcp_documents.plans
    ADD COLUMN run_id uuid, ADD COLUMN run_status text, ADD COLUMN sha256 text,
    ADD COLUMN approved_by text, ADD COLUMN approved_at timestamptz, ADD COLUMN supersedes_id uuid;
ALTER TABLE mcp_documents.tasks ADD COLUMN person jsonb, ADD COLUMN kept_from uuid;
CREATE INDEX tasks_succeeded_idx ON mcp_documents.tasks USING gin (capabilities)
    WHERE status = 'succeeded';
CREATE TABLE mcp_documents.plan_cache (
    key text PRIMARY KEY,
    plan jsonb NOT NULL,
    made_at timestamptz NOT NULL
);
CREATE INDEX plan_cache_made_at_idx ON mcp_documents.plan_cache (made_at);
DROP INDEX mcp_documents.tasks_ready_idx;
CREATE INDEX runs_task_idx ON runtime.runs (task_id) WHERE task_id IS NOT NULL;
"""

DOWN = """
DROP INDEX runtime.runs_task_idx;
CREATE INDEX tasks_ready_idx ON mcp_documents.tasks (priority, ready_at) WHERE status = 'ready';
DROP TABLE mcp_documents.plan_cache;
DROP INDEX mcp_documents.tasks_succeeded_idx;
ALTER TABLE mcp_documents.tasks DROP COLUMN kept_from, DROP COLUMN person;
ALTER TABLE mcp_documents.plans
    DROP COLUMN supersedes_id, DROP COLUMN approved_at, DROP COLUMN approved_by,
    DROP COLUMN sha256, DROP COLUMN run_status, DROP COLUMN run_id;
ALTER TABLE mcp_documents.goals DROP COLUMN execute, DROP COLUMN approve;
ALTER TABLE flow.steps DROP COLUMN goal_id, DROP COLUMN work;
ALTER TABLE flow.runs DROP COLUMN goal_id;
"""


def upgrade() -> None:
    """Apply."""
    run(UP)


def downgrade() -> None:
    """Take back."""
    run(DOWN)
