"""SQL of the event log, its partitions, and what the bus may forget after a while.

A page that goes forward ends before the oldest transaction that is still writing: `seq` is given
out before the commit, so behind that point a lower number could still appear and be skipped. The
events of one aggregate are written one after the other, so theirs are shown at once.
"""

from bus.statement import Statement

COLUMNS = """
    seq, event_id, type, category, aggregate_type, aggregate_id, aggregate_version, payload, actor,
    request_id, correlation_id, causation_id, occurred_at, recorded_at, encode(hash, 'hex') AS hash
"""
WANTED = """
    ($1::text IS NULL OR type = $1) AND ($2::text IS NULL OR starts_with(type, $2))
    AND ($3::text IS NULL OR aggregate_type = $3) AND ($4::uuid IS NULL OR aggregate_id = $4)
    AND ($5::uuid IS NULL OR correlation_id = $5) AND seq > $6
"""
FORWARD = Statement(
    f"""
    SELECT {COLUMNS} FROM mcp_documents.events
    WHERE {WANTED} AND ($7::bigint IS NULL OR seq > $7)
      AND ($4::uuid IS NOT NULL OR writer < pg_snapshot_xmin(pg_current_snapshot()))
    ORDER BY seq LIMIT $8
    """  # noqa: S608 - constants
)
BACKWARD = Statement(
    f"""
    SELECT {COLUMNS} FROM mcp_documents.events
    WHERE {WANTED} AND ($7::bigint IS NULL OR seq < $7)
    ORDER BY seq DESC LIMIT $8
    """  # noqa: S608 - constants
)
ENTITY_AT = Statement(
    f"""
    SELECT {COLUMNS} FROM mcp_documents.events
    WHERE aggregate_type = $1 AND aggregate_id = $2
      AND ($3::timestamptz IS NULL OR recorded_at <= $3) AND ($4::bigint IS NULL OR seq <= $4)
    ORDER BY aggregate_version DESC LIMIT 1
    """  # noqa: S608 - constants
)
HISTORY = Statement(
    f"""
    WITH chosen AS (
        SELECT {COLUMNS}, octet_length(payload::text) AS size,
               row_number() OVER (PARTITION BY aggregate_id ORDER BY seq DESC) AS age
        FROM mcp_documents.events
        WHERE aggregate_type = ANY($1::text[]) AND aggregate_id = ANY($2::uuid[])
          AND ($3::bigint IS NULL OR seq <= $3) AND ($4::timestamptz IS NULL OR recorded_at <= $4)
    ), counted AS (
        SELECT *, sum(size) OVER (ORDER BY seq) AS total, row_number() OVER (ORDER BY seq) AS place,
               count(*) OVER () AS wanted
        FROM chosen WHERE seq > $5 AND (NOT $6 OR age = 1)
    )
    SELECT * FROM counted WHERE place = 1 OR total <= $7 ORDER BY seq LIMIT $8
    """  # noqa: S608 - constants
)
CHOSEN_BY = """
    seq > $1 AND seq <= $2
    AND ($3::timestamptz IS NULL OR recorded_at >= $3)
    AND ($4::timestamptz IS NULL OR recorded_at < $4)
    AND ($5::text IS NULL OR aggregate_type = $5) AND ($6::uuid IS NULL OR aggregate_id = $6)
    AND ($7::text IS NULL OR type = $7) AND ($8::text IS NULL OR starts_with(type, $8))
"""
COUNT_CHOSEN = Statement(
    f"SELECT count(*) AS events FROM mcp_documents.events WHERE {CHOSEN_BY}"  # noqa: S608
)
NEXT_CHOSEN = Statement(
    f"""
    SELECT seq, recorded_at FROM mcp_documents.events WHERE {CHOSEN_BY} ORDER BY seq LIMIT $9
    """  # noqa: S608 - constants
)
CHOSEN = Statement(
    f"""
    SELECT {COLUMNS}, payload::text AS body FROM mcp_documents.events
    WHERE {CHOSEN_BY} ORDER BY seq
    """  # noqa: S608 - constants
)
PLAY = Statement(
    f"""
    INSERT INTO scratch.states AS s
        (job_id, aggregate_type, aggregate_id, aggregate_version, payload)
    SELECT DISTINCT ON (aggregate_type, aggregate_id)
        $9::uuid, aggregate_type, aggregate_id, aggregate_version, payload
    FROM mcp_documents.events WHERE {CHOSEN_BY}
    ORDER BY aggregate_type, aggregate_id, aggregate_version DESC
    ON CONFLICT (job_id, aggregate_type, aggregate_id) DO UPDATE
    SET aggregate_version = excluded.aggregate_version, payload = excluded.payload
    WHERE s.aggregate_version < excluded.aggregate_version
    """  # noqa: S608 - constants
)
PLAYED = Statement(
    """
    SELECT count(*) AS aggregates, count(h.version) AS compared
    FROM scratch.states s
    LEFT JOIN ops.aggregate_heads h ON h.aggregate_type = s.aggregate_type
     AND h.aggregate_id = s.aggregate_id AND h.version = s.aggregate_version
    WHERE s.job_id = $1 AND s.aggregate_type = $2
    """
)
HORIZON = Statement(
    """
    SELECT coalesce(max(seq), 0) AS seq, pg_current_xact_id()::text AS behind
    FROM mcp_documents.events
    """
)
SETTLED = Statement("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8 AS settled")
FORGET_SCRATCH = Statement(
    """
    DELETE FROM scratch.states WHERE (job_id, aggregate_type, aggregate_id) IN (
        SELECT s.job_id, s.aggregate_type, s.aggregate_id FROM scratch.states s
        WHERE NOT EXISTS (SELECT FROM ops.jobs j
                          WHERE j.id = s.job_id AND j.status IN ('queued', 'running'))
        LIMIT $1)
    """
)
GET = Statement(f"SELECT {COLUMNS} FROM mcp_documents.events WHERE event_id = $1")  # noqa: S608
TOTALS = Statement(
    """
    SELECT (SELECT coalesce(sum(version), 0)::bigint FROM ops.aggregate_heads) AS total,
           (SELECT coalesce(max(seq), 0) FROM mcp_documents.events) AS last_seq,
           (SELECT count(*) FROM ops.outbox) AS pending
    """
)
TYPES = Statement(
    """
    SELECT type, count(*) AS count, max(recorded_at) AS last_at FROM mcp_documents.events
    WHERE recorded_at > now() - make_interval(hours => $1)
    GROUP BY type ORDER BY count(*) DESC, type
    """
)
COUNT = Statement(
    """
    SELECT count(*) AS events, count(*) FILTER (WHERE tableoid IN (
        SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'archive')) AS archived
    FROM mcp_documents.events
    """
)
ARCHIVE = Statement("SELECT moved FROM ops.archive_events($1) AS moved")
ARCHIVED = Statement(
    """
    SELECT n.nspname || '.' || c.relname AS partition FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'archive' AND c.relispartition AND c.relkind = 'r' ORDER BY 1
    """
)
ADD_MONTH = Statement(
    """
    SELECT ops.add_month($1, $2, ((now() AT TIME ZONE 'UTC') + make_interval(months => $3))::date)
    """
)
FORGET_INBOX = Statement(
    """
    DELETE FROM ops.inbox WHERE (consumer, message_id) IN (
        SELECT consumer, message_id FROM ops.inbox
        WHERE seen_at < now() - make_interval(days => $1) LIMIT $2 FOR UPDATE SKIP LOCKED)
    """
)
FORGET_ANSWERS = Statement(
    """
    DELETE FROM ops.idempotency WHERE (actor, key) IN (
        SELECT actor, key FROM ops.idempotency
        WHERE created_at < now() - make_interval(hours => $1) LIMIT $2 FOR UPDATE SKIP LOCKED)
    """
)
