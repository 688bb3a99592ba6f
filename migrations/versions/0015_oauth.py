"""OAuth clients, their secrets and codes; accounts of an external provider.

Why: programs of others act for people within what those allow, and people sign in elsewhere.
Safe while the old code runs: yes, it adds tables, and an index on sessions.
"""

from migrations.statements import run

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE identity.oauth_clients (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    name text NOT NULL,
    owner_id text NOT NULL,
    confidential boolean NOT NULL,
    redirect_uris text[] NOT NULL,
    grants text[] NOT NULL,
    scopes text[] NOT NULL,
    roles text[] NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX oauth_clients_owner_idx
    ON identity.oauth_clients (owner_id, created_at DESC, id DESC);
CREATE TABLE identity.client_secrets (
    prefix text PRIMARY KEY,
    client_id uuid NOT NULL REFERENCES identity.oauth_clients (id),
    secret_hash text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    not_after timestamptz,
    made_by text,
    CONSTRAINT client_secrets_made_by_key UNIQUE (made_by)
);
CREATE INDEX client_secrets_client_idx ON identity.client_secrets (client_id);
CREATE TABLE identity.authorization_codes (
    code_hash text PRIMARY KEY,
    client_id uuid NOT NULL REFERENCES identity.oauth_clients (id),
    user_id uuid NOT NULL REFERENCES identity.users (id),
    redirect_uri text NOT NULL,
    scopes text[] NOT NULL,
    challenge text NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    session_id uuid REFERENCES identity.sessions (id)
);
CREATE INDEX authorization_codes_expires_idx ON identity.authorization_codes (expires_at);
CREATE TABLE identity.external_accounts (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id uuid NOT NULL REFERENCES identity.users (id),
    linked_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT external_accounts_subject_key PRIMARY KEY (issuer, subject)
);
CREATE INDEX external_accounts_user_idx ON identity.external_accounts (user_id);
CREATE INDEX sessions_client_idx ON identity.sessions (client_id) WHERE client_id IS NOT NULL;
"""

DOWN = """
DROP INDEX identity.sessions_client_idx;
DROP TABLE identity.external_accounts, identity.authorization_codes, identity.client_secrets,
    identity.oauth_clients;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
