"""SQL of the jobs. Their rows are written by the bus; here they are read, cancelled, forgotten."""

from bus.recording import JOB as GET
from bus.statement import Statement

JOB_COLUMNS = "id, kind, status, progress, result, error, actor, attempts, created_at, finished_at"
LIST = Statement(
    f"""
    SELECT {JOB_COLUMNS} FROM ops.jobs
    WHERE ($1::text IS NULL OR actor = $1)
      AND ($2::text IS NULL OR status = $2)
      AND ($3::text IS NULL OR kind = $3)
      AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $6
    """  # noqa: S608 - constants
)
CANCEL = Statement(
    f"""
    UPDATE ops.jobs SET status = 'cancelled', finished_at = now()
    WHERE id = $1 AND status = 'queued' RETURNING {JOB_COLUMNS}
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
