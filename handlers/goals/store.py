"""SQL of goals, plans and tasks. Rows are written by recording events; here they are read."""

from bus.statement import Statement

GET = Statement("SELECT * FROM mcp_documents.goals WHERE id = $1")
LOCK = Statement("SELECT * FROM mcp_documents.goals WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM mcp_documents.goals
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::text IS NULL OR status = $4)
      AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $7
    """
)
GET_PLAN = Statement("SELECT * FROM mcp_documents.plans WHERE id = $1")
GET_TASK = Statement("SELECT * FROM mcp_documents.tasks WHERE id = $1")
TASKS = Statement("SELECT * FROM mcp_documents.tasks WHERE plan_id = $1 ORDER BY created_at, id")
