"""SQL of sessions, their cookies and refresh tokens, and of signing keys."""

from bus.statement import Statement

GET = Statement("SELECT * FROM identity.sessions WHERE id = $1")
LOCK = Statement("SELECT * FROM identity.sessions WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM identity.sessions
    WHERE ($1::text IS NULL OR owner_id = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND (NOT $4 OR (ended_at IS NULL AND expires_at > now()))
      AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $7
    """
)
OPEN_OF = Statement(
    """
    SELECT * FROM identity.sessions
    WHERE owner_id = $1 AND ended_at IS NULL AND expires_at > now() AND kind <> 'run'
    ORDER BY id FOR UPDATE
    """
)
ADD_COOKIE = Statement(
    """
    INSERT INTO identity.cookies (prefix, session_id, secret_hash, used_at)
    VALUES ($1, $2, $3, $4)
    """
)
COOKIE = Statement(
    """
    SELECT c.secret_hash, c.used_at, s.*
    FROM identity.cookies c JOIN identity.sessions s ON s.id = c.session_id WHERE c.prefix = $1
    """
)
USE_COOKIE = Statement("UPDATE identity.cookies SET used_at = $2 WHERE prefix = $1")
ADD_REFRESH = Statement(
    """
    INSERT INTO identity.refresh_tokens (prefix, session_id, secret_hash) VALUES ($1, $2, $3)
    ON CONFLICT (prefix) DO NOTHING
    """
)
LOCK_REFRESH = Statement("SELECT * FROM identity.refresh_tokens WHERE prefix = $1 FOR UPDATE")
USE_REFRESH = Statement("UPDATE identity.refresh_tokens SET used_at = $2 WHERE prefix = $1")
FORGET_OLD = Statement(
    """
    WITH gone AS (SELECT id FROM identity.sessions WHERE expires_at < now() - interval '1 day'),
    cookies AS (DELETE FROM identity.cookies WHERE session_id IN (SELECT id FROM gone))
    DELETE FROM identity.refresh_tokens WHERE session_id IN (SELECT id FROM gone)
    """
)
SIGNING = Statement(
    """
    SELECT k.*, s.sealed FROM identity.signing_keys k JOIN identity.signing_secrets s USING (id)
    WHERE k.signs_from <= $1 AND (k.verifies_until IS NULL OR k.verifies_until > $1)
    ORDER BY k.signs_from DESC, k.id DESC LIMIT 1
    """
)
VERIFYING = Statement(
    """
    SELECT * FROM identity.signing_keys WHERE verifies_until IS NULL OR verifies_until > $1
    ORDER BY created_at, id
    """
)
NEWEST_SIGNING = Statement(
    "SELECT * FROM identity.signing_keys ORDER BY signs_from DESC, id DESC LIMIT 1"
)
LOCK_SIGNING = Statement("SELECT pg_advisory_xact_lock(hashtext('identity.signing_keys'))")
ADD_SIGNING = Statement("INSERT INTO identity.signing_secrets (id, sealed) VALUES ($1, $2)")
