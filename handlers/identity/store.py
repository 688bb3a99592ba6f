"""SQL of the API keys."""

from bus.statement import Statement

FIND = Statement(
    """
    SELECT id, secret_hash, owner_id, roles, scopes FROM identity.api_keys
    WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    """
)
BOOTSTRAP = Statement(
    """
    INSERT INTO identity.api_keys (id, name, secret_hash, owner_id, roles)
    VALUES ($1, 'bootstrap', $2, 'admin', '{admin}')
    ON CONFLICT (id) DO NOTHING
    """
)
