"""What runs were forked from, and what their steps asked.

Why: a run can be gone on with from any of its steps, and done again from what was recorded.
Safe while the old code runs: yes, the columns may be NULL and old events do not name them.
"""

from migrations.statements import run

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE runtime.runs
    ADD COLUMN config jsonb, ADD COLUMN forked_from uuid, ADD COLUMN fork_step text,
    ADD COLUMN root_id uuid, ADD COLUMN changes jsonb;
ALTER TABLE runtime.steps ADD COLUMN asked jsonb, ADD COLUMN taken_from uuid;
ALTER TABLE flow.runs
    ADD COLUMN forked_from uuid, ADD COLUMN fork_step text, ADD COLUMN changes jsonb;
ALTER TABLE flow.steps ADD COLUMN asked jsonb, ADD COLUMN taken_from uuid;
"""

DOWN = """
ALTER TABLE flow.steps DROP COLUMN taken_from, DROP COLUMN asked;
ALTER TABLE flow.runs DROP COLUMN changes, DROP COLUMN fork_step, DROP COLUMN forked_from;
ALTER TABLE runtime.steps DROP COLUMN taken_from, DROP COLUMN asked;
ALTER TABLE runtime.runs
    DROP COLUMN changes, DROP COLUMN root_id, DROP COLUMN fork_step, DROP COLUMN forked_from,
    DROP COLUMN config;
"""


def upgrade() -> None:
    """Add."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
