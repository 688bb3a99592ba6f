"""SQL of the API keys. Their rows are written by recording events; secrets are in no event."""

from bus.statement import Statement

GET = Statement("SELECT * FROM identity.api_keys WHERE id = $1")
LOCK = Statement("SELECT * FROM identity.api_keys WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM identity.api_keys
    WHERE ($1::text IS NULL OR owner_id = $1)
      AND ($2::timestamptz IS NULL OR (created_at, id) < ($2, $3::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $4
    """
)
RESOLVE = Statement(
    """
    SELECT s.secret_hash, s.not_after, k.expires_at, k.owner_id, k.roles, k.scopes
    FROM identity.key_secrets s JOIN identity.api_keys k ON k.id = s.key_id
    WHERE s.prefix = $1 AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now())
      AND (s.not_after IS NULL OR s.not_after > now())
    """
)
ADD_SECRET = Statement(
    """
    INSERT INTO identity.key_secrets (prefix, key_id, secret_hash, made_by)
    VALUES ($1, $2, $3, $4)
    """
)
END_SECRETS = Statement(
    """
    UPDATE identity.key_secrets SET not_after = least(not_after, $2) WHERE key_id = $1
    """
)
SECRET = Statement("SELECT 1 AS found FROM identity.key_secrets WHERE prefix = $1")
