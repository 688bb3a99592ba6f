"""The inbox: an event's effect and the row that says so are one transaction.

The statement that marks an event as seen also says whether its aggregate has poison before it, so
that the question costs no round trip of its own.
"""

from bus import letters
from bus.context import Boundary
from bus.database import Transaction
from bus.letters import Given
from bus.statement import Statement

MARK_SEEN = Statement(
    """
    INSERT INTO ops.inbox (consumer, message_id, done) VALUES ($1, $2, true)
    ON CONFLICT (consumer, message_id) DO UPDATE SET done = true WHERE NOT ops.inbox.done
    RETURNING failures, EXISTS (
        SELECT FROM ops.dead_letters
        WHERE consumer = $1 AND aggregate_id = $3 AND state IN ('dead', 'parked', 'requeued')
    ) AS blocked
    """
)
COUNT_FAILURE = Statement(
    """
    INSERT INTO ops.inbox (consumer, message_id, failures, error) VALUES ($1, $2, 1, $3)
    ON CONFLICT (consumer, message_id)
    DO UPDATE SET failures = ops.inbox.failures + 1, error = excluded.error
    RETURNING failures
    """
)


class AlreadyDone(Exception):
    """The event's effect was committed before; only the acknowledgement was lost."""


class Blocked(Exception):
    """An earlier event of the same aggregate was given up and is not settled yet."""


async def mark(tx: Transaction, what: Given) -> bool:
    """Mark a message as seen; returns whether its aggregate is blocked.

    Raises:
        AlreadyDone: It was seen before.
    """
    row = await tx.row(MARK_SEEN, what.consumer, what.message_id, what.queue)
    if row is None:
        raise AlreadyDone
    return bool(row["blocked"])


class Inbox(Boundary):
    """Marks an event as seen in the transaction of its effect."""

    def __init__(self, what: Given) -> None:
        self._what = what

    async def begun(self, transaction: Transaction) -> None:
        """Mark the event as seen.

        Raises:
            AlreadyDone: It was seen before, or dropped since it was sent again.
            Blocked: It has to wait behind its aggregate's poison.
        """
        if self._what.letter_id and not await letters.in_flight(transaction, self._what):
            raise AlreadyDone
        if await mark(transaction, self._what):
            raise Blocked
