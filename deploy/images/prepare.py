"""`python -m deploy.images.prepare`: the secrets of a compose installation, made once.

Passwords, the URLs that hold them, server configurations, signing keys and the first admin key are
written as files into the folder `PORTAL_SECRETS`, which all services mount. What is there stays,
so it may run at every start; it never prints a secret except the admin key when it makes it.
"""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from bus import credentials

PASSWORD_BYTES = 24
SERVERS = ("nats", "postgres", "valkey")


def main() -> None:
    """Make what is missing."""
    folder = Path(os.environ["PORTAL_SECRETS"])
    folder.mkdir(parents=True, exist_ok=True)
    passwords = {
        server: kept(folder, f"{server}.password", lambda: secrets.token_urlsafe(PASSWORD_BYTES))
        for server in SERVERS
    }
    for name, text in texts(passwords).items():
        write_once(folder / name, text)
    credentials.ensure_signing_keys(folder)
    admin_key(folder)


def kept(folder: Path, name: str, make: Callable[[], str]) -> str:
    """The file's text; made if there is none."""
    write_once(folder / name, make())
    return (folder / name).read_text()


def write_once(path: Path, text: str) -> None:
    """Write the file unless it is there."""
    if not path.exists():
        credentials.write_secret(path, text.encode())


def texts(passwords: dict[str, str]) -> dict[str, str]:
    """Addresses for the platform and configurations for the servers."""
    return {
        "portal_nats_url": f"nats://portal:{passwords['nats']}@nats:4222",
        "portal_postgres_url": f"postgresql://portal:{passwords['postgres']}@postgres:5432/portal",
        "portal_redis_url": f"redis://:{passwords['valkey']}@valkey:6379/0",
        "nats.conf": NATS.format(password=passwords["nats"]),
        "valkey.conf": VALKEY.format(password=passwords["valkey"]),
    }


NATS = """\
server_name: portal
port: 4222
http: 8222
max_payload: 1MB
jetstream {{
  store_dir: "/data"
  max_memory_store: 256MB
  sync_interval: always
}}
authorization {{
  user: portal
  password: "{password}"
}}
"""
VALKEY = """\
bind 0.0.0.0
port 6379
requirepass {password}
dir /data
appendonly yes
save 300 100
maxmemory 192mb
"""


def admin_key(folder: Path) -> None:
    """The first administrator's key; shown once, kept beside the others."""
    if (folder / "admin.key").exists():
        return
    key = credentials.new_credential("key")
    credentials.write_secret(folder / "portal_bootstrap_key_id", key.id.encode())
    credentials.write_secret(folder / "portal_bootstrap_key_hash", key.secret_hash.encode())
    credentials.write_secret(folder / "admin.key", key.text.encode())
    print(f"Admin key, shown once: {key.text}", flush=True)
    token = secrets.token_urlsafe(24)
    hashed = credentials.hash_secret(token)
    credentials.write_secret(folder / "portal_bootstrap_setup_hash", hashed.encode())
    print(f"Set-up token of the first administrator, good once: {token}", flush=True)


if __name__ == "__main__":
    main()
