"""Runs have a priority and queues, and who waits for a driver has a turn.

Why: one owner's thousand runs made everybody else wait behind them.
Safe while the old code runs: yes, the columns may be NULL or have a default, and old code names
    none of them; what it adds to flow.drivers counts as one more owner's.
"""

from migrations.statements import run

revision = "0024"
down_revision = "0022"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE flow.runs
    ADD COLUMN priority int, ADD COLUMN queue text, ADD COLUMN runs_at_once int;
ALTER TABLE flow.schedules ADD COLUMN priority int;
CREATE INDEX runs_queue_idx ON flow.runs (owner_id, queue, status, priority, started_at)
    WHERE queue IS NOT NULL AND finished_at IS NULL;
ALTER TABLE flow.drivers
    ADD COLUMN owner_id text NOT NULL DEFAULT '?', ADD COLUMN priority int NOT NULL DEFAULT 3;
UPDATE flow.drivers d SET owner_id = r.owner_id FROM flow.runs r WHERE r.id = d.run_id;
CREATE INDEX drivers_turn_idx ON flow.drivers (owner_id, priority, due_at)
    WHERE due_at IS NOT NULL;
CREATE TABLE flow.turns (
    owner_id text PRIMARY KEY,
    at timestamptz NOT NULL
);
"""

DOWN = """
DROP TABLE flow.turns;
DROP INDEX flow.drivers_turn_idx;
ALTER TABLE flow.drivers DROP COLUMN priority, DROP COLUMN owner_id;
DROP INDEX flow.runs_queue_idx;
ALTER TABLE flow.schedules DROP COLUMN priority;
ALTER TABLE flow.runs DROP COLUMN runs_at_once, DROP COLUMN queue, DROP COLUMN priority;
"""


def upgrade() -> None:
    """Apply."""
    run(UP)


def downgrade() -> None:
    """Take back."""
    run(DOWN)
