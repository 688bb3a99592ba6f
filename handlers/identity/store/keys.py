"""SQL of API keys, their secrets and uses."""

from bus.statement import Statement

GET = Statement(
    """
    SELECT k.*, coalesce(u.uses, 0) AS uses, u.last_used_at
    FROM identity.api_keys k LEFT JOIN identity.key_uses u ON u.key_id = k.id WHERE k.id = $1
    """
)
LOCK = Statement("SELECT * FROM identity.api_keys WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT k.*, coalesce(u.uses, 0) AS uses, u.last_used_at
    FROM identity.api_keys k LEFT JOIN identity.key_uses u ON u.key_id = k.id
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $6
    """
)
RESOLVE = Statement(
    """
    SELECT s.secret_hash, s.not_after, k.id, k.expires_at, k.owner_id, k.roles, k.scopes,
           u.status AS owner_status, u.roles AS owner_roles
    FROM identity.key_secrets s JOIN identity.api_keys k ON k.id = s.key_id
        LEFT JOIN identity.users u ON u.id::text = k.owner_id
    WHERE s.prefix = $1 AND k.revoked_at IS NULL
      AND (k.expires_at IS NULL OR k.expires_at > now())
      AND (s.not_after IS NULL OR s.not_after > now())
    """
)
STANDING = Statement(
    """
    SELECT k.id, k.expires_at, k.owner_id, k.roles, k.scopes,
           u.status AS owner_status, u.roles AS owner_roles
    FROM identity.api_keys k LEFT JOIN identity.users u ON u.id::text = k.owner_id
    WHERE k.id = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
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
GOOD_OF = Statement(
    """
    SELECT * FROM identity.api_keys
    WHERE owner_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    ORDER BY id FOR UPDATE
    """
)
KEYED = Statement(
    """
    SELECT 1 AS found FROM identity.api_keys
    WHERE owner_id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    LIMIT 1
    """
)
COUNT_USES = Statement(
    """
    INSERT INTO identity.key_uses AS u (key_id, uses, last_used_at)
    SELECT k.id, given.count, given.last_at
    FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS given (id, count, last_at)
        JOIN identity.api_keys k ON k.id = given.id
    ORDER BY k.id
    ON CONFLICT (key_id) DO UPDATE
    SET uses = u.uses + excluded.uses,
        last_used_at = greatest(u.last_used_at, excluded.last_used_at)
    RETURNING key_id
    """
)
SECRET = Statement("SELECT 1 AS found FROM identity.key_secrets WHERE prefix = $1")
