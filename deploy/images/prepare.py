"""`python -m deploy.images.prepare FOLDER`: the secrets of a compose installation, made once.

Passwords, the URLs that hold them, server configurations, NKey seeds, signing keys, certificates
and the first admin key are written as files into the folder `PORTAL_SECRETS`; `edge/` and
`handlers/` in it hold what these two read, and FOLDER the password of the database's owner, which
only migrations and the database mount. What is there stays, so it may run at every start; only a
certificate that is due is replaced, and the rights on the bus follow the code. It never prints a
secret except the admin key and the set-up token when it makes them.
"""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

from bus import certificates, credentials
from bus.certificate_folder import CertificateFolder, load
from bus.clock import Clock
from bus.sealing import ensure_master_key
from deploy.embedded.nats_server import mutual_tls
from deploy.nats import keys, server

PASSWORD_BYTES = 24
SERVERS = ("app_user", "valkey")
NAMED = ("nats", "postgres", "valkey", "edge")  # reached by the name of their service
CERTIFICATES = Path("/run/portal/certificates")  # as every container sees them
DATABASE = "postgresql://{role}:{password}@postgres:5432/portal"
NEEDS = {
    "edge": ("portal_nats_url", "portal_redis_url", "edge.key", "edge.pub", "handlers.pub"),
    "handlers": (
        "portal_nats_url", "portal_postgres_url", "portal_redis_url", "handlers.key",
        "handlers.pub", "edge.pub", "master.key", "portal_bootstrap_key_id",
        "portal_bootstrap_key_hash", "portal_bootstrap_setup_hash",
    ),
}  # fmt: skip
SEEDS = {
    ".": {"portal_nats_seed": "admin"},
    "edge": {"portal_nats_seed": "edge"},
    "handlers": {
        "portal_nats_seed": "handlers", "portal_gatekeeper_seed": "gatekeeper",
        "portal_issuer_seed": "issuer",
    },
}  # fmt: skip


def main(of_migrations: Path) -> None:
    """Make what is missing; what only migrations and the database may know is kept apart."""
    folder = Path(os.environ["PORTAL_SECRETS"])
    for each in (folder, of_migrations):
        each.mkdir(parents=True, exist_ok=True)
    passwords = {server: kept(folder, f"{server}.password", fresh) for server in SERVERS}
    passwords["admin"] = kept(of_migrations, "postgres.password", fresh)
    for name, text in texts(passwords).items():
        write_once(folder / name, text)
    for name, text in texts_of_migrations(passwords).items():
        write_once(of_migrations / name, text)
    credentials.ensure_signing_keys(folder)
    certify(CertificateFolder(folder / CERTIFICATES.name))
    ensure_master_key(folder)
    admin_key(folder)
    hand_out(folder)


def hand_out(folder: Path) -> None:
    """Copy what each process needs into its own folder; write the bus's configuration anew."""
    seeds = folder / "nats"
    keys.ensure(seeds)
    for place, names in NEEDS.items():
        (folder / place).mkdir(mode=0o700, exist_ok=True)
        for name in names:
            write_once(folder / place / name, (folder / name).read_text())
    for place, files in SEEDS.items():
        write_once(folder / place / "portal_nats_role", files["portal_nats_seed"])
        for name, role in files.items():
            write_once(folder / place / name, keys.seed(seeds, role))
    tls = mutual_tls(CERTIFICATES / "nats.pem", CERTIFICATES / "ca.pem")
    text = server.configuration(NATS + tls, keys.variables(seeds))
    credentials.write_secret(folder / "nats.conf", text.encode())


def fresh() -> str:
    """A password."""
    return secrets.token_urlsafe(PASSWORD_BYTES)


def kept(folder: Path, name: str, make: Callable[[], str]) -> str:
    """The file's text; made if there is none."""
    write_once(folder / name, make())
    return (folder / name).read_text()


def write_once(path: Path, text: str) -> None:
    """Write the file unless it is there."""
    if not path.exists():
        credentials.write_secret(path, text.encode())


def certify(found: CertificateFolder) -> None:
    """A certificate for each role, and each server's own name in its own."""
    at = Clock().now()
    found.init([], at)
    found.renew(at)
    for role in NAMED:
        if found.own and role not in certificates.hosts_of(load(found.of(role))[0]):
            found.issue([role], [role], at)


def texts(passwords: dict[str, str]) -> dict[str, str]:
    """Addresses for the platform and configurations for the servers."""
    return {
        "portal_nats_url": "tls://nats:4222",
        "portal_postgres_url": DATABASE.format(role="app_user", password=passwords["app_user"]),
        "portal_redis_url": f"rediss://:{passwords['valkey']}@valkey:6379/0",
        "valkey.conf": VALKEY.format(password=passwords["valkey"]),
        "pg_hba.conf": PG_HBA,
    }


def texts_of_migrations(passwords: dict[str, str]) -> dict[str, str]:
    """The database as its owner, and the password that the platform's own role is to have."""
    return {
        "portal_postgres_url": DATABASE.format(role="admin", password=passwords["admin"]),
        "portal_runtime_postgres_url": texts(passwords)["portal_postgres_url"],
    }


NATS = """\
server_name: portal
port: 4222
https: 8222
jetstream {
  store_dir: "/data"
  max_memory_store: 256MB
  sync_interval: always
}
"""
VALKEY = """\
bind 0.0.0.0
port 0
tls-port 6379
tls-cert-file /run/tls/valkey.pem
tls-key-file /run/tls/valkey.pem
tls-ca-cert-file /run/tls/ca.pem
tls-auth-clients no
tls-protocols "TLSv1.2 TLSv1.3"
tls-ciphers ECDHE+AESGCM:ECDHE+CHACHA20
tls-prefer-server-ciphers yes
requirepass {password}
dir /data
appendonly yes
save 300 100
maxmemory 192mb
"""
PG_HBA = """\
local   all all     scram-sha-256
hostssl all all all scram-sha-256
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
    main(Path(sys.argv[1]))
