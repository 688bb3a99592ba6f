"""Extensions, the event log, and the tables of the bus.

Why: everything is written through the log, the outbox and the jobs.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

UP = """
CREATE EXTENSION IF NOT EXISTS \"uuid-ossp\";
CREATE EXTENSION IF NOT EXISTS vector;
CREATE EXTENSION IF NOT EXISTS pg_trgm;
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;

CREATE SCHEMA mcp_documents;
CREATE SCHEMA ops;

-- The log. Partitioned by month, so that old months can be archived as a whole.
CREATE TABLE mcp_documents.events (
    seq bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL,
    type text NOT NULL,
    category text NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id uuid NOT NULL,
    aggregate_version int NOT NULL,
    payload json NOT NULL,
    actor text NOT NULL,
    request_id text NOT NULL,
    correlation_id uuid,
    causation_id text,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    hash bytea NOT NULL,
    writer xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (seq, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE TABLE mcp_documents.events_other PARTITION OF mcp_documents.events DEFAULT;
CREATE INDEX events_aggregate_idx
    ON mcp_documents.events (aggregate_type, aggregate_id, aggregate_version);
CREATE INDEX events_type_idx ON mcp_documents.events (type, seq);
CREATE INDEX events_correlation_idx ON mcp_documents.events (correlation_id, seq)
    WHERE correlation_id IS NOT NULL;
CREATE INDEX events_event_id_idx ON mcp_documents.events (event_id);
CREATE INDEX events_request_id_idx ON mcp_documents.events (request_id);
CREATE INDEX events_recorded_at_idx ON mcp_documents.events USING brin (recorded_at);

CREATE FUNCTION ops.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE ON mcp_documents.events
    FOR EACH ROW EXECUTE FUNCTION ops.refuse_change();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON mcp_documents.events
    FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change();

-- A month's own partition, made before its first row; the default partition takes what comes
-- without one, and a month of which it already holds rows stays there.
CREATE FUNCTION ops.add_month(parent text, moment text, day date) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := date_trunc('month', day::timestamp) AT TIME ZONE 'UTC';
    next timestamptz :=
        (date_trunc('month', day::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
    partition text := parent || '_' || to_char(day, 'YYYY_MM');
    taken boolean;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM pg_advisory_xact_lock(hashtext(parent));
    IF to_regclass(partition) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT FROM %s_other WHERE %I >= $1 AND %I < $2)',
                   parent, moment, moment) INTO taken USING first, next;
    IF taken THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %s PARTITION OF %s FOR VALUES FROM (%L) TO (%L)',
                   partition, parent, first, next);
    IF parent = 'mcp_documents.events' THEN
        EXECUTE format('CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON %s '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change()', partition);
    END IF;
    RETURN true;
END $$;
SELECT ops.add_month('mcp_documents.events', 'recorded_at', (now() AT TIME ZONE 'UTC')::date);

-- The last version and hash of every aggregate: uniqueness and order across partitions.
CREATE TABLE ops.aggregate_heads (
    aggregate_type text NOT NULL,
    aggregate_id uuid NOT NULL,
    version int NOT NULL,
    hash bytea NOT NULL,
    PRIMARY KEY (aggregate_type, aggregate_id)
) WITH (fillfactor = 80);

-- What is committed and not yet published.
CREATE TABLE ops.outbox (
    position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    message_id text NOT NULL,
    lane smallint NOT NULL,
    aggregate_id text NOT NULL,
    subject text NOT NULL,
    headers jsonb NOT NULL,
    body bytea NOT NULL,
    available_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX outbox_lane_idx ON ops.outbox (lane, position);
CREATE INDEX outbox_aggregate_id_idx ON ops.outbox (aggregate_id);
CREATE INDEX outbox_message_id_idx ON ops.outbox (message_id);

CREATE FUNCTION ops.wake_relay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_wake AFTER INSERT ON ops.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION ops.wake_relay();

-- Events that a consumer has dealt with, or failed to.
CREATE TABLE ops.inbox (
    consumer text NOT NULL,
    message_id text NOT NULL,
    done boolean NOT NULL DEFAULT false,
    failures int NOT NULL DEFAULT 0,
    error text,
    seen_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, message_id)
);
CREATE INDEX inbox_seen_at_idx ON ops.inbox (seen_at);

CREATE TABLE ops.idempotency (
    actor text NOT NULL,
    key text NOT NULL,
    fingerprint text NOT NULL,
    reply text,
    version text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, key)
);
CREATE INDEX idempotency_created_at_idx ON ops.idempotency (created_at);

CREATE TABLE ops.jobs (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    payload jsonb NOT NULL,
    status text NOT NULL DEFAULT 'queued'
        CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    progress double precision NOT NULL DEFAULT 0,
    result jsonb,
    error text,
    actor text NOT NULL,
    roles text[] NOT NULL,
    request_id text NOT NULL,
    correlation_id uuid,
    attempts int NOT NULL DEFAULT 0,
    worker uuid,
    lease_until timestamptz,
    available_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX jobs_open_idx ON ops.jobs (available_at) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_created_at_idx ON ops.jobs (created_at DESC, id);
"""

DOWN = """
DROP SCHEMA ops CASCADE;
DROP SCHEMA mcp_documents CASCADE;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
