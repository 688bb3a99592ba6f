"""Secrets that the platform keeps: who changed which, and beside it the sealed value.

Why: a provider's key must be stored and read again, and be in no event.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA vault;
CREATE TABLE vault.secrets (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL CONSTRAINT secrets_name_key UNIQUE,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    updated_by text NOT NULL,
    deleted_at timestamptz
);
CREATE INDEX secrets_created_idx ON vault.secrets (created_at DESC, id DESC);
CREATE TABLE vault.sealed (
    secret_id uuid PRIMARY KEY REFERENCES vault.secrets (id),
    sealed text NOT NULL
);
"""

DOWN = """
DROP SCHEMA vault CASCADE;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
