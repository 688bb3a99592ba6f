"""The first credentials of an installation, made at its first start; the platform gets hashes only.

The administrator's API key is for programs and the command line: kept in `secrets/admin.key`,
shown once. The set-up token creates the first user in the browser or over REST, once; it is kept
in `secrets/setup.token`, and shown at every start until it was used.
"""

import json
import secrets
import ssl

from bus import credentials
from deploy.embedded import probes
from deploy.embedded.folder import DataFolder, write_private
from deploy.embedded.spec import NotReady

TOKEN_BYTES = 24


def ensure(folder: DataFolder) -> tuple[dict[str, str], str | None]:
    """The settings that name the key, and its text if it was made just now."""
    if folder.admin_key.exists():
        key_id, secret = credentials.read_credential("key", folder.admin_key.read_text().strip())
        return settings(key_id, credentials.hash_secret(secret)), None
    key = credentials.new_credential("key")
    write_private(folder.admin_key, key.text)
    return settings(key.id, key.secret_hash), key.text


def setup_token(folder: DataFolder) -> tuple[dict[str, str], str]:
    """The setting that names the set-up token, and its text."""
    token = folder.kept("setup.token", lambda: secrets.token_urlsafe(TOKEN_BYTES))
    return {"PORTAL_BOOTSTRAP_SETUP_HASH": credentials.hash_secret(token)}, token


async def unused_setup_token(
    folder: DataFolder, edge_port: int, trust: ssl.SSLContext | None
) -> str | None:
    """The set-up token, if the first user is still to be created with it."""
    try:
        state = json.loads(await probes.get(edge_port, "/api/v1/auth/setup", trust))
    except (NotReady, OSError, EOFError, ValueError, TimeoutError):
        return None
    return setup_token(folder)[1] if state["needed"] else None


def settings(key_id: str, secret_hash: str) -> dict[str, str]:
    """How the platform is told."""
    return {"PORTAL_BOOTSTRAP_KEY_ID": key_id, "PORTAL_BOOTSTRAP_KEY_HASH": secret_hash}
