"""SQL of the bus credentials. Rows are written by recording events; secrets are in no event."""

from bus.statement import Statement

LOCK = Statement("SELECT * FROM credentials.bus_credentials WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM credentials.bus_credentials
    WHERE ($1::text IS NULL OR owner_id = $1)
      AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $4
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
