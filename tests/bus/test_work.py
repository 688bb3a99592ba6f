"""Reactions and jobs that fail: tried again, waited for, and buried with their reason at last."""

import asyncio

import nats
import pytest
from nats.js.errors import NotFoundError

from bus import reconciler, work
from bus.envelope import Origin
from bus.statement import Statement
from bus.topology import STREAMS
from bus.work import Follower, Worker
from schemas import agents
from schemas.agents import AgentCreated
from schemas.contract import Job, Reaction
from schemas.problems import DependencyDown, NotFound
from tests.conftest import eventually, look
from tests.factories import create_agent

REACTION = Reaction("tests-fail", AgentCreated)
STRANDED = Statement("UPDATE ops.jobs SET available_at = now() - interval '1 hour' WHERE id = $1")


class Doomed(Job, name="tests.doomed"):
    """Work that the test does."""

    number: int = 1


@pytest.fixture
async def jetstream(platform, monkeypatch):
    """JetStream, with no pause between tries."""
    monkeypatch.setattr(work, "back_off", lambda _: 0)
    monkeypatch.setattr(work, "WAIT_FOR_SERVERS_S", 0)
    assert {"EVENTS", "JOBS", "DEAD"} <= {stream.name for stream in STREAMS}
    return platform.connection.jetstream()


async def consume(jetstream, stream, subject, consumer, until):
    """Hand messages to a consumer until that is so."""
    durable = consumer.reaction.durable if isinstance(consumer, Follower) else "tests-doomed"
    pulled = await jetstream.pull_subscribe(subject, durable, stream=stream)
    async with asyncio.timeout(20):
        while not until():
            try:
                [message] = await pulled.fetch(1, timeout=1)
            except TimeoutError:
                continue
            await consumer.consume(message)
    await pulled.unsubscribe()


async def dead(jetstream, subject):
    """The headers of the last dead letter of that subject, once the relay has published it."""

    async def published():
        try:
            return (await jetstream.get_last_msg("DEAD", subject)).headers
        except NotFoundError:
            return None

    return await eventually(published)


async def test_a_reaction_that_keeps_failing_is_tried_again_and_then_buried(
    platform, ask, jetstream, monkeypatch
):
    monkeypatch.setattr(work, "FAILURES_MAX", 3)
    tries = []

    async def fail(event, ctx):
        tries.append(event.agent.id)
        raise RuntimeError("no luck")

    agent = await ask(agents.create, create_agent())
    subject = f"evt.agents.created.{agent.id}"
    follower = Follower(REACTION, fail, platform)
    await consume(jetstream, "EVENTS", subject, follower, lambda: len(tries) == 3)
    assert tries == [agent.id] * 3
    letter = await dead(jetstream, "dead.events.tests-fail")
    assert letter["x-dead-subject"] == subject
    assert letter["x-dead-reason"] == "RuntimeError: no luck"


async def test_while_a_server_is_away_a_reaction_waits_and_no_failure_is_counted(
    platform, ask, jetstream, monkeypatch
):
    monkeypatch.setattr(work, "FAILURES_MAX", 2)
    tries = []

    async def fail(event, ctx):
        tries.append(1)
        if len(tries) < 5:
            raise DependencyDown

    agent = await ask(agents.create, create_agent())
    subject = f"evt.agents.created.{agent.id}"
    follower = Follower(REACTION, fail, platform)
    await consume(jetstream, "EVENTS", subject, follower, lambda: len(tries) == 5)
    sql = "SELECT failures FROM ops.inbox WHERE consumer = 'tests-fail'"
    assert [row["failures"] for row in await look(platform, sql) if row["failures"]] == []


async def test_an_event_that_cannot_be_read_is_buried_at_once(platform, jetstream):
    done = []

    async def never(event, ctx):
        raise AssertionError("it was read")

    follower = Follower(REACTION, never, platform)
    bury = follower._failed

    async def failed(*what):
        done.append(await bury(*what))
        return done[-1]

    follower._failed = failed
    await jetstream.publish("evt.agents.created.odd", b"{}", headers={"ce-id": "odd"})
    await consume(jetstream, "EVENTS", "evt.agents.created.odd", follower, lambda: done)
    assert done == ["dead"]


async def queue(platform, number=1):
    """The id of a job of the test's own, committed."""
    tx = await platform.database.begin(Origin("admin", "r", roles=("admin",)))
    job_id = await tx.enqueue(Doomed(number=number))
    await tx.commit()
    return job_id


async def job(platform, job_id):
    """Status, attempts and error of a job."""
    sql = "SELECT status, attempts, error FROM ops.jobs WHERE id = $1"
    [row] = await look(platform, sql, job_id)
    return row["status"], row["attempts"], row["error"]


def worker(platform, perform, give_up=None, attempts=3):
    return Worker(
        "tests.doomed", Doomed, perform, platform, attempts=attempts, timeout_s=5, give_up=give_up
    )


async def test_a_job_that_keeps_failing_is_given_up_after_its_attempts(platform, jetstream):
    told = []

    async def fail(command, ctx):
        raise RuntimeError(f"attempt {ctx.attempt}")

    async def gave_up(command, ctx, problem):
        told.append((command.number, problem.message))

    job_id = await queue(platform)
    doomed = worker(platform, fail, gave_up)
    await consume(jetstream, "JOBS", "job.tests.doomed", doomed, lambda: told)
    assert await job(platform, job_id) == ("failed", 3, "RuntimeError: attempt 3")
    assert told == [(1, "RuntimeError: attempt 3")]
    assert "attempt 3" in (await dead(jetstream, "dead.jobs.tests-doomed"))["x-dead-reason"]


async def test_a_job_that_can_never_succeed_is_not_tried_again(platform, jetstream):
    told = []

    async def fail(command, ctx):
        raise NotFound

    async def gave_up(command, ctx, problem):
        told.append(problem.code)

    job_id = await queue(platform)
    doomed = worker(platform, fail, gave_up)
    await consume(jetstream, "JOBS", "job.tests.doomed", doomed, lambda: told)
    assert (await job(platform, job_id))[:2] == ("failed", 1)
    assert told == ["ERR_001"]


async def test_while_a_server_is_away_a_job_waits_and_no_attempt_is_counted(platform, jetstream):
    tries = []

    async def fail(command, ctx):
        tries.append(ctx.attempt)
        if len(tries) < 4:
            raise DependencyDown

    job_id = await queue(platform)
    doomed = worker(platform, fail, attempts=2)
    await consume(jetstream, "JOBS", "job.tests.doomed", doomed, lambda: len(tries) == 4)
    assert tries == [1] * 4
    assert (await job(platform, job_id))[:2] == ("succeeded", 1)


async def test_a_job_whose_message_is_gone_is_queued_again(platform, settings):
    done = []

    async def perform(command, ctx):
        done.append(command.number)

    job_id = await queue(platform, 7)
    bus = await nats.connect(settings.nats_url.get_secret_value())
    jetstream = bus.jetstream()
    assert await jetstream.purge_stream("JOBS")

    async def purged():
        await jetstream.purge_stream("JOBS")
        info = await jetstream.stream_info("JOBS")
        pending = await look(platform, "SELECT 1 FROM ops.outbox WHERE aggregate_id = $1", job_id)
        return not pending and info.state.messages == 0

    await eventually(purged)
    await platform.database.execute(STRANDED, job_id)
    assert await reconciler.requeue_jobs(platform) == 1
    await consume(jetstream, "JOBS", "job.tests.doomed", worker(platform, perform), lambda: done)
    assert done == [7]
    assert (await job(platform, job_id))[0] == "succeeded"
    await bus.close()
