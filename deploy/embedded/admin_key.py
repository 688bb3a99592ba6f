"""The first administrator's API key: made at the first start, kept in a file of its owner only.

The platform gets its id and a hash; the text is in `secrets/admin.key` and is shown once.
"""

from bus import credentials
from deploy.embedded.folder import DataFolder, write_private


def ensure(folder: DataFolder) -> tuple[dict[str, str], str | None]:
    """The settings that name the key, and its text if it was made just now."""
    if folder.admin_key.exists():
        key_id, secret = credentials.read_api_key(folder.admin_key.read_text().strip())
        return settings(key_id, credentials.hash_secret(secret)), None
    key = credentials.new_api_key()
    write_private(folder.admin_key, key.text)
    return settings(key.id, key.secret_hash), key.text


def settings(key_id: str, secret_hash: str) -> dict[str, str]:
    """How the platform is told."""
    return {"PORTAL_BOOTSTRAP_KEY_ID": key_id, "PORTAL_BOOTSTRAP_KEY_HASH": secret_hash}
