"""Replays: what is chosen, where it goes, how fast, and that a cut loses and doubles nothing."""

from datetime import timedelta

import nats
import pytest

from bus import work
from bus.statement import Statement
from handlers.events import replaying
from schemas import agents, events, supervision
from schemas.events import Replayed, ReplayEvents
from schemas.problems import Denied
from schemas.supervision import CancelJob, GetJob
from tests.conftest import eventually, look, settled
from tests.factories import create_agent

LOG = """
    SELECT seq, event_id, type, aggregate_type, aggregate_id, recorded_at, payload::text AS body
    FROM mcp_documents.events ORDER BY seq
"""
TAMPER = Statement("UPDATE mcp_documents.agents SET agent_type = 'spy' WHERE id = $1")
CHOICES = {
    "everything": (lambda log: {}, lambda log, e: True),
    "a range of positions": (
        lambda log: {"from_seq": log[2]["seq"], "to_seq": log[-3]["seq"]},
        lambda log, e: log[2]["seq"] <= e["seq"] <= log[-3]["seq"],
    ),
    "a range of time": (
        lambda log: {"since": log[1]["recorded_at"], "until": log[-1]["recorded_at"]},
        lambda log, e: log[1]["recorded_at"] <= e["recorded_at"] < log[-1]["recorded_at"],
    ),
    "a kind of entity": (
        lambda log: {"aggregate_type": "agent"}, lambda log, e: e["aggregate_type"] == "agent"
    ),
    "one entity": (
        lambda log: {"aggregate_id": log[-1]["aggregate_id"]},
        lambda log, e: e["aggregate_id"] == log[-1]["aggregate_id"],
    ),
    "a type": (lambda log: {"type": "agents.moved"}, lambda log, e: e["type"] == "agents.moved"),
    "a domain": (lambda log: {"type": "agents"}, lambda log, e: e["type"].startswith("agents.")),
    "nothing that there is": (
        lambda log: {"since": log[-1]["recorded_at"] + timedelta(days=1)}, lambda log, e: False
    ),
}  # fmt: skip


@pytest.fixture
async def heard(settings):
    """What somebody hears who listens to every replay from the beginning."""
    connection = await nats.connect(settings.nats_url.get_secret_value())
    messages = []

    async def hear(message):
        messages.append(message)

    await connection.subscribe("replay.>", cb=hear)
    await settled(connection)
    yield messages
    await connection.close()


@pytest.fixture
async def agent(platform, ask):
    """An agent to which something happened."""
    made = await ask(agents.create, create_agent())
    await ask(agents.suspend, agents.SuspendAgent(id=made.id))
    return await ask(agents.resume, agents.ResumeAgent(id=made.id))


async def ended(ask, job, status="succeeded"):
    """The job when it is over."""

    async def over():
        now = await ask(supervision.job, GetJob(id=job.id))
        return now if now.status in ("succeeded", "failed", "cancelled") else None

    now = await eventually(over)
    assert now.status == status, now.error
    return now


async def replayed(ask, **chosen):
    """The result of a replay."""
    job = await ask(events.replay, ReplayEvents(**chosen))
    assert (job.kind, job.status) == ("events.replay", "queued")
    return job, Replayed.model_validate((await ended(ask, job)).result)


def seqs(heard, job):
    return [int(m.headers["x-replay-seq"]) for m in heard if m.headers["x-replay"] == job.id]


@pytest.mark.parametrize(("chosen", "belongs"), CHOICES.values(), ids=list(CHOICES))
async def test_exactly_what_was_chosen_is_played_in_order(
    ask, platform, agent, heard, chosen, belongs
):
    log = await look(platform, LOG)
    given = {"to_seq": log[-1]["seq"]} | chosen(log)
    expected = [event["seq"] for event in log if belongs(log, event)]

    job, result = await replayed(ask, target="subject", **given)

    assert result.events == len(expected)
    await eventually(lambda: as_awaited(len(seqs(heard, job)) >= len(expected)))
    assert seqs(heard, job) == expected


async def as_awaited(value):
    return value


async def test_a_replayed_message_is_the_event_and_says_that_it_is_played_again(
    ask, platform, agent, heard
):
    job, result = await replayed(ask, target="subject", aggregate_id=agent.id)
    log = [each for each in await look(platform, LOG) if each["aggregate_id"] == agent.id]
    await eventually(lambda: as_awaited(len(heard) >= len(log)))

    assert result.subject == f"replay.{job.id}.>"
    for message, event in zip(heard, log, strict=True):
        assert message.subject == f"replay.{job.id}.{event['type']}"
        assert message.data.decode() == event["body"]
        assert message.headers["ce-id"] == message.headers["x-replay-of"] == event["event_id"]
        assert message.headers["ce-type"] == event["type"]
        assert message.headers["ce-subject"] == agent.id
        assert message.headers["x-replay"] == job.id


async def test_what_is_played_again_starts_no_work(ask, platform, agent):
    before = await look(platform, "SELECT count(*) AS n FROM ops.inbox")
    await replayed(ask, target="subject", aggregate_id=agent.id)
    info = await platform.connection.jetstream().stream_info("EVENTS")
    doubled = await look(
        platform, "SELECT consumer FROM ops.inbox GROUP BY consumer, message_id HAVING count(*) > 1"
    )

    assert info.config.subjects == ["evt.>"]
    assert before is not None
    assert doubled == []


async def test_a_slow_replay_shows_how_far_it_is_and_can_be_cancelled(ask, platform, agent, heard):
    job = await ask(events.replay, ReplayEvents(target="subject", per_second=5))

    async def under_way():
        now = await ask(supervision.job, GetJob(id=job.id))
        return now.status == "running" and 0 < now.progress < 1

    await eventually(under_way)
    cancelled = await ask(supervision.cancel_job, CancelJob(id=job.id))
    _, result = await replayed(ask, target="subject")
    now = await ask(supervision.job, GetJob(id=job.id))

    assert cancelled.status == now.status == "cancelled"
    assert now.result is None
    assert 0 < len(seqs(heard, job)) < result.events


async def test_a_replay_goes_on_in_another_attempt_where_it_stopped(
    ask, platform, agent, heard, monkeypatch
):
    monkeypatch.setattr(replaying, "SHIFT_S", 0)
    monkeypatch.setattr(replaying.Subscribers, "batch", 7)
    monkeypatch.setattr(work, "WAIT_FOR_SERVERS_S", 0)
    log = await look(platform, LOG)

    job, result = await replayed(ask, target="subject", to_seq=log[-1]["seq"])

    await eventually(lambda: as_awaited(len(seqs(heard, job)) >= len(log)))
    assert seqs(heard, job) == [event["seq"] for event in log]
    assert result.events == len(log)
    assert (await ended(ask, job)).attempts == 1


async def test_a_replay_into_scratch_tables_finds_the_live_ones_equal(ask, platform, agent):
    _, result = await replayed(ask, target="scratch")
    [found] = [each for each in result.entities if each.entity == "agent"]

    assert result.ok
    assert found.aggregates >= 1
    assert found.compared == found.aggregates


async def test_a_replay_into_scratch_tables_finds_a_row_that_was_tampered_with(
    ask, platform, agent
):
    await platform.database.execute(TAMPER, agent.id)
    _, result = await replayed(ask, target="scratch", type="agents")
    [found] = result.entities

    assert not result.ok
    assert (found.entity, found.different) == ("agent", (agent.id,))


async def test_what_was_played_only_in_part_is_not_compared(ask, platform, agent):
    first = next(e for e in await look(platform, LOG) if e["aggregate_id"] == agent.id)
    _, result = await replayed(ask, target="scratch", aggregate_id=agent.id, to_seq=first["seq"])
    [found] = result.entities

    assert (found.aggregates, found.compared, found.different) == (1, 0, ())


async def test_scratch_tables_of_ended_jobs_are_emptied(ask, platform, agent):
    await replayed(ask, target="scratch")
    job, _ = await replayed(ask, target="scratch", aggregate_id=agent.id)
    left = await look(platform, "SELECT DISTINCT job_id FROM scratch.states")

    assert [row["job_id"] for row in left] == [job.id]


async def test_only_who_may_prove_the_log_may_replay_it(ask_as, platform):
    for role in ("viewer", "developer"):
        with pytest.raises(Denied):
            await ask_as(role)(events.replay, ReplayEvents(target="scratch"))
