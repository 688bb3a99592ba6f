"""What is given up is kept, holds up only its own aggregate, and goes on in order, each once."""

import asyncio

import pytest
from structlog.testing import CapturingLogger

from bus import doctor, letters, telemetry, work
from bus.envelope import Origin
from bus.letters import Counter, open_letters
from bus.work import Worker
from schemas import agents, integration
from schemas.agents import ConfigureAgent
from schemas.contract import Job
from schemas.integration import DropLetter, RequeueLetter
from tests.conftest import eventually, look
from tests.factories import create_agent
from tests.following import Digesting, at_work


class Heavy(Job, name="tests.heavy"):
    """Work that the test does."""

    number: int = 1


@pytest.fixture(autouse=True)
def hasty(monkeypatch):
    """Two failures are enough, and nothing pauses."""
    monkeypatch.setattr(work, "back_off", lambda _: 0)
    monkeypatch.setattr(work, "FAILURES_MAX", 2)


@pytest.fixture
async def digesting(platform):
    """A consumer of the test's own, at work."""
    follower = Digesting(platform)
    async with at_work(follower):
        yield follower


async def configure(ask, agent, *versions):
    """Change an agent once for each version that it has by then."""
    for version in versions:
        change = ConfigureAgent(id=agent.id, version=version, capabilities=(f"c{version}",))
        await ask(agents.configure, change)


async def buried(follower, ask, agent=None):
    """An agent whose first event was given up, with its letter."""
    if agent is None:
        agent = await ask(agents.create, create_agent())
        follower.poison.add(agent.id)
    wanted = {"state": "dead", "aggregate_id": agent.id}
    [letter] = await eventually(lambda: follower.letters(**wanted))
    return agent, letter


def parked(follower, agent, count):
    """Waits until so many of an agent's events are parked."""

    async def enough():
        found = await follower.letters(state="parked", aggregate_id=agent.id)
        return found if len(found) == count else None

    return eventually(enough)


def took_effect(follower, agent, versions):
    """Waits until exactly these versions took effect, in this order."""

    async def so():
        return await follower.effects(agent.id) == versions

    return eventually(so)


async def test_poison_is_parked_alone_and_what_follows_it_keeps_its_order(digesting, ask):
    other = await ask(agents.create, create_agent())
    agent, letter = await buried(digesting, ask)
    await configure(ask, agent, 1, 2, 3)
    await configure(ask, other, 1)
    await took_effect(digesting, other, [1, 2])
    waiting = await parked(digesting, agent, 3)
    assert [row["aggregate_version"] for row in waiting] == [2, 3, 4]
    assert await digesting.effects(agent.id) == []
    assert (letter["error_type"], letter["failures"]) == ("RuntimeError", 2)
    assert letter["error"] == "RuntimeError: cannot digest version 1"

    digesting.poison.clear()
    await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="mended")
    await took_effect(digesting, agent, [1, 2, 3, 4])

    async def settled():
        return len(await digesting.letters(state="done")) == 4

    await eventually(settled)
    await configure(ask, agent, 4)
    await took_effect(digesting, agent, [1, 2, 3, 4, 5])
    assert len(await digesting.letters()) == 4


async def test_what_fails_again_is_dead_again_and_still_holds_back_the_rest(digesting, ask):
    agent, letter = await buried(digesting, ask)
    await configure(ask, agent, 1)
    await parked(digesting, agent, 1)
    await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="in vain")

    async def again():
        return await digesting.letters(state="dead", requeues=1)

    [dead] = await eventually(again)
    assert (dead["id"], dead["failures"]) == (letter["id"], 4)
    await parked(digesting, agent, 1)
    assert await digesting.effects(agent.id) == []

    digesting.poison.clear()
    await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="mended")
    await took_effect(digesting, agent, [1, 2])


async def test_dropping_the_poison_lets_the_rest_go_on(digesting, ask):
    agent, letter = await buried(digesting, ask)
    await configure(ask, agent, 1, 2)
    await parked(digesting, agent, 2)
    digesting.poison.clear()
    dropped = await ask(
        integration.drop_letter, DropLetter(id=letter["id"], reason="It never happened."), key="d"
    )
    assert dropped.state == "dropped"
    await took_effect(digesting, agent, [2, 3])


async def test_dropping_what_waits_leaves_the_poison_in_its_place(digesting, ask):
    agent, letter = await buried(digesting, ask)
    await configure(ask, agent, 1, 2)
    second, _ = await parked(digesting, agent, 2)
    await ask(integration.drop_letter, DropLetter(id=second["id"], reason="Void."), key="d")
    await parked(digesting, agent, 1)
    digesting.poison.clear()
    await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="r")
    await took_effect(digesting, agent, [1, 3])


async def test_a_letter_requeued_many_times_takes_effect_once(digesting, ask):
    agent, letter = await buried(digesting, ask)
    digesting.poison.clear()
    command = RequeueLetter(id=letter["id"])
    keys = ("same", "same", "other", "third")
    asked = (ask(integration.requeue_letter, command, key=key) for key in keys)
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [a for a in answers if isinstance(a, Exception) and not a.retryable] == []
    await took_effect(digesting, agent, [1])
    done = await ask(integration.requeue_letter, command, key="late")
    await configure(ask, agent, 1)
    await took_effect(digesting, agent, [1, 2])
    assert done.requeues == 1


async def test_a_message_sent_again_is_for_its_own_consumer_alone(digesting, ask, platform):
    other = Digesting(platform, "tests-other")
    async with at_work(other):
        agent, letter = await buried(digesting, ask)
        await took_effect(other, agent, [1])
        digesting.poison.clear()
        await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="r")
        await took_effect(digesting, agent, [1])
        await configure(ask, agent, 1)
        await took_effect(other, agent, [1, 2])
        assert await other.letters() == []


async def test_a_later_event_that_fails_by_itself_is_parked_behind_the_poison(
    digesting, ask, monkeypatch
):
    async def fails_first(event, ctx):
        raise RuntimeError("before any transaction")

    monkeypatch.setattr(digesting, "_handler", fails_first)
    agent, _ = await buried(digesting, ask)
    await configure(ask, agent, 1)
    [waiting] = await parked(digesting, agent, 1)
    assert (waiting["error"], waiting["failures"]) == (None, 0)


async def test_whoever_watches_the_bus_gets_a_copy_that_names_the_letter(digesting, ask, platform):
    agent, letter = await buried(digesting, ask)
    jetstream = platform.connection.jetstream()

    async def copy():
        info = await jetstream.streams_info()
        [dead] = [stream for stream in info if stream.config.name == "DEAD"]
        subjects = (await jetstream.stream_info("DEAD", subjects_filter="dead.>")).state.subjects
        return dead.state.messages and (subjects or {}).get("dead.events.tests-digest")

    assert await eventually(copy) == 1
    headers = (await jetstream.get_last_msg("DEAD", "dead.events.tests-digest")).headers
    assert headers["x-dead-letter"] == letter["id"]
    assert headers["x-dead-subject"] == f"evt.agents.created.{agent.id}"


async def test_open_letters_are_counted_told_and_shown_by_the_doctor(
    digesting, ask, platform, settings, monkeypatch
):
    agent, letter = await buried(digesting, ask)
    await configure(ask, agent, 1)
    await parked(digesting, agent, 1)
    counter = Counter(platform)
    told = CapturingLogger()
    monkeypatch.setattr(telemetry, "log", lambda: told)
    await counter.count()
    await counter.count()
    about = [call for call in told.calls if call.args == ("dead letters wait",)]
    assert [(call.method_name, call.kwargs["consumer"]) for call in about if call.kwargs] == [
        ("warning", "tests-digest")
    ]
    assert open_letters.labels("tests-digest", "dead")._value.get() == 1
    assert open_letters.labels("tests-digest", "parked")._value.get() == 1
    findings = {f.part: f for f in await doctor.postgres(settings)}
    assert not findings["letters"].ok
    assert "tests-digest 1 dead, tests-digest 1 parked" in findings["letters"].text

    digesting.poison.clear()
    await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="r")
    await took_effect(digesting, agent, [1, 2])
    await counter.count()
    assert open_letters.labels("tests-digest", "dead")._value.get() == 0
    assert {f.part: f.ok for f in await doctor.postgres(settings)}["letters"]


@pytest.fixture
async def working(platform):
    """Hand the messages of a job of the test's own to a worker, until a check is true."""
    jetstream = platform.connection.jetstream()
    pulled = await jetstream.pull_subscribe("job.tests.heavy", "tests-heavy", stream="JOBS")

    async def work_until(perform, check):
        worker = Worker("tests.heavy", Heavy, perform, platform, attempts=2, timeout_s=5)

        async def one():
            try:
                [message] = await pulled.fetch(1, timeout=0.2)
            except TimeoutError:
                return await check()
            await worker.consume(message)
            return await check()

        return await eventually(one)

    yield work_until
    await pulled.unsubscribe()


async def queue(platform, delay_s=0):
    """The id of a job of the test's own, committed; its message comes after the delay."""
    tx = await platform.database.begin(Origin("admin", "r", roles=("admin",)))
    job_id = await tx.enqueue(Heavy(number=7), delay_s=delay_s)
    await tx.commit()
    return job_id


async def letters_of_jobs(platform, state):
    """Letters of the test's jobs in a state."""
    sql = "SELECT * FROM ops.dead_letters WHERE consumer = 'tests-heavy' AND state = $1"
    return await look(platform, sql, state)


async def fail(command, ctx):
    raise RuntimeError("too heavy")


async def test_a_requeued_job_is_ready_again_and_begins_to_count_anew(platform, ask, working):
    job_id = await queue(platform)
    [letter] = await working(fail, lambda: letters_of_jobs(platform, "dead"))
    assert (letter["job_id"], letter["stream"], letter["failures"]) == (job_id, "JOBS", 2)
    answer = await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="r")
    assert answer.state == "requeued"
    sql = "SELECT status, attempts FROM ops.jobs WHERE id = $1"
    [job] = await look(platform, sql, job_id)
    assert tuple(job) == ("queued", 0)

    attempts = []

    async def lift(command, ctx):
        attempts.append((command.number, ctx.attempt))

    await working(lift, lambda: letters_of_jobs(platform, "done"))
    assert attempts == [(7, 1)]
    [job] = await look(platform, sql, job_id)
    assert job["status"] == "succeeded"


async def test_a_job_that_fails_again_keeps_its_letter(platform, ask, working):
    await queue(platform)
    [letter] = await working(fail, lambda: letters_of_jobs(platform, "dead"))
    await ask(integration.requeue_letter, RequeueLetter(id=letter["id"]), key="r")
    [again] = await working(fail, lambda: letters_of_jobs(platform, "dead"))
    assert (again["id"], again["requeues"], again["failures"]) == (letter["id"], 1, 4)


async def test_a_job_that_cannot_be_read_or_has_no_name_is_given_up_at_once(platform, working):
    job_id = await queue(platform, delay_s=3600)
    jetstream = platform.connection.jetstream()
    await jetstream.publish("job.tests.heavy", b"\xff{", headers={"x-job-id": job_id})
    await jetstream.publish("job.tests.heavy", b"{}", headers={"x-job-id": "nobody's"})

    async def lift(command, ctx):
        raise AssertionError("it was read")

    async def both():
        found = await letters_of_jobs(platform, "dead")
        return found if len(found) == 2 else None

    found = await working(lift, both)
    assert {row["job_id"]: row["error_type"] for row in found} == {
        job_id: "Unreadable",
        None: "Unreadable",
    }
    [job] = await look(platform, "SELECT status, attempts FROM ops.jobs WHERE id = $1", job_id)
    assert tuple(job) == ("failed", 1)


def test_an_error_is_one_that_the_database_can_keep():
    assert letters.describe(ValueError("a\0b\ud800")) == "ValueError: a\\0b\\ud800"
    assert len(letters.describe(ValueError("x" * 10_000))) == letters.TEXT_MAX
