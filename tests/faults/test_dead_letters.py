"""kill -9 around the writing of a dead letter: it is there once, and its message is ended."""

import nats
import pytest

from schemas import integration
from schemas.integration import DropLetter, ListDeadLetters
from tests.conftest import eventually
from tests.faults.test_crashes import OF_LETTERS, patiently

POISON = (
    ("evt.agents.run_finished.r1", {"ce-type": "agents.run_finished", "ce-id": "p1",
                                    "ce-subject": "r1", "ce-version": "1"}),
    ("evt.agents.run_finished.r1", {"ce-type": "agents.run_finished", "ce-id": "p2",
                                    "ce-subject": "r1", "ce-version": "2"}),
    ("job.documents.ingest", {"Nats-Msg-Id": "nameless"}),
)  # fmt: skip
GIVEN_UP = {
    ("identity-end-run", "dead"), ("identity-end-run", "parked"),
    ("workflows-follow-agent", "dead"), ("workflows-follow-agent", "parked"),
    ("documents-ingest", "dead"),
}  # fmt: skip
COPIES = {
    "dead.events.identity-end-run": 1, "dead.events.workflows-follow-agent": 1,
    "dead.jobs.documents-ingest": 1,
}  # fmt: skip


async def open_letters(ask):
    """Consumer and state of every letter, open or not."""
    page = await patiently(ask, integration.dead_letters, ListDeadLetters())
    return sorted((letter.consumer, letter.state) for letter in page.items)


async def copies(jetstream):
    """How many messages the stream DEAD holds for each consumer."""
    info = await jetstream.stream_info("DEAD", subjects_filter="dead.>")
    return info.state.subjects or {}


async def unended(jetstream):
    """How many messages of the poisoned consumers are still to be dealt with."""
    left = 0
    for stream, durable in (
        ("EVENTS", "identity-end-run"), ("EVENTS", "workflows-follow-agent"),
        ("JOBS", "documents-ingest"),
    ):  # fmt: skip
        info = await jetstream.consumer_info(stream, durable)
        left += info.num_ack_pending + info.num_pending
    return left


@pytest.mark.parametrize("point", OF_LETTERS)
async def test_a_letter_survives_the_death_of_its_writer_and_is_there_once(
    handlers, ask, bus_server, point
):
    bus = await nats.connect(bus_server.url)
    jetstream = bus.jetstream()
    for subject, headers in POISON:
        await jetstream.publish(subject, b"\xff poison", headers=headers)
    for _ in range(2):
        await handlers.died(handlers.start(point))
    handlers.start()

    async def ended():
        return len(await open_letters(ask)) == len(GIVEN_UP) and await unended(jetstream) == 0

    await eventually(ended, 60, 0.3)
    assert set(await open_letters(ask)) == GIVEN_UP

    async def told():
        return await copies(jetstream) == COPIES

    await eventually(told, 30)
    await drop_first_of(ask, "workflows-follow-agent")

    async def second_is_dead():
        return (await copies(jetstream))["dead.events.workflows-follow-agent"] == 2

    await eventually(second_is_dead, 30)
    assert sorted(s for c, s in await open_letters(ask) if c == "workflows-follow-agent") == [
        "dead", "dropped"
    ]  # fmt: skip
    await bus.close()


async def drop_first_of(ask, consumer):
    """Drop the one letter at the head."""
    wanted = ListDeadLetters(consumer=consumer, state="dead")
    [letter] = (await patiently(ask, integration.dead_letters, wanted)).items
    command = DropLetter(id=letter.id, reason="It was poison.")
    await patiently(ask, integration.drop_letter, command, key="drop")
