"""SQL of the bus credentials. Rows are written by recording events; secrets are in no event."""

from bus.statement import Statement

LOCK = Statement("SELECT * FROM credentials.bus_credentials WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM credentials.bus_credentials
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $6
    """
)
ADD_SECRET = Statement(
    """
    INSERT INTO credentials.secrets (credential_id, secret_hash, made_by) VALUES ($1, $2, $3)
    """
)
GOOD = Statement(
    """
    SELECT c.key_id, s.secret_hash FROM credentials.bus_credentials c
    JOIN credentials.secrets s ON s.credential_id = c.id
    WHERE c.id = $1 AND c.revoked_at IS NULL
    """
)
