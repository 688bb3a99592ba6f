"""SQL of the inbox. Rows are written by recording events."""

from bus.statement import Statement

GET = Statement("SELECT * FROM human.tasks WHERE id = $1")
LOCK = Statement("SELECT * FROM human.tasks WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM human.tasks
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[])
           OR $4 IN (assignee_id, claimed_by) OR for_role = ANY($5::text[]))
      AND NOT id = ANY($3::uuid[])
      AND (NOT $6::boolean OR $4::text IN (owner_id, assignee_id, claimed_by)
           OR for_role = ANY($5::text[]))
      AND ($7::text IS NULL OR status = $7)
      AND ($8::text IS NULL OR kind = $8)
      AND ($9::text IS NULL OR for_role = $9)
      AND ($10::timestamptz IS NULL OR due_at < $10)
      AND ($11::timestamptz IS NULL OR (created_at, id) < ($11, $12::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $13
    """
)
OVERDUE = Statement(
    """
    SELECT * FROM human.tasks WHERE status = 'open' AND expires_at <= $1
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
    """
)
