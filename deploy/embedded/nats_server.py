"""The bus: nats-server with JetStream, from its wheel.

The configuration file is written anew at each start; what lasts is the store and the NKey seeds,
one for each role, in `secrets/nats`. What a role may do is in `deploy/nats/accounts.conf`.
`sync_interval: always` makes an acknowledged message safe against power loss, not only against a
crash (design §12, trap 11).
"""

import json
import os
import shutil
import signal
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bus.certificate_folder import TRUST
from deploy.embedded import probes, refusal
from deploy.embedded.certificates import Secured
from deploy.embedded.folder import DataFolder, write_private
from deploy.embedded.ports import LOOPBACK
from deploy.embedded.spec import Spec
from deploy.nats import keys
from deploy.nats.server import configuration as configuration_of

CONFIGURATION = """\
server_name: {name}
host: "{host}"
port: {port}
{http}: "{host}:{monitor}"
jetstream {{
  store_dir: {store}
  max_memory_store: 512MB
{sync}
}}
"""
TLS = """\
tls {{
  cert_file: {own}
  key_file: {own}
  ca_file: {trust}
  verify: true
  handshake_first: true
  min_version: "1.2"
  timeout: 3
  cipher_suites: [
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
  ]
}}
"""
CLUSTER = """\
cluster {{
  name: portal
  host: "{host}"
  port: {port}
  authorization {{
    user: route
    password: "{password}"
    timeout: 2
  }}
  routes: {routes}
  {advertise}
}}
"""
DURABLE = "  sync_interval: always"


@dataclass(frozen=True)
class Member:
    """One of several servers that are one bus.

    Args:
        name: Of the server.
        port: On which the others find it.
        routes: Ports on which it finds the others.
        advertised: Port that it tells others to connect to, if not its own.
    """

    name: str
    port: int
    routes: tuple[int, ...]
    advertised: int | None = None


def spec(
    folder: DataFolder, port: int, monitor: int, *, durable: bool, tls: Secured | None = None,
    member: Member | None = None,
) -> Spec:  # fmt: skip
    """The server of this data folder, or one of several."""
    process = member.name if member else "nats"
    home = folder.of(process)
    configuration = home / "nats.conf"
    keys.ensure(folder.nats_seeds)
    server = CONFIGURATION.format(
        name=member.name if member else "portal",
        host=LOOPBACK,
        port=port,
        monitor=monitor,
        http="https" if tls else "http",
        store=json.dumps(str(home)),
        sync=DURABLE if durable else "",
    )
    if member:
        server += meeting(member, folder.password("nats-routes"))
    if tls:
        server += mutual_tls(tls.file("nats"), tls.file(TRUST))
    text = configuration_of(server, keys.variables(folder.nats_seeds))
    write_private(configuration, text)
    return Spec(
        name=process,
        role="nats",
        command=(binary(), "-c", str(configuration)),
        address=f"{LOOPBACK}:{port}",
        ready=probes.http(monitor, "/healthz", b"ok", trust=tls.trust if tls else None),
        orphan_signal=signal.SIGTERM,
        environment={"GOMAXPROCS": str(threads())},
        watched=(tls.file("nats"), tls.file(TRUST)) if tls else (),
    )


def threads() -> int:
    """How many of its threads run at once: half of the cores.

    Beside the other processes more of them only wake each other up: on two cores a read over the
    bus took it 0.13 ms of CPU with two, 0.08 with one.
    """
    return max(1, (os.cpu_count() or 1) // 2)


def meeting(member: Member, password: str) -> str:
    """The block by which the servers of one bus find each other."""
    routes = [f"nats://route:{password}@{LOOPBACK}:{port}" for port in member.routes]
    told = f'advertise: "{LOOPBACK}:{member.advertised}"' if member.advertised else ""
    return CLUSTER.format(
        host=LOOPBACK, port=member.port, password=password, routes=json.dumps(routes),
        advertise=told,
    )  # fmt: skip


def mutual_tls(own: Path, trust: Path) -> str:
    """The block that lets in only who shows a certificate of ours; it is read again at SIGHUP."""
    return TLS.format(own=json.dumps(str(own)), trust=json.dumps(str(trust)))


def url(port: int, *, tls: Secured | None = None) -> str:
    """Where it is; who comes in says so by a seed."""
    return f"{'tls' if tls else 'nats'}://{LOOPBACK}:{port}"


def binary() -> str:
    """The nats-server of this environment, or of the system.

    Raises:
        Refused: There is none (ERR_704).
    """
    beside_python = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = beside_python if beside_python.exists() else shutil.which("nats-server")
    if found is None:
        raise refusal.cannot_run("nats", "nats-server is missing; install the extra 'embedded'")
    return str(found)
