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
COUNT = Statement("SELECT count(*) AS events FROM mcp_documents.events")
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
