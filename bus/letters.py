"""Dead letters: messages that a consumer gave up, and what waits behind them.

    fails for good ─► dead ──requeue──► requeued ──handled──► done
                       ▲ └───drop──► dropped │ fails again
                       └────────────────────-┘
    a later event of the same aggregate ─► parked ──what is before it is done or dropped──► requeued

For one consumer and one aggregate the open letters are a queue: a head that is dead or requeued,
and behind it what is parked, by version. Only the head is ever sent, and the next one follows in
the transaction that ends it, so order holds although a consumer has many workers.

A message sent again has an id of its own, which neither the stream nor the inbox has seen, and
says for whom it is: every other consumer of its subject passes it by. Whatever changes a queue
holds its lock first.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nats.aio.msg import Msg
from prometheus_client import Gauge

from bus import envelope, redaction, subjects, telemetry
from bus.background import forever
from bus.database import Row, Transaction
from bus.recording import partition_of
from bus.statement import Statement
from bus.topology import MESSAGE_BYTES_MAX
from bus.version import VERSION
from schemas.contract import ID, Event, Problem

if TYPE_CHECKING:  # it counts, and is told of nothing else
    from bus.context import Platform

TEXT_MAX = 500
VERSION_MAX = 2**31 - 1
HEADROOM_BYTES = 16 * 1024
COUNT_EVERY_S = 10.0
ID_FORM = re.compile(r"[!-~]{1,200}")
UUID_FORM = re.compile(ID)

open_letters = Gauge(
    "portal_dead_letters", "Messages given up (dead) or waiting behind one (parked).",
    ["consumer", "state"],
)  # fmt: skip

LOCK = Statement("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
IN_QUEUE = Statement(
    """
    SELECT id FROM ops.dead_letters
    WHERE consumer = $1 AND aggregate_id = $2 AND state IN ('dead', 'parked', 'requeued') LIMIT 1
    """
)
IN_FLIGHT = Statement(
    "SELECT id FROM ops.dead_letters WHERE id = $1 AND consumer = $2 AND state = 'requeued'"
)
WRITE = Statement(
    """
    INSERT INTO ops.dead_letters
        (id, state, stream, consumer, subject, message_id, headers, body, error_type, error,
         deliveries, failures, handler_version, aggregate_type, aggregate_id, aggregate_version,
         job_id, failed_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
            CASE WHEN $9::text IS NOT NULL THEN now() END)
    RETURNING id, state, requeues
    """
)
DIED_AGAIN = Statement(
    """
    UPDATE ops.dead_letters SET state = 'dead', error_type = $4, error = $5,
        deliveries = deliveries + $6, failures = failures + $7, handler_version = $8,
        failed_at = now()
    WHERE consumer = $1 AND state = 'requeued' AND (id = $2 OR job_id = $3)
    RETURNING id, state, requeues
    """
)
TELL = Statement(
    """
    INSERT INTO ops.outbox (message_id, lane, aggregate_id, subject, headers, body)
    VALUES ($1, $2, $3, $4, $5::jsonb, $6)
    """
)
PLACE = Statement("SELECT consumer, aggregate_id FROM ops.dead_letters WHERE id = $1")
GET = Statement(
    """
    SELECT id, consumer, subject, message_id, headers, body, aggregate_id, job_id, requeues
    FROM ops.dead_letters WHERE id = $1
    """
)
REQUEUED = Statement(
    """
    UPDATE ops.dead_letters SET state = 'requeued', requeues = requeues + 1 WHERE id = $1
    RETURNING id, consumer, subject, message_id, headers, body, aggregate_id, job_id, requeues
    """
)
HEAD = Statement(
    """
    SELECT id FROM ops.dead_letters
    WHERE consumer = $1 AND aggregate_id = $2 AND state IN ('dead', 'requeued') LIMIT 1
    """
)
NEXT = Statement(
    """
    SELECT id FROM ops.dead_letters
    WHERE consumer = $1 AND aggregate_id = $2 AND state = 'parked'
    ORDER BY aggregate_version, created_at, id LIMIT 1
    """
)
SETTLED = Statement("UPDATE ops.dead_letters SET state = $2, settled_at = now() WHERE id = $1")
READY_JOB = Statement(
    """
    UPDATE ops.jobs SET status = 'queued', attempts = 0, error = NULL, worker = NULL,
        lease_until = NULL, finished_at = NULL, available_at = now()
    WHERE id = $1 AND status = 'failed' RETURNING id
    """
)
COUNT = Statement(
    """
    SELECT consumer, state, count(*) AS letters FROM ops.dead_letters
    WHERE state IN ('dead', 'parked') GROUP BY consumer, state
    """
)


@dataclass(frozen=True)
class Given:
    """A message as one consumer got it.

    Args:
        letter_id: Of which letter it is a repetition.
        letter_to: For which consumer alone it was sent again.
    """

    stream: str
    consumer: str
    subject: str
    message_id: str
    headers: Mapping[str, str]
    body: bytes
    deliveries: int
    aggregate_type: str | None = None
    aggregate_id: str | None = None
    aggregate_version: int | None = None
    job_id: str | None = None
    letter_id: str | None = None
    letter_to: str | None = None

    @property
    def queue(self) -> str | None:
        """The aggregate behind whose poison it would have to wait."""
        return None if self.letter_id else self.aggregate_id


def given(
    message: Msg, consumer: str, *, event: type[Event] | None = None, job_id: str | None = None
) -> Given:
    """Read off a message what can be read; nothing about it is certain."""
    headers = {name: plain(value) for name, value in (message.headers or {}).items()}
    version = headers.get("ce-version", "")
    known = version.isascii() and version.isdigit() and int(version[:11]) <= VERSION_MAX
    return Given(
        message.metadata.stream, consumer, message.subject, name_of(message, headers), headers,
        message.data, message.metadata.num_delivered,
        aggregate_type=event.entity_type.noun() if event else None,
        aggregate_id=None if job_id else fitting(headers.get("ce-subject")),
        aggregate_version=int(version[:11]) if known else None,
        job_id=job_id,
        letter_id=an_id(headers.get(envelope.LETTER)), letter_to=headers.get(envelope.LETTER_TO),
    )  # fmt: skip


def name_of(message: Msg, headers: Mapping[str, str]) -> str:
    """The id under which a consumer remembers a message; made from its place if it has none."""
    own = "ce-id" if envelope.LETTER not in headers else envelope.MESSAGE_ID
    named = fitting(headers.get(own) or headers.get(envelope.MESSAGE_ID))
    place = message.metadata
    return named or f"unnamed-{place.sequence.stream}-{place.timestamp.timestamp():.6f}"


def fitting(text: str | None) -> str | None:
    """An id, if it can be one: a key of an index is short and printable."""
    return text if text and ID_FORM.fullmatch(text) else None


def an_id(text: str | None) -> str | None:
    """The id of a letter, if it can be one."""
    return text if text and UUID_FORM.fullmatch(text) else None


def plain(text: str) -> str:
    """Text that the database can keep."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def describe(failure: Exception) -> str:
    """One line for the letter, the job's or the inbox row."""
    told = str(failure)
    named = failure.code if isinstance(failure, Problem) else f"{type(failure).__name__}:"
    return plain(redaction.text(f"{named} {told}"[: 4 * TEXT_MAX]))[:TEXT_MAX]


async def lock(tx: Transaction, consumer: str, queue: str) -> None:
    """Hold the queue of one consumer and aggregate until the transaction ends."""
    await tx.execute(LOCK, f"letters/{consumer}/{queue}")


async def bury(tx: Transaction, what: Given, failure: Exception, failures: int, new_id: str) -> str:
    """Write a message that is given up; returns its state.

    What was requeued is dead once more. A first failure behind another of its aggregate is parked.
    Whoever watches the bus gets a copy, through the outbox: once for each death.
    """
    if what.aggregate_id is not None:
        await lock(tx, what.consumer, what.aggregate_id)
    error = (type(failure).__name__, describe(failure), what.deliveries, failures, VERSION)
    row = await tx.row(DIED_AGAIN, what.consumer, what.letter_id, what.job_id, *error)
    if row is None:
        if what.letter_id is not None and what.job_id is None:
            return "dropped"  # while it was on its way
        waiting = what.queue and await tx.row(IN_QUEUE, what.consumer, what.queue)
        row = await write(tx, what, new_id, "parked" if waiting else "dead", error)
    if row["state"] == "dead":
        await tell(tx, what, row, failure)
    return str(row["state"])


async def park(tx: Transaction, what: Given, new_id: str) -> bool:
    """Write a message that waits behind its aggregate's poison; false when that is gone now."""
    assert what.queue is not None
    await lock(tx, what.consumer, what.queue)
    if await tx.row(IN_QUEUE, what.consumer, what.queue) is None:
        return False
    await write(tx, what, new_id, "parked", (None, None, what.deliveries, 0, VERSION))
    return True


async def write(
    tx: Transaction, what: Given, new_id: str, state: str, error: tuple[Any, ...]
) -> Row:
    """The row of a new letter."""
    row = await tx.row(
        WRITE, new_id, state, what.stream, what.consumer, what.subject, what.message_id,
        dict(what.headers), what.body, *error,
        what.aggregate_type, what.aggregate_id, what.aggregate_version, what.job_id,
    )  # fmt: skip
    assert row is not None
    return row


async def tell(tx: Transaction, what: Given, row: Row, failure: Exception) -> None:
    """Queue the copy for the stream DEAD; a body that would not fit is left to the row."""
    letter_id = str(row["id"])
    headers = own_headers(what.headers) | {
        "x-dead-subject": what.subject,
        "x-dead-consumer": what.consumer,
        "x-dead-reason": " ".join(describe(failure).split()),
        "x-dead-letter": letter_id,
        envelope.MESSAGE_ID: f"dead-{letter_id}-{row['requeues']}",
    }
    size = sum(len(name) + len(value) for name, value in headers.items()) + len(what.body)
    body = what.body if size < MESSAGE_BYTES_MAX - HEADROOM_BYTES else b""
    subject = subjects.dead(what.stream, what.consumer)
    await tx.execute(
        TELL, headers[envelope.MESSAGE_ID], partition_of(letter_id), letter_id, subject,
        headers, body,
    )  # fmt: skip


def own_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Headers without those that the server obeys."""
    return {n: v for n, v in headers.items() if not n.lower().startswith("nats-")}


async def hold(tx: Transaction, letter_id: str) -> None:
    """Hold a letter's queue until the transaction ends; nothing if there is no such letter."""
    row = await tx.row(PLACE, letter_id)
    if row is not None:
        await lock(tx, row["consumer"], row["aggregate_id"] or letter_id)


async def in_flight(tx: Transaction, what: Given) -> bool:
    """Whether a message that was sent again is still wanted; holds its queue if so."""
    assert what.letter_id is not None
    await lock(tx, what.consumer, what.aggregate_id or what.letter_id)
    return await tx.row(IN_FLIGHT, what.letter_id, what.consumer) is not None


async def requeue(tx: Transaction, letter_id: str) -> None:
    """Send a letter again under a new message id. The caller holds its queue."""
    row = await tx.row(REQUEUED, letter_id)
    assert row is not None
    await send(tx, row)


async def send_once_more(tx: Transaction, letter_id: str) -> None:
    """Send a letter on its way under the same message id: heals a lost one, else changes nothing.

    The stream drops it while it remembers the id, and afterwards the inbox does.
    """
    row = await tx.row(GET, letter_id)
    assert row is not None
    await send(tx, row)


async def send(tx: Transaction, row: Row) -> None:
    """Queue the message of a requeued letter; the same repetition twice has the same id."""
    letter_id, message_id = str(row["id"]), f"letter-{row['id']}-{row['requeues']}"
    headers = own_headers(row["headers"]) | {
        envelope.MESSAGE_ID: message_id,
        envelope.LETTER: letter_id,
        envelope.LETTER_TO: row["consumer"],
        envelope.REQUEUED_OF: row["message_id"],
    }
    about = row["job_id"] or row["aggregate_id"] or letter_id
    await tx.execute(
        TELL, message_id, partition_of(about), about, row["subject"], headers, row["body"]
    )


async def settle(
    tx: Transaction, letter_id: str, state: str, consumer: str, queue: str | None
) -> None:
    """A letter is done or dropped: the next of its queue, if any, goes on. The caller holds it.

    What is dropped from behind a head lets nothing go on.
    """
    await tx.execute(SETTLED, letter_id, state)
    if queue is None or await tx.row(HEAD, consumer, queue) is not None:
        return
    following = await tx.row(NEXT, consumer, queue)
    if following is not None:
        await requeue(tx, following["id"])


class Counter:
    """Shows in the metrics how many letters are open, and says when a consumer's first appears."""

    def __init__(self, platform: "Platform") -> None:
        self._platform = platform
        self._shown: dict[tuple[str, str], int] = {}

    async def run(self) -> None:
        """Count until cancelled."""
        await forever("letters", self.count, COUNT_EVERY_S)

    async def count(self) -> None:
        """One round."""
        rows = await self._platform.database.rows(COUNT)
        found = {(row["consumer"], row["state"]): row["letters"] for row in rows}
        for consumer, state in found.keys() | self._shown.keys():
            number = found.get((consumer, state), 0)
            open_letters.labels(consumer, state).set(number)
            if number and state == "dead" and not self._shown.get((consumer, state)):
                telemetry.log().warning("dead letters wait", consumer=consumer, letters=number)
        self._shown = found
