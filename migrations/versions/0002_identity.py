"""API keys.

Why: nothing answers without a credential.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA identity;
CREATE TABLE identity.api_keys (
    id text PRIMARY KEY,
    name text NOT NULL,
    secret_hash text NOT NULL,
    owner_id text NOT NULL,
    roles text[] NOT NULL,
    scopes text[] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz
);
"""

DOWN = """
DROP SCHEMA identity CASCADE;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
