"""SQL of OAuth clients and their secrets."""

from bus.statement import Statement

GET = Statement("SELECT * FROM identity.oauth_clients WHERE id = $1")
LOCK = Statement("SELECT * FROM identity.oauth_clients WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM identity.oauth_clients
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::text IS NULL OR status = $4)
      AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $7
    """
)
STANDING = Statement(
    """
    SELECT c.*, u.status AS owner_status, u.roles AS owner_roles
    FROM identity.oauth_clients c LEFT JOIN identity.users u ON u.id::text = c.owner_id
    WHERE c.id = $1 AND c.status = 'active'
    """
)
ACTIVE = Statement("SELECT * FROM identity.oauth_clients WHERE id = $1 AND status = 'active'")
HOLD = Statement(
    "SELECT * FROM identity.oauth_clients WHERE id = $1 AND status = 'active' FOR SHARE"
)
ADD_SECRET = Statement(
    """
    INSERT INTO identity.client_secrets (prefix, client_id, secret_hash, made_by)
    VALUES ($1, $2, $3, $4)
    """
)
SECRETS = Statement(
    """
    SELECT prefix, secret_hash FROM identity.client_secrets
    WHERE client_id = $1 AND (not_after IS NULL OR not_after > now())
    """
)
END_SECRETS = Statement(
    """
    UPDATE identity.client_secrets SET not_after = least(not_after, $2) WHERE client_id = $1
    """
)
SESSIONS = Statement(
    """
    SELECT * FROM identity.sessions
    WHERE client_id = $1 AND ended_at IS NULL AND expires_at > now() ORDER BY id FOR UPDATE
    """
)
DROP_CODES = Statement(
    "DELETE FROM identity.authorization_codes WHERE client_id = $1 AND used_at IS NULL"
)
