"""SQL of the dead letters. The bus writes and moves their rows; here they are read, forgotten."""

from bus.statement import Statement

COLUMNS = """
    id, state, stream, consumer, subject, message_id, error_type, error, deliveries, failures,
    handler_version, aggregate_type, aggregate_id, aggregate_version, job_id, requeues, created_at,
    failed_at, settled_at
"""
LIST = Statement(
    f"""
    SELECT {COLUMNS} FROM ops.dead_letters
    WHERE ($1::text IS NULL OR id = ANY($2::uuid[])) AND NOT id = ANY($3::uuid[])
      AND ($4::text IS NULL OR stream = $4)
      AND ($5::text IS NULL OR consumer = $5)
      AND ($6::text IS NULL OR state = $6)
      AND ($7::timestamptz IS NULL OR (created_at, id) < ($7, $8::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $9
    """  # noqa: S608 - constants
)
LETTER = Statement(f"SELECT {COLUMNS} FROM ops.dead_letters WHERE id = $1")  # noqa: S608
OPENED = Statement(
    f"""
    SELECT {COLUMNS}, headers, body,
           (SELECT reason FROM integration.letter_decisions d WHERE d.id = $1) AS reason,
           CASE WHEN state IN ('dead', 'requeued') THEN
               (SELECT count(*) FROM ops.dead_letters b
                WHERE b.consumer = l.consumer AND b.aggregate_id = l.aggregate_id
                  AND b.state = 'parked')
           ELSE 0 END AS behind
    FROM ops.dead_letters l WHERE id = $1
    """  # noqa: S608 - constants
)
DECISION = Statement("SELECT version FROM integration.letter_decisions WHERE id = $1")
FORGET = Statement(
    """
    DELETE FROM ops.dead_letters WHERE id IN (
        SELECT id FROM ops.dead_letters
        WHERE created_at < now() - make_interval(days => $1)
          AND (settled_at < now() - make_interval(days => $1)
               OR (state = 'requeued' AND job_id IS NOT NULL
                   AND NOT EXISTS (SELECT FROM ops.jobs j WHERE j.id = job_id)))
        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    """
)
