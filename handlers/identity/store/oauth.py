"""SQL of authorization codes, and of accounts at the external provider."""

from bus.statement import Statement

ADD_CODE = Statement(
    """
    INSERT INTO identity.authorization_codes
        (code_hash, client_id, user_id, redirect_uri, scopes, challenge, expires_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
    """
)
LOCK_CODE = Statement("SELECT * FROM identity.authorization_codes WHERE code_hash = $1 FOR UPDATE")
USE_CODE = Statement(
    "UPDATE identity.authorization_codes SET used_at = $2, session_id = $3 WHERE code_hash = $1"
)
FORGET_CODES = Statement(
    "DELETE FROM identity.authorization_codes WHERE expires_at < now() - interval '1 day'"
)
OF_REFRESH = Statement(
    """
    SELECT r.secret_hash, r.used_at, s.* FROM identity.refresh_tokens r
        JOIN identity.sessions s ON s.id = r.session_id WHERE r.prefix = $1
    """
)
LOCK_SUBJECT = Statement("SELECT pg_advisory_xact_lock(hashtext('identity.external' || $1))")
OF_SUBJECT = Statement(
    """
    SELECT u.* FROM identity.external_accounts a JOIN identity.users u ON u.id = a.user_id
    WHERE a.issuer = $1 AND a.subject = $2
    """
)
LOGIN_TAKEN = Statement("SELECT 1 AS found FROM identity.users WHERE login = $1")
LINK = Statement(
    "INSERT INTO identity.external_accounts (issuer, subject, user_id) VALUES ($1, $2, $3)"
)
UNLINK = Statement("DELETE FROM identity.external_accounts WHERE user_id = $1")
