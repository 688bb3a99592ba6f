"""SQL of the jobs. Their rows are written by the bus; here they are read, cancelled, forgotten."""

from bus.recording import JOB as GET
from bus.statement import Statement

JOB_COLUMNS = "id, kind, status, progress, result, error, actor, attempts, created_at, finished_at"
LIST = Statement(
    f"""
    SELECT {JOB_COLUMNS} FROM ops.jobs
    WHERE ($1::text IS NULL OR actor = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::text IS NULL OR status = $4)
      AND ($5::text IS NULL OR kind = $5)
      AND ($6::timestamptz IS NULL OR (created_at, id) < ($6, $7::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $8
    """  # noqa: S608 - constants
)
CANCEL = Statement(
    f"""
    UPDATE ops.jobs SET status = 'cancelled', finished_at = now(), lease_until = NULL
    WHERE id = $1 AND (status = 'queued' OR (status = 'running' AND kind = ANY($2::text[])))
    RETURNING {JOB_COLUMNS}
    """  # noqa: S608 - constants
)
FORGET = Statement(
    """
    DELETE FROM ops.jobs WHERE id IN (
        SELECT id FROM ops.jobs
        WHERE status IN ('succeeded', 'failed', 'cancelled')
          AND created_at < now() - make_interval(days => $1)
          AND finished_at < now() - make_interval(days => $1)
        ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED)
    """
)

__all__ = ["CANCEL", "FORGET", "GET", "LIST"]
