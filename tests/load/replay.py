"""`python -m tests.load.replay`: how many events a second a replay brings into scratch tables.

A log of its own on a Postgres that keeps its word about the disk: events of many entities, a few
each, as large as a goal's. The number is that of the whole job, from its queue to its result.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

import nats
import psycopg
import uvloop
from alembic import command
from alembic.config import Config
from pydantic import SecretStr

from bus import lifecycle, process, topology
from bus.client import Ask
from bus.clock import Clock
from bus.credentials import Signer
from bus.envelope import Origin
from bus.lifecycle import Health
from bus.settings import Settings
from deploy.embedded.stack import Servers
from handlers.__main__ import load_service
from schemas import catalogue, events, supervision
from schemas.events import ReplayEvents
from schemas.principal import Principal
from schemas.supervision import GetJob, Work
from tests.servers import Nats

ROOT = Path(__file__).parents[2]
EVENTS, VERSIONS, PAYLOAD_BYTES = 200_000, 4, 1_000
BAR = 20_000.0
DOMAINS = ("identity", "events", "supervision", "audit")
FILL = """
    INSERT INTO mcp_documents.events (event_id, type, category, aggregate_type, aggregate_id,
        aggregate_version, payload, actor, request_id, occurred_at, hash)
    SELECT uuidv7(), 'load.changed', 'application', 'load',
           md5((n / {versions})::text)::uuid, n % {versions} + 1,
           json_build_object('load', json_build_object('id', n, 'text', repeat('x', {bytes}))),
           'load', 'load', now(), sha256(n::text::bytea)
    FROM generate_series(0, {events} - 1) n
"""


def prepare(url: str, count: int) -> None:
    """Migrate, and fill the log."""
    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["url"] = url
    command.upgrade(config, "head")
    with psycopg.connect(url) as connection:
        connection.execute(FILL.format(events=count, versions=VERSIONS, bytes=PAYLOAD_BYTES))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE mcp_documents.events")


async def measure(folder: Path, count: int) -> float:
    """Events a second."""
    async with Servers(folder / "servers", durable=True, want={"postgres"}) as servers:
        await asyncio.to_thread(prepare, servers.postgres_url, count)
        bus = Nats(folder)
        await asyncio.to_thread(bus.start)
        try:
            settings = Settings(
                nats_url=SecretStr(bus.url),
                postgres_url=SecretStr(servers.postgres_url),
                data=folder,
                secrets=folder / "secrets",
                log_level="warning",
            )
            return await replayed(settings)
        finally:
            bus.kill()


async def replayed(settings: Settings) -> float:
    """Run the job on the platform and divide."""
    connection = await nats.connect(settings.nats_url.get_secret_value())
    wanted = topology.consumers(catalogue.reactions(), catalogue.jobs(), catalogue.operations())
    await topology.apply(connection.jetstream(), wanted, 1)
    await connection.close()
    services = [load_service(domain) for domain in DOMAINS]
    async with process.answering(settings, services, Health("load")) as running:
        client = running.platform.client
        signer = Signer("edge", lifecycle.secrets_folder(settings))
        principal = Principal(id="admin", kind="key", roles=("admin",))

        def ask() -> Ask:
            return Ask(signer.sign(principal), Origin("admin", Clock().new_id()))

        chosen = ReplayEvents(target="scratch", aggregate_type="load")
        job: Work = await client.ask(events.replay, chosen, ask())
        while job.status not in ("succeeded", "failed"):
            await asyncio.sleep(0.2)
            job = await client.ask(supervision.job, GetJob(id=job.id), ask())
        assert job.status == "succeeded", job.error
        assert job.finished_at is not None
        took_s = (job.finished_at - job.created_at).total_seconds()
        return float(job.result["events"]) / took_s


def main() -> int:
    """Measure, print; 1 if the bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m tests.load.replay", description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="portal-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        rate = uvloop.run(measure(Path(folder), arguments.events))
    ok = rate >= BAR
    if arguments.json:
        print(json.dumps({"row": "replay into scratch", "rate": rate, "promised": BAR, "ok": ok}))
    else:
        print(f"{'held' if ok else 'missed'} replay into scratch: {rate:.0f}/s (bar {BAR:.0f})")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
