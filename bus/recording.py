"""The one statement that records an event: entity row, log entry and outbox row, or nothing.

    head    compare-and-set of the aggregate's version; chains the hash
    entity  the row, read out of the event's own payload: state is what the last event says
    log     the append-only event, stored as the exact bytes that are published
    outbox  the message still to be published

Because the row is written from the event, replaying the log gives the same rows (`rebuild.py`).
The hash of an event is `sha256(hash of the one before || id || payload bytes)`.
"""

from datetime import timedelta
from functools import cache
from typing import Any
from zlib import crc32

from bus import envelope, subjects
from bus.clock import Clock
from bus.envelope import Origin
from bus.statement import Statement
from schemas.contract import Entity, Event, Job, Operation, Schema

PARTITIONS = 16


def partition_of(aggregate_id: str) -> int:
    """Which of the 16 lanes an aggregate's messages are published in."""
    return crc32(aggregate_id.encode()) % PARTITIONS


def of(event: Event, origin: Origin, clock: Clock) -> tuple[Statement, tuple[Any, ...]]:
    """The statement that records `event`, and its values."""
    entity, event_id, at = event.entity, clock.new_id(), clock.now()
    payload = event.model_dump_json()
    values = (
        entity.noun(),
        entity.id,
        entity.version,
        event_id,
        payload,
        event.name,
        event.category,
        origin.actor,
        origin.request_id,
        origin.correlation_id,
        origin.causation_id,
        at,
        partition_of(entity.id),
        subjects.of_event(event),
        envelope.of_event(event, event_id, at, origin),
    )
    return statement_for(type(entity), event.field_name), values


@cache
def statement_for(entity: type[Entity], field_name: str) -> Statement:
    """The recording statement of one kind of entity, generated from its fields."""
    return Statement(
        f"""
        {written(entity, field_name, "now()")}
        INSERT INTO ops.outbox (message_id, lane, aggregate_id, subject, headers, body)
        SELECT event_id, $13, given.id::text, $14,
               $15::jsonb || jsonb_build_object('ce-hash', encode(head.hash, 'hex')),
               convert_to(payload, 'UTF8')
        FROM log, given, head
        RETURNING position
        """  # noqa: S608
    )


@cache
def restoring(entity: type[Entity], field_name: str) -> Statement:
    """The same for an event that was published long ago: nothing is queued; gives its hash."""
    return Statement(
        f"""
        {written(entity, field_name, "$12::timestamptz")}
        SELECT encode(head.hash, 'hex') AS hash FROM log, head
        """  # noqa: S608
    )


def written(entity: type[Entity], field_name: str, recorded_at: str) -> str:
    """SQL up to the log: head, entity and event; built from declarations, never from input."""
    columns = list(entity.model_fields)
    changed = [c for c in columns if c not in entity.identity]
    return f"""
        WITH given AS (
            SELECT $1::text AS kind, $2::text::uuid AS id, $3::int AS version,
                   $4::text AS event_id, $5::text AS payload,
                   convert_to($4::text || $5::text, 'UTF8') AS link
        ), head AS (
            INSERT INTO ops.aggregate_heads AS h (aggregate_type, aggregate_id, version, hash)
            SELECT kind, id, version, sha256(link) FROM given
            WHERE version = 1 OR EXISTS (SELECT 1 FROM ops.aggregate_heads
                                         WHERE aggregate_type = $1 AND aggregate_id = given.id)
            ON CONFLICT (aggregate_type, aggregate_id) DO UPDATE
            SET version = excluded.version,
                hash = sha256(h.hash || convert_to($4::text || $5::text, 'UTF8'))
            WHERE h.version = excluded.version - 1
            RETURNING h.hash
        ), entity AS (
            INSERT INTO {entity.table} ({", ".join(columns)})
            SELECT {", ".join(f"e.{c}" for c in columns)}
            FROM head, given,
                 jsonb_populate_record(NULL::{entity.table}, payload::jsonb -> '{field_name}') e
            ON CONFLICT ({", ".join(entity.identity)}) DO UPDATE
            SET {", ".join(f"{c} = excluded.{c}" for c in changed)}
        ), log AS (
            INSERT INTO mcp_documents.events
                (event_id, type, category, aggregate_type, aggregate_id, aggregate_version,
                 payload, actor, request_id, correlation_id, causation_id, occurred_at, hash,
                 recorded_at)
            SELECT event_id::uuid, $6, $7, kind, id, version, payload::json,
                   $8, $9, $10, $11, $12, hash, {recorded_at}
            FROM head, given RETURNING seq
        )"""  # noqa: S608


ENQUEUE = Statement(
    """
    WITH job AS (
        INSERT INTO ops.jobs (id, kind, payload, actor, roles, request_id, correlation_id,
                              available_at, scopes, credential, actor_kind)
        VALUES ($1::uuid, $2, $3::text::jsonb, $4, $5, $6, $7, $8, $12, $13, $14)
        ON CONFLICT (id) DO NOTHING RETURNING id
    )
    INSERT INTO ops.outbox (message_id, lane, aggregate_id, subject, headers, body, available_at)
    SELECT 'job-' || id, $9, id::text, $10, $11::jsonb, convert_to($3::text, 'UTF8'), $8 FROM job
    """
)


JOB = Statement(
    """
    SELECT id, kind, status, progress, result, error, actor, attempts, created_at, finished_at
    FROM ops.jobs WHERE id = $1
    """
)


class Task:
    """The job of a task operation: its request, to be handled by its handler later."""

    def __init__(self, operation: Operation[Any, Any], command: Schema) -> None:
        self.name = operation.name
        self._command = command

    def subject(self) -> str:
        """Where the work is queued."""
        return f"job.{self.name}"

    def model_dump_json(self) -> str:
        """The request."""
        return self._command.model_dump_json()


def of_job(
    job: Job | Task, job_id: str, delay_s: float, origin: Origin, clock: Clock
) -> tuple[Any, ...]:
    """The values of `ENQUEUE`."""
    headers = envelope.of_origin(origin) | {
        envelope.MESSAGE_ID: f"job-{job_id}",
        envelope.JOB_ID: job_id,
    }
    body = job.model_dump_json()
    return (
        job_id,
        job.name,
        body,
        origin.actor,
        list(origin.roles),
        origin.request_id,
        origin.correlation_id,
        clock.now() + timedelta(seconds=delay_s),
        partition_of(job_id),
        job.subject(),
        headers,
        list(origin.scopes),
        origin.credential,
        origin.kind,
    )
