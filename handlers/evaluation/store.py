"""SQL of the scores. Rows are written by recording events; here they are read."""

from bus.statement import Statement

LIST = Statement(
    """
    SELECT * FROM mcp_documents.quality_scores
    WHERE ($1::text IS NULL OR subject_type = $1)
      AND ($2::uuid IS NULL OR subject_id = $2)
      AND ($3::timestamptz IS NULL OR (evaluated_at, id) < ($3, $4::uuid))
    ORDER BY evaluated_at DESC, id DESC LIMIT $5
    """
)
