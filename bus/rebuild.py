"""Proof that the log is the truth: replay it and compare what it gives with the live tables.

For each kind of entity the last event of each aggregate gives its row. Scratch and live must hold
the same rows, the hash chain of every aggregate must close, and versions must run 1..n.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from bus.database import Transaction
from bus.statement import Statement
from schemas.contract import Entity, Event

DIFFERENCES_SHOWN = 20

BROKEN_CHAINS = Statement(
    """
    WITH RECURSIVE chain AS (
        SELECT e.aggregate_type, e.aggregate_id, e.aggregate_version AS version, e.hash AS stored,
               sha256(convert_to(e.event_id::text || e.payload::text, 'UTF8')) AS computed
        FROM mcp_documents.events e WHERE e.aggregate_version = 1 AND e.aggregate_type = $1
        UNION ALL
        SELECT e.aggregate_type, e.aggregate_id, e.aggregate_version, e.hash,
               sha256(c.computed || convert_to(e.event_id::text || e.payload::text, 'UTF8'))
        FROM chain c JOIN mcp_documents.events e
          ON e.aggregate_type = c.aggregate_type AND e.aggregate_id = c.aggregate_id
         AND e.aggregate_version = c.version + 1
    )
    SELECT aggregate_id, min(version) AS version FROM chain
    WHERE stored <> computed GROUP BY aggregate_id LIMIT $2
    """
)
GAPS = Statement(
    """
    SELECT h.aggregate_id, h.version AS head, count(e.seq) AS events
    FROM ops.aggregate_heads h
    LEFT JOIN mcp_documents.events e
      ON e.aggregate_type = h.aggregate_type AND e.aggregate_id = h.aggregate_id
    WHERE h.aggregate_type = $1
    GROUP BY h.aggregate_id, h.version HAVING count(e.seq) <> h.version LIMIT $2
    """
)


@dataclass(frozen=True)
class Verdict:
    """What replaying one kind of entity showed; the lists hold at most 20 ids each."""

    entity: str
    table: str
    aggregates: int
    different: tuple[str, ...]
    broken_chains: tuple[str, ...]
    gaps: tuple[str, ...]


async def verify(tx: Transaction, events: Iterable[type[Event]]) -> list[Verdict]:
    """Replay every kind of entity that the events carry, in one snapshot of the database."""
    await tx.execute(SNAPSHOT)
    found = carriers(events).items()
    return [await verify_entity(tx, entity, name) for entity, name in found]


def carriers(events: Iterable[type[Event]]) -> dict[type[Entity], str]:
    """Every kind of entity, with the name under which its events carry it."""
    return {event.entity_type: event.field_name for event in events}


SNAPSHOT = Statement("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


async def verify_entity(tx: Transaction, entity: type[Entity], field_name: str) -> Verdict:
    """Compare the rows that the log gives with those that are there."""
    noun = entity.noun()
    different = await tx.rows(difference(entity, field_name), noun, DIFFERENCES_SHOWN)
    broken = await tx.rows(BROKEN_CHAINS, noun, DIFFERENCES_SHOWN)
    gaps = await tx.rows(GAPS, noun, DIFFERENCES_SHOWN)
    count = await tx.row(COUNT, noun)
    return Verdict(
        noun,
        entity.table,
        count["aggregates"] if count else 0,
        tuple(str(row["id"]) for row in different),
        tuple(str(row["aggregate_id"]) for row in broken),
        tuple(str(row["aggregate_id"]) for row in gaps),
    )


COUNT = Statement(
    "SELECT count(*) AS aggregates FROM ops.aggregate_heads WHERE aggregate_type = $1"
)


@cache
def difference(entity: type[Entity], field_name: str) -> Statement:
    """Ids of rows that the log and the table do not agree on, in either direction."""
    last = f"""
        SELECT DISTINCT ON (aggregate_id) payload::text::jsonb -> '{field_name}' AS state
        FROM mcp_documents.events WHERE aggregate_type = $1
        ORDER BY aggregate_id, aggregate_version DESC
    """  # noqa: S608 - built from declarations, never from input
    return Statement(compared(entity, last, entity.table, "$2"))


@cache
def played_difference(entity: type[Entity], field_name: str) -> Statement:
    """The same of what a replay's job has in its scratch tables, as far as it reached the end."""
    last = f"""
        SELECT s.aggregate_id, s.payload::text::jsonb -> '{field_name}' AS state
        FROM scratch.states s
        JOIN ops.aggregate_heads h ON h.aggregate_type = s.aggregate_type
         AND h.aggregate_id = s.aggregate_id AND h.version = s.aggregate_version
        WHERE s.job_id = $1 AND s.aggregate_type = $2
    """  # noqa: S608 - built from declarations, never from input
    rows = f"{entity.table} WHERE id IN (SELECT aggregate_id FROM last)"  # noqa: S608
    return Statement(compared(entity, last, rows, "$3"))


def compared(entity: type[Entity], last: str, live: str, limit: str) -> str:
    """SQL: ids of rows that the states in `last` and the rows in `live` do not agree on."""
    columns = ", ".join(entity.model_fields)
    return f"""
        WITH last AS MATERIALIZED ({last}),
        replayed AS (
            SELECT e.* FROM last, jsonb_populate_record(NULL::{entity.table}, last.state) e
        ),
        logged AS (SELECT {columns} FROM replayed),
        live AS (SELECT {columns} FROM {live})
        SELECT id FROM (
            (SELECT * FROM logged EXCEPT SELECT * FROM live)
            UNION ALL
            (SELECT * FROM live EXCEPT SELECT * FROM logged)
        ) AS differing GROUP BY id LIMIT {limit}
        """  # noqa: S608 - built from declarations, never from input
