"""The data folder: everything that one installation keeps, and nothing outside of it.

    ports.json   secrets/   certificates/   logs/   run/ (lock, state.json, pids/)
    nats/   postgres/   valkey/

It is private to its user (0700). The one exception to "nothing outside" is the folder of the
Postgres socket: a Unix socket path has room for 107 bytes, so below a deep data folder it moves
to a short private folder in the temp dir, removed at stop.
"""

import contextlib
import errno
import hashlib
import os
import pwd
import secrets
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from deploy.embedded import refusal

PROJECT = Path(__file__).resolve().parents[2]
FREE_MB_MIN = 512
SOCKET_PATH_BYTES_MAX = 106
SOCKET_NAME_BYTES = len("/.s.PGSQL.65535")
PASSWORD_BYTES = 24


class DataFolder:
    """The folders and files of one installation; made on demand, readable by their owner only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.secrets = root / "secrets"
        self.of_migrations = self.secrets / "migrate"
        self.logs = root / "logs"
        self.run = root / "run"
        self.pids = self.run / "pids"
        self.lock = self.run / "lock"
        self.state = self.run / "state.json"
        self.ports = root / "ports.json"
        self.admin_key = self.secrets / "admin.key"
        self.nats_seeds = self.secrets / "nats"

    @property
    def made_admin_key(self) -> str | None:
        """Where the admin key is kept, if there is one."""
        return str(self.admin_key) if self.admin_key.exists() else None

    def make(self) -> None:
        """Make the folders and see that there is room.

        Raises:
            Refused: The folder cannot be made or written (ERR_701), the disk is full (ERR_702).
        """
        try:
            folders = (self.root, self.secrets, self.of_migrations, self.logs, self.run, self.pids)
            for path in folders:
                path.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(self.run / "probe", "writable?")
            (self.run / "probe").unlink()
        except OSError as failed:
            if failed.errno == errno.ENOSPC:
                raise refusal.no_space(self.root, 0, FREE_MB_MIN) from None
            raise refusal.unusable_folder(self.root, failed.strerror) from None
        free_mb = shutil.disk_usage(self.root).free // 2**20
        if free_mb < FREE_MB_MIN:
            raise refusal.no_space(self.root, free_mb, FREE_MB_MIN)

    def certificates(self) -> Path:
        """Where the certificates are: `PORTAL_CERTIFICATES`, or below this folder."""
        named = os.environ.get("PORTAL_CERTIFICATES") or self.root / "certificates"
        return Path(named).expanduser().resolve()

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def of(self, server: str) -> Path:
        """A server's own folder, made if missing."""
        path = self.root / server
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    def password(self, server: str) -> str:
        """The password of a server, made at first use."""
        return self.kept(f"{server}.password", lambda: secrets.token_urlsafe(PASSWORD_BYTES))

    def kept(self, name: str, make: Callable[[], str]) -> str:
        """The secret of that name; made and kept if there is none."""
        path = self.secrets / name
        if not path.exists():
            write_private(path, make())
        return path.read_text().strip()

    def socket_folder(self) -> Path:
        """Where a Unix socket with its path fits; made if missing, private."""
        path = self.run / "sockets"
        if len(os.fsencode(path)) + SOCKET_NAME_BYTES > SOCKET_PATH_BYTES_MAX:
            digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:10]
            path = Path(tempfile.gettempdir()) / f"portal-{os.getuid()}-{digest}"
        path.mkdir(mode=0o700, exist_ok=True)
        if path.is_symlink() or path.stat().st_uid not in (os.getuid(), nobody_uid()):
            raise refusal.unusable_folder(path, "it belongs to somebody else")
        return path

    def forget_run(self) -> None:
        """Remove what only a running installation has; the lock is removed by its holder."""
        self.state.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            shutil.rmtree(self.socket_folder())


def chosen() -> DataFolder:
    """The data folder of this command: `PORTAL_DATA`, or `.portal` in the project's folder."""
    named = os.environ.get("PORTAL_DATA") or PROJECT / ".portal"
    return DataFolder(Path(named).expanduser().resolve())


def nobody_uid() -> int:
    """Whom Postgres runs as where root may not and user namespaces are refused; -1 if nobody."""
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return -1


def write_private(path: Path, text: str) -> None:
    """Replace a file by `text`, all or nothing, readable by its owner only."""
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        Path(part).replace(path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
