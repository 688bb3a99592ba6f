"""What is wrong with the servers, in words that say what to do."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import nats
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from bus import letters, passwords, tls
from bus.connection import connect_once_options
from bus.settings import Settings
from bus.topology import STREAMS

EXTENSIONS = ("plpgsql", "uuid-ossp", "vector", "pg_trgm", "pg_stat_statements")
TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: str
    ok: bool
    text: str


async def examine(settings: Settings) -> list[Finding]:
    """Ask every server, at the same time."""
    groups = await asyncio.gather(
        checked("postgres", postgres(settings)),
        checked("nats", bus(settings)),
        checked("redis", redis(settings)),
        checked("models", models(settings)),
        checked("keys", keys(settings)),
    )
    return [finding for group in groups for finding in group]


async def checked(part: str, looking: Any) -> list[Finding]:
    """The findings, or that the server does not answer."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            findings: list[Finding] = await looking
            return findings
    except (OSError, TimeoutError, NatsError, JetStreamError, asyncpg.PostgresError, RedisError,
            httpx2.HTTPError) as broken:  # fmt: skip
        return [Finding(part, False, f"does not answer: {broken or type(broken).__name__}")]


async def postgres(settings: Settings) -> list[Finding]:
    """Version, extensions, revision."""
    connection = await asyncpg.connect(
        settings.postgres_url.get_secret_value(), **tls.postgres_options(settings)
    )
    try:
        version = await connection.fetchval("SHOW server_version")
        there = {r["extname"] for r in await connection.fetch("SELECT extname FROM pg_extension")}
        revision = await connection.fetchval("SELECT version_num FROM public.alembic_version")
        given = {r["role"]: r["note"] for r in await connection.fetch(passwords.NOTES.text)}
        kept = await connection.fetchval("SELECT to_regclass('ops.dead_letters') IS NOT NULL")
        counted = await connection.fetch(letters.COUNT.text) if kept else []
    finally:
        await connection.close()
    missing = sorted(set(EXTENSIONS) - there)
    return [
        Finding("postgres", True, f"version {version}, revision {revision}"),
        Finding("extensions", not missing, f"missing: {missing}" if missing else "all there"),
        ages(given),
        waiting(counted),
    ]


def waiting(counted: Iterable[Mapping[str, Any]]) -> Finding:
    """Whether messages were given up that somebody has to look at."""
    rows = sorted((row["consumer"], row["state"], row["letters"]) for row in counted)
    listed = ", ".join(f"{consumer} {number} {state}" for consumer, state, number in rows)
    text = f"{listed}; `portal integration dead-letters` shows them"
    return Finding("letters", not rows, text if rows else "none is dead")


def ages(notes: Mapping[str, str | None]) -> Finding:
    """Whether a password of the database is due."""
    limit = datetime.now(UTC) - timedelta(days=passwords.AGE_DAYS_MAX)
    given = {role: passwords.given_at(note) for role, note in notes.items()}
    old = sorted(role for role, at in given.items() if at is not None and at < limit)
    text = f"older than {passwords.AGE_DAYS_MAX} days: {old}; `python -m bus rotate-passwords`"
    return Finding("passwords", not old, text if old else "none is due")


async def bus(settings: Settings) -> list[Finding]:
    """JetStream and its streams."""
    urls = settings.nats_url.get_secret_value().split(",")
    connection = await nats.connect(
        urls, **connect_once_options("doctor", settings), **tls.nats_options(settings, "admin")
    )
    try:
        info = await connection.jetstream().streams_info()
    finally:
        await connection.close()
    there = {stream.config.name for stream in info}
    missing = sorted({str(s.name) for s in STREAMS} - there)
    text = f"missing streams {missing}: run `python -m bus apply`" if missing else "all streams"
    return [Finding("nats", not missing, text)]


async def redis(settings: Settings) -> list[Finding]:
    """A ping."""
    url = settings.redis_url.get_secret_value()
    async with Redis.from_url(url, **tls.redis_options(settings)) as client:
        await client.ping()
    return [Finding("redis", True, "answers")]


async def models(settings: Settings) -> list[Finding]:
    """The two models that the platform needs."""
    verify = tls.asking(settings, public=True) or True
    async with httpx2.AsyncClient(timeout=TIMEOUT_S, verify=verify) as client:
        answer = await client.get(f"{settings.ollama_url}/api/tags")
    there = {model["name"] for model in answer.json()["models"]}
    missing = sorted({settings.chat_model, settings.embedding_model} - there)
    text = f"missing: {missing}; `ollama pull` them" if missing else ", ".join(sorted(there))
    return [Finding("models", not missing, text)]


def readable_by_others(folder: Path) -> list[str]:
    """Key files whose mode is too wide."""
    return [path.name for path in folder.glob("*.key") if path.stat().st_mode & 0o077]


async def keys(settings: Settings) -> list[Finding]:
    """Signing keys, and whether others may read them."""
    folder = settings.secrets or settings.data / "secrets"
    loose = await asyncio.to_thread(readable_by_others, folder)
    text = f"others may read {loose}: chmod 600" if loose else "private"
    return [Finding("keys", not loose, text)]
