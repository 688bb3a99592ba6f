"""SQL of kept secrets. Their rows are written by recording events; values are in no event."""

from bus.statement import Statement

LOCK = Statement("SELECT pg_advisory_xact_lock(hashtext('vault.secrets'), hashtext($1))")
BY_NAME = Statement("SELECT * FROM vault.secrets WHERE name = $1")
LIST = Statement(
    """
    SELECT * FROM vault.secrets
    WHERE deleted_at IS NULL
      AND ($1::timestamptz IS NULL OR (created_at, id) < ($1, $2::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $3
    """
)
SEALED = Statement(
    """
    SELECT v.secret_id, v.sealed FROM vault.sealed v JOIN vault.secrets s ON s.id = v.secret_id
    WHERE s.name = $1 AND s.deleted_at IS NULL
    """
)
KEEP = Statement(
    """
    INSERT INTO vault.sealed (secret_id, sealed) VALUES ($1, $2)
    ON CONFLICT (secret_id) DO UPDATE SET sealed = excluded.sealed
    """
)
FORGET = Statement("DELETE FROM vault.sealed WHERE secret_id = $1")
