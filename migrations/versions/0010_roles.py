"""The roles of the database: who migrates, who works, who only looks.

Why: what the platform runs as must not be able to change tables or the logs, even when a statement
is turned against it. What each may do is granted after every migration, by `migrations/grants.py`.
Safe while the old code runs: yes, it connects as the owner, who keeps every right.
"""

from migrations.statements import run

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# Roles belong to the server, not to one database: they may be there, or be made by another
# migration at this moment. They get a password when the platform is given one.
UP = """
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['admin', 'app_user', 'readonly_user'] LOOP
        IF wanted NOT IN (SELECT rolname FROM pg_roles) THEN
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE', wanted);
        END IF;
    END LOOP;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the roles admin, app_user and readonly_user are missing'
            USING HINT = 'Migrate as a role with CREATEROLE, or let a superuser make them.';
END $$;

-- A month's partition is a table, which those who write to it may not make: the function does, as
-- its owner, and so takes only the partitioned tables that there are.
CREATE OR REPLACE FUNCTION ops.add_month(parent text, moment text, day date) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    first timestamptz := date_trunc('month', day::timestamp) AT TIME ZONE 'UTC';
    next timestamptz :=
        (date_trunc('month', day::timestamp) + interval '1 month') AT TIME ZONE 'UTC';
    partition text := parent || '_' || to_char(day, 'YYYY_MM');
    taken boolean;
BEGIN
    IF parent NOT IN (SELECT partrelid::regclass::text FROM pg_partitioned_table) THEN
        RAISE EXCEPTION 'not a partitioned table: %', parent USING ERRCODE = 'undefined_table';
    END IF;
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
"""

# The roles stay: other databases of the server may use them.
DOWN = """
ALTER FUNCTION ops.add_month(text, text, date) SECURITY INVOKER RESET search_path;
"""


def upgrade() -> None:
    """Create."""
    run(UP)


def downgrade() -> None:
    """Give the function back; the roles stay."""
    run(DOWN)
