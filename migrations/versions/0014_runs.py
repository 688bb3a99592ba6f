"""What work was left to do with, and what a run has used of its tokens.

Why: agents act with the rights of whoever asked for their work, never with those of the platform.
Safe while the old code runs: yes, the columns may be NULL and old events do not name them.
"""

from migrations.statements import run

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE mcp_documents.goals ADD COLUMN mandate jsonb;
ALTER TABLE runtime.runs ADD COLUMN mandate jsonb, ADD COLUMN tokens_max int;
CREATE INDEX runs_open_owner_idx ON runtime.runs (owner_id)
    WHERE status IN ('queued', 'running');
ALTER TABLE identity.sessions ADD COLUMN mandate jsonb;
ALTER TABLE models.llm_usage ADD COLUMN run_id text;
CREATE INDEX llm_usage_run_idx ON models.llm_usage (run_id) WHERE run_id IS NOT NULL;
"""

DOWN = """
DROP INDEX models.llm_usage_run_idx;
ALTER TABLE models.llm_usage DROP COLUMN run_id;
ALTER TABLE identity.sessions DROP COLUMN mandate;
DROP INDEX runtime.runs_open_owner_idx;
ALTER TABLE runtime.runs DROP COLUMN tokens_max, DROP COLUMN mandate;
ALTER TABLE mcp_documents.goals DROP COLUMN mandate;
"""


def upgrade() -> None:
    """Add."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
