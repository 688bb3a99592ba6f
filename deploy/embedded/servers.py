"""The four services that the platform needs, and which server gives each of them here.

    service     process     URL
    nats        nats        nats://
    postgres    postgres    postgresql://
    redis       valkey      redis://
    ollama      models      http://

With TLS the schemes are tls, rediss and https, and a process more stands before two of them.
The supervisor and the test servers are made from the same plan.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from deploy.embedded import models, nats_server, probes, refusal, valkey_server
from deploy.embedded.certificates import Secured
from deploy.embedded.folder import PROJECT, DataFolder
from deploy.embedded.ports import LOOPBACK, SERVICES, USUAL_PORTS, Ports
from deploy.embedded.postgres_server import Postgres
from deploy.embedded.spec import Spec, module

NATS_MONITOR_PORT = 8222
DOORS = {"postgres": "postgres", "valkey": "redis"}  # whose wheel knows no TLS, and its service
SCHEMES = {
    "nats": "nats",
    "tls": "nats",
    "postgres": "postgres",
    "postgresql": "postgres",
    "redis": "redis",
    "rediss": "redis",
    "http": "ollama",
    "https": "ollama",
}


@dataclass(frozen=True)
class Plan:
    """What is to be started, and where each service will be; URLs hold passwords."""

    specs: tuple[Spec, ...]
    urls: dict[str, str]


def plan(
    folder: DataFolder, ports: Ports, want: Collection[str], *, durable: bool, fixed: bool,
    tls: Secured | None = None,
) -> Plan:  # fmt: skip
    """The servers of the wanted services; `fixed` prefers their usual ports.

    Raises:
        Refused: A server cannot run here, or its data is of another version.
    """
    specs: list[Spec] = []
    urls: dict[str, str] = {}
    usual = USUAL_PORTS if fixed else dict.fromkeys(SERVICES, 0)
    taken = {name: ports.take(name, usual[name]) for name in SERVICES if name in want}
    if "nats" in taken:
        monitor = ports.take("nats.monitor", NATS_MONITOR_PORT if fixed else 0)
        specs.append(nats_server.spec(folder, taken["nats"], monitor, durable=durable, tls=tls))
        urls["nats"] = nats_server.url(taken["nats"], tls=tls)
    if "postgres" in taken:
        postgres = Postgres(folder, taken["postgres"], durable=durable, tls=tls)
        specs.append(postgres.spec())
        urls["postgres"] = postgres.url()
    if "redis" in taken:
        specs.append(valkey_server.spec(folder, taken["redis"], durable=durable, tls=tls))
        urls["redis"] = valkey_server.url(folder, taken["redis"], tls=tls)
    if "ollama" in taken:
        specs.append(models.spec(taken["ollama"], tls=tls))
        urls["ollama"] = models.url(taken["ollama"], tls=tls)
    if tls is not None and {"postgres", "redis"} & set(taken):
        specs.append(doors(folder, taken, tls))
    return Plan(tuple(specs), urls)


def doors(folder: DataFolder, taken: Mapping[str, int], tls: Secured) -> Spec:
    """The process that speaks TLS for the servers whose wheels do not."""
    sockets = folder.socket_folder()
    ports = {server: taken[name] for server, name in DOORS.items() if name in taken}
    behind = {"postgres": f".s.PGSQL.{ports.get('postgres')}", "valkey": valkey_server.SOCKET}
    wanted = [
        word
        for server, port in ports.items()
        for word in (f"--{server}", str(port), str(sockets / behind[server]))
    ]
    return Spec(
        name="tls-doors",
        role="tls-doors",
        command=module(
            "deploy.embedded.tls_doors", "--certificates", str(tls.folder.root), *wanted
        ),
        address=" ".join(f"{LOOPBACK}:{port}" for port in ports.values()),
        ready=probes.every(*(probes.listens(port) for port in ports.values())),
        folder=PROJECT,
    )


def external(urls: Sequence[str]) -> dict[str, str]:
    """Which service each URL stands for, by its scheme.

    Raises:
        Refused: A scheme is unknown, or a service is named twice (ERR_706).
    """
    found: dict[str, str] = {}
    for url in urls:
        service = SCHEMES.get(urlsplit(url).scheme)
        if service is None or not urlsplit(url).hostname:
            known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
            raise refusal.bad_argument(f"--external needs a URL that begins with one of: {known}")
        if service in found:
            raise refusal.bad_argument(f"--external names {service} twice")
        found[service] = url
    return found


def without_credentials(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
