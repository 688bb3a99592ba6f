"""Dead letters, and what was decided about them.

Why: what a consumer gives up must be kept, block only its own aggregate, and be sent again.
Safe while the old code runs: yes, it only adds; what old code gives up is in the stream DEAD alone.
"""

from migrations.statements import run

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# The index on the queue is all that an ordinary event looks at: it holds open letters only, and
# so is nearly always empty. The unique one holds that a queue has one head.
UP = """
CREATE TABLE ops.dead_letters (
    id uuid PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('dead', 'parked', 'requeued', 'done', 'dropped')),
    stream text NOT NULL,
    consumer text NOT NULL,
    subject text NOT NULL,
    message_id text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL CHECK (octet_length(body) <= 1048576),
    error_type text,
    error text,
    deliveries int NOT NULL,
    failures int NOT NULL,
    handler_version text NOT NULL,
    aggregate_type text,
    aggregate_id text,
    aggregate_version int,
    job_id uuid,
    requeues int NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    failed_at timestamptz,
    settled_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX dead_letters_queue_idx
    ON ops.dead_letters (consumer, aggregate_id, aggregate_version, created_at, id)
    WHERE state IN ('dead', 'parked', 'requeued');
CREATE UNIQUE INDEX dead_letters_head_key ON ops.dead_letters (consumer, aggregate_id)
    WHERE state IN ('dead', 'requeued');
CREATE INDEX dead_letters_job_id_idx ON ops.dead_letters (job_id) WHERE job_id IS NOT NULL;
CREATE INDEX dead_letters_created_at_idx ON ops.dead_letters (created_at DESC, id DESC);

CREATE SCHEMA integration;
CREATE TABLE integration.letter_decisions (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    decision text NOT NULL CHECK (decision IN ('requeued', 'dropped')),
    consumer text NOT NULL,
    subject text NOT NULL,
    reason text,
    decided_by text NOT NULL,
    decided_at timestamptz NOT NULL
);
"""

DOWN = """
DROP SCHEMA integration CASCADE;
DROP TABLE ops.dead_letters;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
