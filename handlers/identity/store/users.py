"""SQL of users, their passwords and failed sign-ins."""

from bus.statement import Statement

GET = Statement("SELECT * FROM identity.users WHERE id = $1")
LOCK = Statement("SELECT * FROM identity.users WHERE id = $1 FOR UPDATE")
LIST = Statement(
    """
    SELECT * FROM identity.users
    WHERE ($1::text IS NULL OR id::text = $1 OR id = ANY($2::uuid[]))
      AND NOT id = ANY($3::uuid[])
      AND ($4::text IS NULL OR status = $4)
      AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::uuid))
    ORDER BY created_at DESC, id DESC LIMIT $7
    """
)
LOCK_FIRST = Statement("SELECT pg_advisory_xact_lock(hashtext('identity.set-up'))")
ANYBODY = Statement("SELECT 1 AS found FROM identity.users LIMIT 1")
LOCK_ADMINS = Statement(
    """
    SELECT id FROM identity.users WHERE status = 'active' AND 'admin' = ANY(roles)
    ORDER BY id FOR UPDATE
    """
)
PASSWORD = Statement(
    """
    SELECT u.*, p.hash FROM identity.users u LEFT JOIN identity.passwords p ON p.user_id = u.id
    WHERE u.login = $1 AND u.status = 'active'
    """
)
PASSWORD_OF = Statement(
    """
    SELECT p.hash, u.login FROM identity.passwords p JOIN identity.users u ON u.id = p.user_id
    WHERE p.user_id = $1
    """
)
SET_PASSWORD = Statement(
    """
    INSERT INTO identity.passwords (user_id, hash) VALUES ($1, $2)
    ON CONFLICT (user_id) DO UPDATE SET hash = excluded.hash, changed_at = now()
    """
)
ATTEMPT = Statement(
    """
    INSERT INTO identity.attempts AS a (login, failures, last_at) VALUES ($1, 1, $2)
    ON CONFLICT (login) DO UPDATE
    SET failures = CASE WHEN a.last_at < $2 - interval '1 day' THEN 1 ELSE a.failures + 1 END,
        last_at = $2
    WHERE a.locked_until IS NULL OR a.locked_until <= $2
    RETURNING failures
    """
)
LOCKED_UNTIL = Statement("SELECT locked_until FROM identity.attempts WHERE login = $1")
LOCK_LOGIN = Statement("UPDATE identity.attempts SET locked_until = $2 WHERE login = $1")
FORGET_ATTEMPTS = Statement("DELETE FROM identity.attempts WHERE login = $1")
