"""Plans that are carried out by runs of workflows.

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
ALTER TABLE mcp_documents.plans ADD COLUMN run_id uuid, ADD COLUMN run_status text;
ALTER TABLE mcp_documents.tasks ADD COLUMN person jsonb;
DROP INDEX mcp_documents.tasks_ready_idx;
CREATE INDEX runs_task_idx ON runtime.runs (task_id) WHERE task_id IS NOT NULL;
"""

DOWN = """
DROP INDEX runtime.runs_task_idx;
CREATE INDEX tasks_ready_idx ON mcp_documents.tasks (priority, ready_at) WHERE status = 'ready';
ALTER TABLE mcp_documents.tasks DROP COLUMN person;
ALTER TABLE mcp_documents.plans DROP COLUMN run_status, DROP COLUMN run_id;
ALTER TABLE flow.steps DROP COLUMN goal_id, DROP COLUMN work;
ALTER TABLE flow.runs DROP COLUMN goal_id;
"""


def upgrade() -> None:
    """Apply."""
    run(UP)


def downgrade() -> None:
    """Take back."""
    run(DOWN)
