"""kill -9 in the middle of a replay: who listens hears every event once, in order."""

import nats

from schemas import events, supervision
from schemas.events import ReplayEvents
from schemas.supervision import GetJob
from tests.conftest import eventually, settled
from tests.faults.test_crashes import AT_A_REPLAY, patiently


async def test_a_replay_survives_the_death_of_its_worker(handlers, ask, settings):
    connection = await nats.connect(settings.nats_url.get_secret_value())
    heard = []

    async def hear(message):
        heard.append(int(message.headers["x-replay-seq"]))

    await connection.subscribe("replay.>", cb=hear)
    await settled(connection)
    doomed = handlers.start(AT_A_REPLAY)
    command = ReplayEvents(target="subject", per_second=200)
    job = await patiently(ask, events.replay, command)
    await handlers.died(doomed)
    assert heard
    before = len(heard)
    handlers.start()

    async def ended():
        now = await patiently(ask, supervision.job, GetJob(id=job.id))
        assert now.status in ("queued", "running", "succeeded"), now.error
        return now if now.status == "succeeded" else None

    now = await eventually(ended, 90, 0.3)
    await eventually(lambda: all_heard(heard, now.result["events"]))
    assert before < len(heard) == now.result["events"]
    assert heard == sorted(set(heard))
    await connection.close()


async def all_heard(heard, count):
    return len(heard) >= count
