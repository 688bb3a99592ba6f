"""The platform's own processes, as data, and what they are told about their surroundings.

First the programs that bring database and bus up to date, each to its end; then the long-running
ones. They learn everything from the environment and from secret files: one file for each URL,
because a URL holds a password and an environment can be read by others.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from bus import passwords
from deploy.embedded import probes
from deploy.embedded.certificates import Secured, edge_host
from deploy.embedded.folder import PROJECT, DataFolder, write_private
from deploy.embedded.ports import LOOPBACK, Ports
from deploy.embedded.postgres_server import by_socket
from deploy.embedded.spec import Once, Spec, module

START_S_MAX = 90.0
GRACE_S = 35.0  # a process drains for 30 s
EDGE_PORT = 8009
SECRET_URLS = ("nats", "postgres", "redis")


@dataclass(frozen=True)
class Program:
    """A program of the platform; `copies` of it run side by side.

    One that `renews` a role runs again whenever a process of that role was restarted.
    """

    name: str
    command: tuple[str, ...]
    copies: int = 1
    renews: str | None = None


@dataclass(frozen=True)
class Platform:
    """What is done once the servers run, to its end, and what then runs for long, side by side."""

    first: tuple[Program, ...]
    programs: tuple[Program, ...]


def platform(handlers: int) -> Platform:
    """Bring database and bus up to date; then the layers, then the edge."""
    return Platform(
        first=(
            Program("migrate", module("bus", "migrate")),
            Program("apply", module("bus", "apply"), renews="nats"),  # LIVE is in memory
        ),
        programs=(
            Program("handlers", module("handlers"), handlers),
            Program("edge", module("edge")),
        ),
    )


def surroundings(
    folder: DataFolder, urls: Mapping[str, str], edge_port: int, admin: Mapping[str, str],
    tls: Secured | None = None,
) -> dict[str, str]:  # fmt: skip
    """The environment of every platform process; writes the addresses for the operator."""
    addresses = dict(urls) | {"postgres": runtime_postgres(folder, urls["postgres"], tls)}
    for service in SECRET_URLS:
        write_private(folder.secrets / f"portal_{service}_url", addresses[service])
    return {
        "PORTAL_DATA": str(folder.root),
        "PORTAL_SECRETS": str(folder.secrets),
        "PORTAL_OLLAMA_URL": urls["ollama"],
        "PORTAL_EDGE_HOST": edge_host(),
        "PORTAL_EDGE_PORT": str(edge_port),
        "PORTAL_PUBLIC_URL": os.environ.get("PORTAL_PUBLIC_URL") or f"http://localhost:{edge_port}",
        "PYTHONUNBUFFERED": "1",
        **admin,
        **(tls.environment(edge_port) if tls else {"PORTAL_TLS": "off"}),
    }


def runtime_postgres(folder: DataFolder, admin_url: str, tls: Secured | None) -> str:
    """The database as what the platform runs as; writes what only migrations may know."""
    kept = folder.of_migrations / passwords.RUNTIME_FILE
    known = passwords.password_of(kept.read_text()) if kept.exists() else None
    runtime = passwords.as_role(admin_url, passwords.RUNTIME_ROLE, known)
    if tls is None:
        runtime = by_socket(runtime, folder)
    write_private(kept, runtime)
    write_private(folder.of_migrations / "portal_postgres_url", admin_url)
    return runtime


def once(program: Program, environment: Mapping[str, str], folder: DataFolder) -> Once:
    """A program that runs to its end; migrations alone have the administrator's password."""
    if program.name == "migrate":
        environment = {**environment, "PORTAL_SECRETS": str(folder.of_migrations)}
    return Once(program.name, program.command, environment, PROJECT)


def specs(
    program: Program, environment: Mapping[str, str], ports: Ports, edge_port: int,
    tls: Secured | None = None,
) -> list[Spec]:  # fmt: skip
    """The processes of one program."""
    names = [f"{program.name}-{number}" for number in range(1, program.copies + 1)]
    return [
        spec(name, program, environment, ports, edge_port, tls)
        for name in (names if program.copies > 1 else [program.name])
    ]


def spec(
    name: str, program: Program, environment: Mapping[str, str], ports: Ports, edge_port: int,
    tls: Secured | None,
) -> Spec:  # fmt: skip
    """One process; its private health port says whether it is ready and whether it lives."""
    health = ports.take(f"{name}.health", 0)
    trust = tls.trust if tls else None
    return Spec(
        name=name,
        role=program.name,
        command=program.command,
        address=f"{LOOPBACK}:{edge_port if program.name == 'edge' else health}",
        ready=probes.http(health, "/health/ready", trust=trust),
        alive=probes.http(health, "/health/live", trust=trust),
        environment={
            **environment,
            "PORTAL_HEALTH_PORT": str(health),
            "PORTAL_SECRETS": f"{environment['PORTAL_SECRETS']}/{program.name}",
        },
        folder=PROJECT,
        start_s_max=START_S_MAX,
        grace_s=GRACE_S,
    )
