"""API keys as entities with secrets beside them.

Why: keys are issued, rotated and revoked by people; what happened to them is in the event log,
their secrets are not.
Safe while the old code runs: no, it reads the table that goes; stop the handlers first. The first
admin key is stored again at their start, from the hash that its maker keeps.
"""

from migrations.statements import run

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

UP = """
DROP TABLE identity.api_keys;
CREATE TABLE identity.api_keys (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    owner_id text NOT NULL,
    roles text[] NOT NULL,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    rotated_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_keys_owner_idx ON identity.api_keys (owner_id, created_at DESC, id DESC);
CREATE TABLE identity.key_secrets (
    prefix text PRIMARY KEY,
    key_id uuid NOT NULL REFERENCES identity.api_keys (id),
    secret_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    not_after timestamptz,
    made_by text,
    CONSTRAINT key_secrets_made_by_key UNIQUE (made_by)
);
CREATE INDEX key_secrets_key_idx ON identity.key_secrets (key_id);
"""

DOWN = """
DROP TABLE identity.key_secrets;
DROP TABLE identity.api_keys;
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


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
