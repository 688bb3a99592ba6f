"""Where a job has got to, scratch tables of replays, and the archive of the event log.

Why: a replay goes on after a crash where it stopped, and months that nobody writes are set apart.
Safe while the old code runs: yes, it adds a column that may be NULL, two schemas and a function.
"""

from migrations.statements import run

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

UP = """
ALTER TABLE ops.jobs ADD COLUMN position jsonb;

-- What a replay has made of each entity so far; its rows go when its job has ended.
CREATE SCHEMA scratch;
CREATE TABLE scratch.states (
    job_id uuid NOT NULL,
    aggregate_type text NOT NULL,
    aggregate_id uuid NOT NULL,
    aggregate_version int NOT NULL,
    payload json NOT NULL,
    PRIMARY KEY (job_id, aggregate_type, aggregate_id)
);

-- Months of the log that are old: still partitions of mcp_documents.events, so that whoever reads
-- the log reads them too, but in a schema of their own and closed to new rows.
CREATE SCHEMA archive;
CREATE FUNCTION ops.refuse_late() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'this month of the event log is archived'
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION ops.archive_events(days int) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    month text;
BEGIN
    IF days < 31 THEN
        RAISE EXCEPTION 'a month is archived when it is over for 31 days or more, not %', days
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM set_config('lock_timeout', '2s', true);
    IF NOT pg_try_advisory_xact_lock(hashtext('mcp_documents.events')) THEN
        RETURN;
    END IF;
    FOR month IN
        SELECT c.relname FROM pg_inherits i
        JOIN pg_class c ON c.oid = i.inhrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'mcp_documents'
        WHERE i.inhparent = 'mcp_documents.events'::regclass
          AND substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$TO \\('([^']+)'\\)$re$)
              ::timestamptz <= now() - make_interval(days => days)
        ORDER BY c.relname
    LOOP
        BEGIN
            EXECUTE format('CREATE TRIGGER events_closed BEFORE INSERT ON mcp_documents.%I '
                           'FOR EACH ROW EXECUTE FUNCTION ops.refuse_late()', month);
            EXECUTE format('ALTER TABLE mcp_documents.%I SET SCHEMA archive', month);
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;  -- somebody reads it: another time
        END;
        RETURN NEXT 'archive.' || month;
    END LOOP;
END $$;
"""

DOWN = """
DO $$
DECLARE
    month text;
BEGIN
    FOR month IN
        SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'archive' AND c.relkind = 'r'
    LOOP
        EXECUTE format('DROP TRIGGER events_closed ON archive.%I', month);
        EXECUTE format('ALTER TABLE archive.%I SET SCHEMA mcp_documents', month);
    END LOOP;
END $$;
DROP FUNCTION ops.archive_events(int);
DROP FUNCTION ops.refuse_late();
DROP SCHEMA archive;
DROP SCHEMA scratch CASCADE;
ALTER TABLE ops.jobs DROP COLUMN position;
"""


def upgrade() -> None:
    """Add."""
    run(UP)


def downgrade() -> None:
    """Give archived months back, and drop."""
    run(DOWN)
