"""The audit log, chained by hash, and the log of HTTP requests, partitioned by day.

Why: what was asked and decided must be shown afterwards, and that nobody changed it since.
Safe while the old code runs: yes, it only adds.
"""

from migrations.statements import run

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UP = """
CREATE SCHEMA audit;

CREATE TABLE audit.entries (
    seq bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    door text NOT NULL,
    actor text NOT NULL,
    via text,
    action text NOT NULL,
    resource text NOT NULL,
    resource_id text,
    decision text NOT NULL CHECK (decision IN ('allow', 'deny')),
    reason text,
    permission text,
    policy text NOT NULL,
    request_id text,
    address text,
    credential text,
    details json NOT NULL,
    hash text NOT NULL
);
CREATE INDEX entries_actor_idx ON audit.entries (actor, seq);
CREATE INDEX entries_action_idx ON audit.entries (action, seq);
CREATE INDEX entries_denied_idx ON audit.entries (seq) WHERE decision = 'deny';
CREATE INDEX entries_request_id_idx ON audit.entries (request_id);
CREATE INDEX entries_at_idx ON audit.entries USING brin (at);

CREATE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER entries_no_change BEFORE UPDATE OR DELETE ON audit.entries
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER entries_no_truncate BEFORE TRUNCATE ON audit.entries
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
REVOKE UPDATE, DELETE, TRUNCATE ON audit.entries FROM PUBLIC, CURRENT_USER;

-- The end of the chain: one row, whose lock puts the writers in line, so no number is left out.
CREATE TABLE audit.head (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    seq bigint NOT NULL,
    hash text NOT NULL
) WITH (fillfactor = 50);
INSERT INTO audit.head (seq, hash) VALUES (0, repeat('0', 64));

CREATE TABLE audit.api_requests (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    request_id text NOT NULL,
    method text NOT NULL,
    route text NOT NULL,
    path text NOT NULL,
    operation text NOT NULL,
    status smallint NOT NULL,
    ms double precision NOT NULL,
    actor text NOT NULL,
    credential text NOT NULL,
    address text NOT NULL,
    decision text NOT NULL,
    reason text,
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE audit.api_requests_other PARTITION OF audit.api_requests DEFAULT;
CREATE INDEX api_requests_request_id_idx ON audit.api_requests (request_id);
CREATE INDEX api_requests_actor_idx ON audit.api_requests (actor, id);
CREATE INDEX api_requests_failed_idx ON audit.api_requests (status, id) WHERE status >= 400;
CREATE INDEX api_requests_at_idx ON audit.api_requests USING brin (at);

-- A day's own partition, made before its first row; a day of which the default partition already
-- holds rows stays there.
CREATE FUNCTION audit.add_day(day date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    first timestamptz := day::timestamp AT TIME ZONE 'UTC';
    next timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
    partition text := 'audit.api_requests_' || to_char(day, 'YYYY_MM_DD');
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM pg_advisory_xact_lock(hashtext('audit.api_requests'));
    IF to_regclass(partition) IS NOT NULL OR EXISTS (
        SELECT FROM audit.api_requests_other WHERE at >= first AND at < next) THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %s PARTITION OF audit.api_requests FOR VALUES FROM (%L) TO (%L)',
                   partition, first, next);
    RETURN true;
END $$;
SELECT audit.add_day((now() AT TIME ZONE 'UTC')::date + ahead) FROM generate_series(0, 2) ahead;

-- Drops the partitions of the days before `day`; returns how many.
CREATE FUNCTION audit.drop_days(day date) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    partition regclass;
    dropped int := 0;
BEGIN
    PERFORM set_config('lock_timeout', '2s', true);
    PERFORM pg_advisory_xact_lock(hashtext('audit.api_requests'));
    FOR partition IN
        SELECT i.inhrelid::regclass FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'audit.api_requests'::regclass AND c.relname ~ '_\\d{4}_\\d\\d_\\d\\d$'
          AND to_date(right(c.relname, 10), 'YYYY_MM_DD') < day
    LOOP
        EXECUTE format('DROP TABLE %s', partition);
        dropped := dropped + 1;
    END LOOP;
    DELETE FROM audit.api_requests_other WHERE at < day::timestamp AT TIME ZONE 'UTC';
    RETURN dropped;
END $$;
"""

DOWN = """
DROP SCHEMA audit CASCADE;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Drop."""
    run(DOWN)
