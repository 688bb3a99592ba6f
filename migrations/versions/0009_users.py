"""Users, sessions, grants and signing keys; what a job may do; how often a key is used.

Why: people sign in, their rights are grants and roles, and a job must not reach further than the
one who asked for it.
Safe while the old code runs: yes, it adds tables, and columns with defaults.
"""

from migrations.statements import run

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

UP = """
CREATE TABLE identity.users (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    login text NOT NULL CONSTRAINT users_login_key UNIQUE,
    name text NOT NULL,
    roles text[] NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX users_created_idx ON identity.users (created_at DESC, id DESC);
CREATE TABLE identity.passwords (
    user_id uuid PRIMARY KEY REFERENCES identity.users (id),
    hash text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE identity.attempts (
    login text PRIMARY KEY,
    failures int NOT NULL,
    locked_until timestamptz,
    last_at timestamptz NOT NULL
);
CREATE TABLE identity.sessions (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    owner_id text NOT NULL,
    kind text NOT NULL,
    client_id text,
    scopes text[] NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_because text
);
CREATE INDEX sessions_owner_idx ON identity.sessions (owner_id, created_at DESC, id DESC);
CREATE TABLE identity.cookies (
    prefix text PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES identity.sessions (id),
    secret_hash text NOT NULL,
    used_at timestamptz NOT NULL
);
CREATE TABLE identity.refresh_tokens (
    prefix text PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES identity.sessions (id),
    secret_hash text NOT NULL,
    issued_at timestamptz NOT NULL DEFAULT now(),
    used_at timestamptz
);
CREATE INDEX refresh_tokens_session_idx ON identity.refresh_tokens (session_id);
CREATE TABLE identity.grants (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    subject text NOT NULL,
    permission text NOT NULL,
    thing text NOT NULL,
    allow boolean NOT NULL,
    reason text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    withdrawn_at timestamptz
);
CREATE UNIQUE INDEX grants_rule_key ON identity.grants (subject, permission, thing, allow)
    WHERE withdrawn_at IS NULL;
CREATE TABLE identity.signing_keys (
    id uuid PRIMARY KEY,
    version int NOT NULL,
    public text NOT NULL,
    created_at timestamptz NOT NULL,
    signs_from timestamptz NOT NULL,
    verifies_until timestamptz
);
CREATE TABLE identity.signing_secrets (
    id uuid PRIMARY KEY REFERENCES identity.signing_keys (id),
    sealed text NOT NULL
);
CREATE TABLE identity.key_uses (
    key_id uuid PRIMARY KEY REFERENCES identity.api_keys (id),
    uses bigint NOT NULL,
    last_used_at timestamptz NOT NULL
);
ALTER TABLE ops.jobs
    ADD COLUMN scopes text[] NOT NULL DEFAULT '{}',
    ADD COLUMN credential text,
    ADD COLUMN actor_kind text NOT NULL DEFAULT 'service';
"""

DOWN = """
ALTER TABLE ops.jobs DROP COLUMN actor_kind, DROP COLUMN credential, DROP COLUMN scopes;
DROP TABLE identity.key_uses, identity.signing_secrets, identity.signing_keys, identity.grants,
    identity.refresh_tokens, identity.cookies, identity.sessions, identity.attempts,
    identity.passwords, identity.users;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
