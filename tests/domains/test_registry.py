"""Registry: who answers on the bus now, and finding what can be done."""

import asyncio
import json

import nats
import pytest

from bus.clock import Clock
from handlers.agents import rules as agent_rules
from schemas import events, registry
from schemas.events import QueryEvents
from schemas.problems import Internal, NotFound
from schemas.registry import GetService, InvokeService, ListServices, SearchServices
from tests.conftest import eventually, settled

pytestmark = pytest.mark.usefixtures("platform")


def info(name="weather", version="1.0.0", instance="a", **fields):
    endpoint = {"name": "now", "subject": "weather.now", "metadata": {"summary": "Say the weather"}}
    return {
        "type": "io.nats.micro.v1.info_response", "name": name, "id": instance,
        "version": version, "description": "Weather", "metadata": {}, "endpoints": [endpoint],
    } | fields  # fmt: skip


@pytest.fixture
async def answer(settings):
    """Answer $SRV.INFO with this body until the returned function is called."""
    connection = await nats.connect(settings.nats_url.get_secret_value())

    async def begin(body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()

        async def respond(message):
            await message.respond(data)

        subscription = await connection.subscribe("$SRV.INFO", cb=respond)
        await settled(connection)
        return subscription.unsubscribe

    yield begin
    await connection.close()


async def find(ask, name, **wanted):
    """The service, once it is as wanted."""

    async def there():
        try:
            found = await ask(registry.service, GetService(name=name))
        except NotFound:
            return None
        return found if all(getattr(found, k) == v for k, v in wanted.items()) else None

    return await eventually(there, 30)


async def test_the_platforms_own_domains_are_found_with_their_operations(ask):
    found = await find(ask, "tools", status="ready")
    assert "req.tools.invoke" in [endpoint.subject for endpoint in found.endpoints]
    listed = await ask(registry.services, ListServices(status="ready"))
    assert "registry" in [service.name for service in listed.items]


async def test_a_service_appears_changes_and_is_lost_each_once(ask, answer):
    stop = await answer(info())
    first = await find(ask, "weather", status="ready")
    await stop()
    stop = await answer(info(version="1.1.0", instance="b"))
    changed = await find(ask, "weather", service_version="1.1.0", instances=1)
    assert changed.id == first.id
    await stop()
    lost = await find(ask, "weather", status="lost")
    recorded = await ask(events.query, QueryEvents(aggregate_id=lost.id, limit=50))
    types = [event.type for event in recorded.items]
    assert (types[0], types[-1]) == ("registry.appeared", "registry.lost")
    assert types.count("registry.appeared") == types.count("registry.lost") == 1


async def test_a_quiet_round_writes_nothing(ask, answer):
    await answer(info())
    first = await find(ask, "weather", status="ready")
    await asyncio.sleep(7)  # two rounds: that nothing happens cannot be waited for otherwise
    assert await ask(registry.service, GetService(name="weather")) == first


@pytest.mark.parametrize(
    "hostile",
    [b"\xff\x00", b"[" * 10_000, b'{"name": "evil"}', json.dumps(info(name="a.b")).encode(),
     json.dumps(info(name="evil", endpoints=[{}] * 500)).encode()],
)  # fmt: skip
async def test_a_hostile_answer_harms_nobody(ask, answer, hostile):
    await answer(hostile)
    await answer(info(name="honest"))
    await find(ask, "honest", status="ready")
    listed = await ask(registry.services, ListServices(limit=200))
    assert "evil" not in [service.name for service in listed.items]


async def test_services_operations_and_tools_are_found_with_spelling_mistakes(ask, answer):
    await answer(info())
    await find(ask, "weather", status="ready")
    await find(ask, "agents", status="ready")

    async def best(query):
        found = await ask(registry.search, SearchServices(q=query, limit=3))
        return [(hit.kind, hit.name) for hit in found.items]

    async def complete():
        return ("operation", "agents.create") in await best("agents.create")

    await eventually(complete)
    assert (await best("wether"))[0] == ("service", "weather")
    assert ("operation", "agents.create") in await best("crate agent")
    assert (await best("calcluator"))[0] == ("tool", "calculator.evaluate")
    assert await best("zzzzzz") == []


async def test_invoked_operations_that_fail_show_in_their_service_and_refusals_do_not(
    ask, monkeypatch
):
    await find(ask, "agents", status="ready")
    nobody = InvokeService(name="agents.get", input={"id": Clock().new_id()})
    for _ in range(12):
        with pytest.raises(NotFound):
            await ask(registry.invoke, nobody)

    def broken(*_, **__):
        raise RuntimeError("anything")

    monkeypatch.setattr(agent_rules, "new_agent", broken)
    for number in range(24):
        command = InvokeService(name="agents.create", input={"name": f"reader-{number}"})
        with pytest.raises(Internal):
            await ask(registry.invoke, command)
    found = await find(ask, "agents", status="unhealthy")
    assert found.reason.endswith("% of its calls fail.")
    assert not found.reason.startswith("100"), "what was refused went well"
