"""Repairs from the table what delivery lost: jobs without a message.

The table is the truth. Once a minute one process (advisory lock) looks for jobs that should run
and whose message is gone from the work queue (a wiped or rebuilt JetStream), and queues them
again. An emptied stream EVENTS is filled by `refill.py`, when an operator says so.
"""

from functools import partial
from typing import Any

from nats.js.errors import NotFoundError

from bus import envelope, telemetry
from bus.background import forever
from bus.context import Platform
from bus.envelope import Origin
from bus.recording import partition_of
from bus.statement import Statement

LOCK_SPACE = 0x5352
EVERY_S = 60.0
BATCH = 500
JOBS_STALE_S = 30

TAKE = Statement("SELECT pg_try_advisory_lock($1, 0) AS taken")
STRANDED_JOBS = Statement(
    """
    SELECT j.id, j.kind, j.payload::text AS payload, j.request_id, j.correlation_id
    FROM ops.jobs j
    WHERE j.status IN ('queued', 'running')
      AND j.available_at < now() - interval '30 seconds'
      AND (j.lease_until IS NULL OR j.lease_until < now() - make_interval(secs => $1))
      AND NOT EXISTS (SELECT 1 FROM ops.outbox o WHERE o.aggregate_id = j.id::text)
    ORDER BY j.created_at LIMIT $2
    """
)
REQUEUE = Statement(
    """
    INSERT INTO ops.outbox (message_id, lane, aggregate_id, subject, headers, body)
    VALUES ($1, $2, $3, $4, $5, convert_to($6::text, 'UTF8'))
    """
)


async def run(platform: Platform) -> None:
    """Reconcile until cancelled; only the process that holds the lock works."""
    await forever("reconciler", partial(reconcile, platform), EVERY_S)


async def reconcile(platform: Platform) -> None:
    """One round, unless another process is at it."""
    connection = await platform.database.connect()
    try:
        row = await connection.fetchrow(TAKE.text, LOCK_SPACE)
        if row and row["taken"]:
            await requeue_jobs(platform)
    finally:
        connection.terminate()


async def requeue_jobs(platform: Platform) -> int:
    """Queue again every job whose message is gone; returns how many."""
    jobs = await platform.database.rows(STRANDED_JOBS, JOBS_STALE_S, BATCH)
    stranded = [job for job in jobs if not await has_message(platform, job["kind"])]
    for job in stranded:
        message_id = f"job-{job['id']}-{platform.clock.unix_ms()}"
        origin = Origin("", job["request_id"], correlation_id=job["correlation_id"])
        headers = envelope.of_origin(origin) | {
            envelope.MESSAGE_ID: message_id,
            envelope.JOB_ID: job["id"],
        }
        await platform.database.execute(
            REQUEUE, message_id, partition_of(job["id"]), job["id"],
            f"job.{job['kind']}", headers, job["payload"],
        )  # fmt: skip
    if stranded:
        telemetry.log().warning("jobs queued again", count=len(stranded))
    return len(stranded)


async def has_message(platform: Platform, kind: str) -> bool:
    """Whether the queue of this kind still holds any message, waiting or being worked on."""
    jetstream = platform.connection.jetstream()
    try:
        info: Any = await jetstream.consumer_info("JOBS", kind.replace(".", "-"))
    except NotFoundError:
        return False
    return bool(info.num_pending or info.num_ack_pending)
