"""Settings of one process: environment and secret files, read once, checked before anything opens.

Every setting is an environment variable `PORTAL_<NAME>` or, better for URLs with passwords, a file
of that lower-case name in the folder `PORTAL_SECRETS`. Read only in `__main__` modules.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

EXIT_BAD_SETTINGS = 2
SECURE = {"nats_url": ("tls://", "wss://"), "redis_url": ("rediss://",)}


class Settings(BaseSettings):
    """Where the servers are and how this process behaves."""

    model_config = SettingsConfigDict(env_prefix="PORTAL_", frozen=True, extra="forbid")

    nats_url: SecretStr = Field(
        SecretStr("nats://127.0.0.1:4222"), description="NATS servers, comma separated."
    )
    postgres_url: SecretStr = Field(
        SecretStr("postgresql://portal@127.0.0.1:5432/portal"), description="The database."
    )
    redis_url: SecretStr = Field(
        SecretStr("redis://127.0.0.1:6379"), description="Caches and rate counters."
    )
    ollama_url: str = Field("http://127.0.0.1:11434", description="The model server.")
    chat_model: str = Field("smollm2:135m", description="Model used unless an agent names one.")
    embedding_model: str = Field("all-minilm:latest", description="Model of document vectors.")
    data: Path = Field(Path(".portal"), description="Folder of this installation's own files.")
    secrets: Path | None = Field(None, description="Folder of secret files and signing keys.")
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
    health_port: int = Field(0, description="Private port of health and metrics; 0 picks one.")
    bootstrap_key_id: str | None = Field(None, description="Id of the first admin key.")
    bootstrap_key_hash: str | None = Field(None, description="SHA-256 of its secret, hex.")
    bootstrap_setup_hash: str | None = Field(
        None, description="SHA-256 of the one-time token that creates the first administrator."
    )
    streams_replicas: int = Field(1, ge=1, le=5, description="Copies of each stream.")
    pool_size: int = Field(10, ge=1, le=100, description="Database connections of one process.")
    statement_cache: bool = Field(True, description="Off behind PgBouncer in transaction mode.")
    rate_per_minute: int = Field(
        600_000, ge=1, description="Requests a minute for one service credential."
    )
    token_cache: int = Field(
        4096, ge=0, description="Verified access tokens that one edge remembers; 0 is none."
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
            for name, secure in SECURE.items():
                urls = getattr(self, name).get_secret_value().split(",")
                if not all(url.strip().startswith(secure) for url in urls):
                    raise ValueError(f"with PORTAL_TLS=on {name} must begin with {secure[0]}")
        return self


def load() -> Settings:
    """Read the settings of this process, or list every bad one and exit with status 2."""
    folder = os.environ.get("PORTAL_SECRETS")
    try:
        return Settings(_secrets_dir=folder if folder and Path(folder).is_dir() else None)
    except ValidationError as bad:
        for error in bad.errors():
            name = "PORTAL_" + "_".join(str(part) for part in error["loc"]).upper()
            print(f"bad setting {name}: {error['msg']}", file=sys.stderr)
        raise SystemExit(EXIT_BAD_SETTINGS) from None
