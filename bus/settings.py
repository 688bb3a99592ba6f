"""Settings of one process: environment, files and secret providers, checked before anything opens.

A setting is an environment variable `PORTAL_<NAME>` or a file of that lower-case name in the folder
`PORTAL_SECRETS`. Secrets come through the chain of `bus/secrets.py`. Whatever is wrong is listed at
once, a name that is no setting too, and the process ends with status 2. Read only in `__main__`.
"""

import difflib
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    Field,
    IPvAnyNetwork,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from bus.secrets import (
    Chain,
    Environment,
    Files,
    Provider,
    SecretRead,
    SecretsUnavailable,
    Vault,
)
from schemas.principal import Role

EXIT_BAD_SETTINGS = 2
SECURE = {"nats_url": ("tls://", "wss://"), "redis_url": ("rediss://",)}
EXIT_UNAVAILABLE = 1
NEAR = 0.75
PREFIX = "PORTAL_"
OF_THE_COMMAND_LINE = ("PORTAL_URL", "PORTAL_API_KEY")
"""What `portal` reads itself; who starts a process from that shell hands them on."""


class Sources(BaseSettings):
    """What must be known before a secret can be read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    environment: Literal["production", "development"] = Field(
        "production", description="In `development` secrets may stand in the environment."
    )
    secrets: Path | None = Field(None, description="Folder of secret files and signing keys.")
    vault_url: str | None = Field(None, description="OpenBao or Vault, asked after the files.")
    vault_path: str = Field(
        "secret/story-portal",
        pattern=r"^[^/]+/.+$",
        description="Its KV version 2 secret: mount, then path.",
    )
    vault_token_file: Path | None = Field(None, description="File with a token for it.")
    vault_role_file: Path | None = Field(
        None, description="File with role id and secret id of an AppRole, instead of a token."
    )
    vault_ca_file: Path | None = Field(None, description="CA of its certificate.")


class Settings(Sources):
    """Where the servers are and how this process behaves."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    nats_url: SecretStr = Field(
        SecretStr("nats://127.0.0.1:4222"), description="NATS servers, comma separated."
    )
    nats_role: str | None = Field(
        None, pattern="^[a-z]+$", description="This process's NATS user; names its inbox."
    )
    nats_seed: SecretStr | None = Field(
        None, description="The NKey seed of that user; without it the URL says who this is."
    )
    gatekeeper_seed: SecretStr | None = Field(
        None, description="NKey seed of the NATS user that lets integrators in."
    )
    issuer_seed: SecretStr | None = Field(
        None, description="NKey seed that signs what integrators may do on the bus."
    )
    postgres_url: SecretStr = Field(
        SecretStr("postgresql://portal@127.0.0.1:5432/portal"), description="The database."
    )
    runtime_postgres_url: SecretStr | None = Field(
        None, description="Migrations only: the database as `app_user`, who gets this password."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379"), description="Caches and rate counters."
    )
    master_key: SecretStr | None = Field(
        None, description="Master keys, where they are not in the file `master.key`."
    )
    ollama_url: str = Field("http://127.0.0.1:11434", description="The model server.")
    chat_model: str = Field("smollm2:135m", description="Model used unless an agent names one.")
    embedding_model: str = Field("all-minilm:latest", description="Model of document vectors.")
    data: Path = Field(Path(".portal"), description="Folder of this installation's own files.")
    tls: Literal["off", "on"] = Field("off", description="On: TLS on every port and connection.")
    certificates: Path | None = Field(
        None, description="Folder of certificates; `certificates` below the data folder if unset."
    )
    edge_host: str = Field("127.0.0.1", description="Address the edge listens on.")
    edge_port: int = Field(8009, description="Port the edge listens on.")
    public_url: str = Field(
        "http://localhost:8009",
        pattern=r"^https?://[^/\s]+$",
        description="How people reach the edge; the issuer of tokens.",
    )
    cors_origins: tuple[str, ...] = Field(
        ("http://localhost:3000",), description="Origins that browsers may call from."
    )
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (), description="Networks of proxies whose X-Forwarded-For, Forwarded and -Proto count."
    )
    edge_processes: int = Field(
        1, ge=1, le=1000, description="Edge processes that share the limits while Redis is away."
    )
    health_port: int = Field(0, description="Private port of health and metrics; 0 picks one.")
    bootstrap_key_id: str | None = Field(None, description="Id of the first admin key.")
    bootstrap_key_hash: str | None = Field(None, description="SHA-256 of its secret, hex.")
    bootstrap_setup_hash: str | None = Field(
        None, description="SHA-256 of the one-time token that creates the first administrator."
    )
    oidc_issuer: str | None = Field(
        None,
        pattern=r"^https?://[^\s?#]+$",
        description="An OpenID Connect provider at which people may sign in.",
    )
    oidc_client_id: str | None = Field(None, description="What the provider calls us.")
    oidc_client_secret: SecretStr | None = Field(None, description="How we prove it to be us.")
    oidc_roles: tuple[Role, ...] = Field(
        ("viewer",),
        description="Roles of who comes from the provider for the first time; with none, only "
        "users who were linked may come.",
    )
    streams_replicas: int = Field(1, ge=1, le=5, description="Copies of each stream.")
    pool_size: int = Field(10, ge=1, le=100, description="Database connections of one process.")
    statement_cache: bool = Field(True, description="Off behind PgBouncer in transaction mode.")
    rate_per_minute: int = Field(
        600_000, ge=1, description="Requests a minute for one service credential."
    )
    interactive_per_minute: int = Field(
        100, ge=1, description="Requests a minute of people from one address; of all, ten times."
    )
    token_cache: int = Field(
        4096, ge=0, description="Verified access tokens that one edge remembers; 0 is none."
    )
    request_log_days: int = Field(30, ge=1, le=3650, description="How long requests are listed.")
    events_archive_days: int = Field(
        90, ge=31, le=3650, description="Days after which a past month of the log is archived."
    )
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain: timedelta = Field(timedelta(seconds=30), description="Longest wait at shutdown.")
    otlp_url: str | None = Field(None, description="OpenTelemetry collector, OTLP over HTTP.")
    fault: str | None = Field(None, description="Tests only: die at this named point.")

    @model_validator(mode="after")
    def no_plain_url(self) -> Self:
        """With TLS on, no password and no event leaves in plain text.

        The database's URL has one scheme for both; its driver is told. A model server may be plain:
        Ollama itself knows no TLS.
        """
        if self.tls == "on":
            for name in SECURE.keys() & self.model_fields_set:
                secure = SECURE[name]
                urls = getattr(self, name).get_secret_value().split(",")
                if not all(url.strip().startswith(secure) for url in urls):
                    raise ValueError(f"with PORTAL_TLS=on {name} must begin with {secure[0]}")
        return self

    _chain: Chain = PrivateAttr(default_factory=lambda: Chain(()))

    def provided_by(self, chain: Chain) -> "Settings":
        """The same, with the chain that its secrets came through."""
        self._chain = chain
        return self

    def again(self, name: str) -> str | None:
        """A secret as it is now; what was read at the start if no provider has it.

        Raises:
            SecretsUnavailable: A provider could not be asked.
        """
        known: SecretStr | None = getattr(self, name)
        return self._chain.read(name) or (known.get_secret_value() if known else None)

    def tell_reads(self, audit: Callable[[SecretRead], None]) -> None:
        """Tell this of every read of a secret, those of the start included."""
        self._chain.tell(audit)


SECRETS = tuple(
    name for name, f in Settings.model_fields.items() if "SecretStr" in str(f.annotation)
)


def load() -> Settings:
    """Read the settings of this process, or list every bad one and exit with status 2."""
    wrong = list(unknown(os.environ))
    try:
        sources, bad = Sources(), set[str]()
    except ValidationError as failed:
        sources, bad = Sources.model_construct(), {str(e["loc"][0]) for e in failed.errors()}
    chain = Chain(() if bad else tuple(providers(sources, os.environ)))
    given = plain_in_files(chain, os.environ) | read_secrets(chain)
    if sources.environment != "development" and "environment" not in bad:
        wrong += in_the_open(os.environ)
    try:
        settings = Settings(**given)
    except ValidationError as failed:
        wrong += [
            f"{variable(*error['loc'] or ('*',))}: {error['msg']}" for error in failed.errors()
        ]
    if wrong:
        for line in wrong:
            print(f"bad setting {line}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_SETTINGS)
    return settings.provided_by(chain)


def variable(*location: int | str) -> str:
    """The name of a setting's variable."""
    return PREFIX + "_".join(str(part) for part in location).upper()


def unknown(environment: Mapping[str, str]) -> Iterator[str]:
    """Every variable of ours that is no setting, with those it may have meant."""
    known = {variable(name) for name in Settings.model_fields} | set(OF_THE_COMMAND_LINE)
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = " or ".join(nearest(name.upper(), known))
            yield f"{name}: there is no such setting" + (f"; do you mean {near}?" if near else "")


def nearest(name: str, known: Collection[str]) -> list[str]:
    """The names that this one may be a slip of; the prefix, alike in all, does not count."""
    bare = [other.removeprefix(PREFIX) for other in known]
    close = difflib.get_close_matches(name.removeprefix(PREFIX), bare, 2, NEAR)
    return [PREFIX + other for other in close]


def providers(sources: Sources, environment: Mapping[str, str]) -> Iterator[Provider]:
    """The providers in their order."""
    systemd = environment.get("CREDENTIALS_DIRECTORY")
    if sources.secrets is not None and sources.secrets.is_dir():
        yield Files(sources.secrets)
    if systemd and Path(systemd).is_dir():
        yield Files(Path(systemd), "credentials")
    if sources.vault_url is not None:
        yield Vault(
            sources.vault_url,
            sources.vault_path,
            sources.vault_token_file,
            sources.vault_role_file,
            sources.vault_ca_file,
        )
    if sources.environment == "development":
        yield Environment(environment)


def read_secrets(chain: Chain) -> dict[str, Any]:
    """Every secret that the chain has; ends the process if a provider cannot be asked."""
    try:
        found = {name: chain.read(name) for name in SECRETS}
    except SecretsUnavailable as away:
        print(f"secrets cannot be read: {away}", file=sys.stderr)
        raise SystemExit(EXIT_UNAVAILABLE) from None
    return {name: SecretStr(value) for name, value in found.items() if value is not None}


def plain_in_files(chain: Chain, environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings that are no secrets and stand in a file beside them; the environment goes first.

    Not read by pydantic's own source, which takes no file that is a link to another folder.
    """
    plain = [
        n for n in Settings.model_fields if n not in SECRETS and variable(n) not in environment
    ]
    read = [(n, p.get(n)) for p in chain.providers if isinstance(p, Files) for n in plain]
    return {name: value for name, value in reversed(read) if value is not None}


def in_the_open(environment: Mapping[str, str]) -> Iterator[str]:
    """Every secret that stands in the environment, where it may not."""
    for name in SECRETS:
        if variable(name) in environment:
            yield (
                f"{variable(name)}: a secret in the environment is refused in production; "
                f"put it into the file {variable(name).lower()} below PORTAL_SECRETS"
            )
