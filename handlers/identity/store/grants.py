"""SQL of grants."""

from bus.statement import Statement

GET = Statement("SELECT * FROM identity.grants WHERE id = $1")
LOCK = Statement("SELECT * FROM identity.grants WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM identity.grants
    WHERE withdrawn_at IS NULL
      AND ($1::text IS NULL OR subject = $1)
      AND ($2::text IS NULL OR thing = $2)
      AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $5
    """
)
COUNT = Statement("SELECT count(*) AS found FROM identity.grants WHERE withdrawn_at IS NULL")
RULES = Statement(
    """
    SELECT id, subject, permission, thing, allow FROM identity.grants
    WHERE withdrawn_at IS NULL AND ($1::uuid IS NULL OR id > $1) ORDER BY id LIMIT $2
    """
)
