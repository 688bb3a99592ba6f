"""Usage of models, quality scores, services.

Why: tokens are counted per call, results are judged, services are found.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA models;
CREATE TABLE models.llm_usage (
    id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    goal_id uuid,
    model text NOT NULL,
    purpose text NOT NULL,
    key text,
    prompt_tokens int NOT NULL,
    completion_tokens int NOT NULL,
    duration_ms int NOT NULL,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE models.llm_usage_other PARTITION OF models.llm_usage DEFAULT;
SELECT ops.add_month('models.llm_usage', 'at', (now() AT TIME ZONE 'UTC')::date);
CREATE INDEX llm_usage_at_idx ON models.llm_usage USING brin (at);
CREATE INDEX llm_usage_goal_idx ON models.llm_usage (goal_id);

CREATE TABLE mcp_documents.quality_scores (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    subject_type text NOT NULL,
    subject_id uuid NOT NULL,
    evaluator text NOT NULL,
    dimensions jsonb NOT NULL,
    score double precision NOT NULL,
    grade text NOT NULL,
    findings text[] NOT NULL,
    evaluated_at timestamptz NOT NULL
);
CREATE INDEX quality_scores_subject_idx
    ON mcp_documents.quality_scores (subject_type, subject_id, evaluated_at DESC);
CREATE INDEX quality_scores_evaluated_at_idx
    ON mcp_documents.quality_scores (evaluated_at DESC, id);

CREATE SCHEMA registry;
CREATE TABLE registry.services (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    service_version text NOT NULL,
    description text NOT NULL,
    layer text,
    instances int NOT NULL,
    endpoints jsonb NOT NULL,
    metadata jsonb NOT NULL,
    status text NOT NULL,
    last_seen_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT services_name_key UNIQUE (name)
);
"""

DOWN = """
DROP SCHEMA registry CASCADE;
DROP TABLE mcp_documents.quality_scores;
DROP SCHEMA models CASCADE;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
