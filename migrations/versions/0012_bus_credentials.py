"""Bus credentials: NATS users that stand for API keys.

Why: programs of others speak NATS with the rights of a key; what happened to a credential is in the
event log, its password is not, and only a hash of it is kept.
Safe while the old code runs: yes, nothing that exists is touched.
"""

from migrations.statements import run

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA credentials;
CREATE TABLE credentials.bus_credentials (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    key_id uuid NOT NULL,
    owner_id text NOT NULL,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz
);
CREATE INDEX bus_credentials_owner_idx
    ON credentials.bus_credentials (owner_id, created_at DESC, id DESC);
CREATE TABLE credentials.secrets (
    credential_id uuid PRIMARY KEY REFERENCES credentials.bus_credentials (id),
    secret_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    made_by text,
    CONSTRAINT secrets_made_by_key UNIQUE (made_by)
);
"""

DOWN = """
DROP SCHEMA credentials CASCADE;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
