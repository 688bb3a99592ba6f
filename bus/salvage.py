"""After an older copy of the database was restored: what the stream still knows comes back.

Every message of EVENTS is held against the log. What the log has must be the same; what it has not
must continue its entity's hash chain, and is then written as it was recorded: event and row. All in
one transaction, or nothing: with a chain that does not fit, the log and the stream tell different
stories, and a person must choose.

What a consumer had acknowledged before is marked as done in its inbox, and what waits in the
outbox although it was published is dropped: no effect is had twice.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from bus import envelope, recording
from bus.clock import Clock
from bus.database import Database, Transaction
from bus.envelope import Origin
from bus.refill import STREAM
from bus.statement import Statement
from schemas.contract import Event, Problem, Reaction

BATCH = 500
FETCH_S = 10.0
FORGOTTEN_AFTER_S = 60.0
CONFLICTS_SHOWN = 20

KNOWN = Statement(
    """
    SELECT event_id, encode(hash, 'hex') AS hash, payload::text AS payload
    FROM mcp_documents.events WHERE event_id = ANY($1::uuid[])
    """
)
HEAD = Statement(
    "SELECT version FROM ops.aggregate_heads WHERE aggregate_type = $1 AND aggregate_id = $2"
)
FORGET_PUBLISHED = Statement("DELETE FROM ops.outbox WHERE message_id = ANY($1::text[])")
MARK_DONE = Statement(
    """
    INSERT INTO ops.inbox (consumer, message_id, done) VALUES ($1, $2, true)
    ON CONFLICT (consumer, message_id) DO UPDATE SET done = true
    """
)


@dataclass(frozen=True)
class Conflict:
    """Where log and stream tell different stories."""

    entity: str
    id: str
    version: int
    why: str


@dataclass
class Salvaged:
    """What was found; nothing of it was written if there is a conflict."""

    read: int = 0
    known: int = 0
    restored: int = 0
    unqueued: int = 0
    conflicts: list[Conflict] = field(default_factory=list)


class Salvage:
    """One reading of the stream, in one transaction."""

    def __init__(
        self, tx: Transaction, kinds: Mapping[str, type[Event]], done: Mapping[Reaction, int]
    ) -> None:
        self._tx, self._kinds, self._done = tx, kinds, done
        self._broken: set[str] = set()
        self.found = Salvaged()

    async def take(self, messages: Sequence[Msg]) -> None:
        """Hold some messages against the log, and write what it lacks."""
        self.found.read += len(messages)
        messages = [m for m in messages if header(m, "ce-id") and not header(m, envelope.LETTER_TO)]
        ids = [header(each, "ce-id") for each in messages]
        rows = {row["event_id"]: row for row in await self._tx.rows(KNOWN, ids)}
        marks: list[tuple[str, str]] = []
        for message, event_id in zip(messages, ids, strict=True):
            if event_id in rows:
                self._compare(message, rows[event_id])
            elif await self._restore(message, event_id):
                marks += [(durable, event_id) for durable in self._followed(message)]
        await self._tx.execute_many(MARK_DONE, marks)
        tag = await self._tx.execute(FORGET_PUBLISHED, ids)
        self.found.unqueued += int(tag.split()[-1])

    def _compare(self, message: Msg, row: Any) -> None:
        self.found.known += 1
        hashed = header(message, envelope.HASH)
        if row["payload"].encode() != message.data or hashed not in ("", row["hash"]):
            self._refuse(message, "the log has this event with another content or history")

    async def _restore(self, message: Msg, event_id: str) -> bool:
        kind = self._kinds.get(header(message, "ce-type"))
        if kind is None:
            self._refuse(message, "no such type of event is known")
        if kind is None or header(message, "ce-subject") in self._broken:
            return False
        statement = recording.restoring(kind.entity_type, kind.field_name)
        row = await self._tx.row(statement, *values(message, event_id, kind))
        if row is None:
            self._refuse(message, await self._misfit(message, kind))
        elif header(message, envelope.HASH) not in ("", row["hash"]):
            self._refuse(message, "the event before it is another one than it was recorded after")
        else:
            self.found.restored += 1
            return True
        return False

    async def _misfit(self, message: Msg, kind: type[Event]) -> str:
        row = await self._tx.row(HEAD, kind.entity_type.noun(), header(message, "ce-subject"))
        last, version = row["version"] if row else 0, int(header(message, "ce-version"))
        if last >= version:
            return f"the log has another event as version {version}"
        return f"the log ends with version {last}, and what came between is not in the stream"

    def _refuse(self, message: Msg, why: str) -> None:
        thing = header(message, "ce-subject")
        if thing not in self._broken:
            self._broken.add(thing)
            kind = self._kinds.get(header(message, "ce-type"))
            noun = kind.entity_type.noun() if kind else header(message, "ce-type")
            version = int(header(message, "ce-version") or 0)
            self.found.conflicts.append(Conflict(noun, thing, version, why))

    def _followed(self, message: Msg) -> list[str]:
        """Consumers that had this event behind them."""
        name, seq = header(message, "ce-type"), message.metadata.sequence.stream
        return [r.durable for r, floor in self._done.items() if follows(r, name) and seq <= floor]


def header(message: Msg, name: str) -> str:
    """A header, or nothing."""
    text: str = (message.headers or {}).get(name, "")
    return text


def follows(reaction: Reaction, name: str) -> bool:
    """Whether a reaction is to events of this name."""
    followed = reaction.event if isinstance(reaction.event, tuple) else (reaction.event,)
    return any(event.name == name for event in followed)


def values(message: Msg, event_id: str, kind: type[Event]) -> tuple[Any, ...]:
    """The values of the restoring statement."""
    return (
        kind.entity_type.noun(),
        header(message, "ce-subject"),
        int(header(message, "ce-version")),
        event_id,
        message.data.decode(),
        kind.name,
        header(message, "ce-category"),
        header(message, envelope.ACTOR),
        header(message, envelope.REQUEST_ID),
        header(message, envelope.CORRELATION_ID) or None,
        header(message, envelope.CAUSATION) or None,
        datetime.fromisoformat(header(message, "ce-time")),
    )


async def salvage(
    database: Database,
    jetstream: JetStreamContext,
    events: Sequence[type[Event]],
    reactions: Sequence[Reaction],
    tell: Callable[[str, int], None],
) -> Salvaged:
    """Read the stream back into the log; `tell` hears of progress."""
    done = {each: await floor(jetstream, each) for each in reactions}
    tx = await database.begin(Origin("salvage", Clock().new_id()))
    salvaging = Salvage(tx, {event.name: event for event in events}, done)
    found = salvaging.found
    try:
        async for messages in everything(jetstream):
            await salvaging.take(messages)
            tell("read", found.read)
        if not found.conflicts:
            await tx.commit()
    except Problem as refused:
        found.conflicts.append(Conflict("", "", 0, f"{refused.code} {refused.message}"))
    finally:
        await tx.roll_back()
    del found.conflicts[CONFLICTS_SHOWN:]
    return found


async def floor(jetstream: JetStreamContext, reaction: Reaction) -> int:
    """Up to where a consumer has acknowledged everything."""
    try:
        info = await jetstream.consumer_info(STREAM, reaction.durable)
    except NotFoundError:
        return 0
    return info.ack_floor.stream_seq if info.ack_floor else 0


async def everything(jetstream: JetStreamContext) -> AsyncIterator[list[Msg]]:
    """Every message of the stream that is there now, in order."""
    state = (await jetstream.stream_info(STREAM)).state
    if state.messages == 0:
        return
    reader = ConsumerConfig(
        ack_policy=AckPolicy.NONE,
        deliver_policy=DeliverPolicy.ALL,
        inactive_threshold=FORGOTTEN_AFTER_S,
    )
    pulled = await jetstream.pull_subscribe("evt.>", stream=STREAM, config=reader)
    seq = 0
    while seq < state.last_seq:
        messages = await pulled.fetch(BATCH, timeout=FETCH_S)
        seq = messages[-1].metadata.sequence.stream
        yield messages
    await pulled.unsubscribe()
