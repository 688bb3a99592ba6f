"""Services that somebody registered, and how each service is.

Why: a service that does not speak the NATS service protocol is there while its lease is renewed;
how a service is must be known to all processes that look after it, and outlive them.
Safe while the old code runs: no, it reads whole rows of services; stop the layer L12 first.
"""

from migrations.statements import run

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE registry.services ADD COLUMN owner_id text, ADD COLUMN reason text;
CREATE INDEX services_owner_id_idx ON registry.services (owner_id) WHERE status <> 'lost';
CREATE INDEX services_words_idx ON registry.services
    USING gin ((name || ' ' || description) gin_trgm_ops);

CREATE TABLE registry.watches (
    service_id uuid PRIMARY KEY,
    health jsonb NOT NULL,
    lease_s int,
    lease_until timestamptz,
    remove_after_s int,
    health_subject text,
    check_every_s int,
    check_at timestamptz,
    look_at timestamptz
);
CREATE INDEX watches_check_at_idx ON registry.watches (check_at) WHERE check_at IS NOT NULL;
CREATE INDEX watches_look_at_idx ON registry.watches (look_at) WHERE look_at IS NOT NULL;
"""

DOWN = """
DROP TABLE registry.watches;
DROP INDEX registry.services_words_idx;
ALTER TABLE registry.services DROP COLUMN reason, DROP COLUMN owner_id;
"""


def upgrade() -> None:
    """Apply."""
    run(UP)


def downgrade() -> None:
    """Take back."""
    run(DOWN)
