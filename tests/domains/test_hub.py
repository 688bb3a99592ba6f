"""The hub: services that register, how they are, everything that can be invoked, invoking it."""

import asyncio
import json
import os
import sys

import nats
import pytest

from bus.service import own_context
from handlers.registry import reactions, rules, service
from schemas import agents, catalogue, events, registry, tools
from schemas.agents import CreateAgent, GetAgent
from schemas.events import QueryEvents
from schemas.problems import (
    Denied,
    IllegalMove,
    KeyReused,
    Malformed,
    NotFound,
    OutsideSchema,
    Unavailable,
)
from schemas.registry import (
    DeregisterService,
    GetEntry,
    GetService,
    InvokeService,
    ListEntries,
    ListServices,
    NewEndpoint,
    RegisterService,
    RenewService,
    SearchServices,
    ServiceNameTaken,
    ServiceVersionTaken,
    TooManyServices,
)
from schemas.tools import ListInvocations, ToolFailed
from tests.conftest import ROOT, eventually, look, settled

pytestmark = pytest.mark.usefixtures("platform")

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
LATER = (
    "UPDATE registry.watches SET look_at = now(), lease_until = lease_until - interval '1 hour',"
    " health = health || jsonb_build_object('unhealthy_since',"
    " (health ->> 'unhealthy_since')::timestamptz - interval '1 hour') WHERE service_id = $1"
)


def weather(**fields):
    endpoint = NewEndpoint(
        name="now", subject="tool.weather.now", description="Tell the weather of a city.",
        input_schema=CITY, tags=("forecast",),
    )  # fmt: skip
    given = {"name": "weather", "description": "Weather of everywhere", "endpoints": (endpoint,)}
    return RegisterService(**given | {"layer": "L11", "tags": ("sky", "earth")} | fields)


@pytest.fixture
async def stranger(settings):
    """Answers subjects as a program that is not ours."""
    connection = await nats.connect(settings.nats_url.get_secret_value())

    async def answer(subject, body=b'{"degrees": 21}', headers=None):
        async def called(message):
            await connection.publish(message.reply, body, headers=headers)

        subscription = await connection.subscribe(subject, cb=called)
        await settled(connection)
        return subscription

    yield answer
    await connection.close()


async def gone(answers):
    """It answers no more, and the bus knows it."""
    await answers.unsubscribe()
    await settled(answers._conn)


@pytest.fixture
def sweep(platform):
    """A sweep of the registry, now."""

    async def run(function, *values):
        await function(*values, own_context(service, platform))

    return run


async def types_of(ask, found):
    """What was announced of a service, and nothing of what else there is."""
    recorded = await ask(events.query, QueryEvents(aggregate_id=found.id, limit=100))
    return [event.type.partition(".")[2] for event in recorded.items]


async def status_of(ask, name="weather"):
    return (await ask(registry.service, GetService(name=name))).status


async def test_a_registered_service_is_listed_found_invoked_and_taken_back(ask, ask_as, stranger):
    ada, eve = ask_as("developer", "ada"), ask_as("developer", "eve")
    await stranger("tool.weather.now")
    made = await ada(registry.register, weather())
    assert (made.status, made.owner_id, made.version) == ("ready", "ada", 1)
    assert await ada(registry.register, weather()) == made  # renewed: nothing to announce

    found = await ask(registry.services, ListServices(layer="L11", tags=("sky",), like="wether"))
    assert found.items == (made,)
    for other in (
        {"layer": "L02"},
        {"tags": ("sky", "sea")},
        {"like": "zebra"},
        {"status": "lost"},
    ):
        assert made not in (await ask(registry.services, ListServices(**other))).items

    async def a_tool():
        hits = await ask(registry.search, SearchServices(q="wether of a city", kind="tool"))
        return [hit for hit in hits.items if hit.name == "weather.now"]

    [hit] = await eventually(a_tool)
    assert (hit.service, hit.layer, hit.status) == ("weather", "L11", "ready")
    assert {"sky", "earth"} <= set(hit.tags)
    for name in ("weather.now", "weather"):
        invoked = await eve(registry.invoke, InvokeService(name=name, input={"city": "Oslo"}))
        assert (invoked.service, invoked.output) == ("weather", {"degrees": 21})

    for command in (RenewService(name="weather"), DeregisterService(name="weather")):
        operation = registry.renew if isinstance(command, RenewService) else registry.deregister
        with pytest.raises(NotFound):
            await eve(operation, command)
        with pytest.raises(NotFound):
            await ask_as("operator")(operation, command)
    with pytest.raises(ServiceNameTaken):
        await eve(registry.register, weather())
    with pytest.raises(ServiceVersionTaken):
        await ada(registry.register, weather(endpoints=()))
    assert (await ada(registry.renew, RenewService(name="weather"))).until > made.updated_at
    gone = await ask(registry.deregister, DeregisterService(name="weather"))
    assert (gone.status, gone.reason) == ("lost", "It was deregistered.")
    assert made.name not in [s.name for s in (await ask(registry.services, ListServices())).items]
    with pytest.raises(NotFound):
        await ada(registry.renew, RenewService(name="weather"))
    with pytest.raises(ServiceNameTaken):
        await eve(registry.register, weather())
    assert await types_of(ask, made) == ["appeared", "lost"]
    again = await ada(registry.register, weather(service_version="1.1.0"))
    assert (again.version, again.status) == (3, "ready")


async def test_the_example_of_the_documents_is_registered_well_and_invoked(settings, ask, sweep):
    environment = os.environ | {"NATS_URL": settings.nats_url.get_secret_value()}
    program = await asyncio.create_subprocess_exec(
        sys.executable, "examples/service.py", env=environment, cwd=ROOT
    )
    try:
        endpoints = json.loads((ROOT / "examples/service.json").read_text())
        command = weather(
            name="lengths", endpoints=endpoints, health_subject="tool.lengths.well",
            check_every_s=3600,
        )  # fmt: skip
        await ask(registry.register, command)

        async def feet():
            wanted = InvokeService(name="lengths.convert", input={"metres": 3})
            try:
                return (await ask(registry.invoke, wanted)).output
            except (NotFound, Unavailable):  # not learnt yet, or not there yet
                return None

        assert await eventually(feet) == {"feet": 9.84252}
        for _ in range(3):
            await sweep(reactions.check_one, "lengths", "tool.lengths.well")
        assert await status_of(ask, "lengths") == "ready"
    finally:
        program.terminate()
        await program.wait()


async def test_a_lease_that_ends_or_is_not_known_makes_it_unhealthy_and_at_last_removes_it(
    platform, ask, ask_as, sweep
):
    ada = ask_as("developer", "ada")
    made = await ada(registry.register, weather())
    await look(platform, LATER, made.id)
    await sweep(reactions.look_after)
    unwell = await ask(registry.service, GetService(name="weather"))
    assert (unwell.status, unwell.reason) == ("unhealthy", "Its lease has ended.")
    assert (await ada(registry.renew, RenewService(name="weather"))).status == "ready"
    for status in ("unhealthy", "lost"):
        await look(platform, LATER, made.id)
        await sweep(reactions.look_after)
        assert await status_of(ask) == status
    await sweep(reactions.look_after)
    assert await types_of(ask, made) == [
        "appeared", "health_changed", "health_changed", "health_changed", "lost",
    ]  # fmt: skip
    again = await ada(registry.register, weather())
    await look(platform, "UPDATE registry.watches SET service_id = uuidv7()")
    await sweep(reactions.look_after)
    assert await status_of(ask) == "unhealthy"
    with pytest.raises(IllegalMove):
        await ada(registry.renew, RenewService(name="weather"))
    assert (await ada(registry.register, weather())).id == again.id
    assert await status_of(ask) == "ready"


async def test_checks_that_fail_are_told_and_what_flaps_is_told_no_more(
    platform, ask, sweep, stranger
):
    well = weather(health_subject="tool.weather.well", check_every_s=3600)
    made = await ask(registry.register, well)

    async def check(times, expected):
        for _ in range(times):
            await sweep(reactions.check_one, "weather", "tool.weather.well")
        assert await status_of(ask) == expected

    await check(2, "ready")
    await check(1, "unhealthy")
    answers = await stranger("tool.weather.well")
    await check(1, "unhealthy")
    await check(1, "ready")
    await gone(answers)
    answers = await stranger("tool.weather.well", b"", {"Nats-Service-Error": "no"})
    await check(3, "unhealthy")
    await gone(answers)
    answers = await stranger("tool.weather.well")
    await check(2, "ready")
    for _ in range(4):
        await gone(answers)
        await check(3, "flapping")
        answers = await stranger("tool.weather.well")
        await check(2, "flapping")
    assert await types_of(ask, made) == ["appeared", *["health_changed"] * 5]

    before = answers.delivered
    await look(platform, "UPDATE registry.watches SET check_at = now() WHERE check_at IS NOT NULL")

    async def done():
        await sweep(reactions.check)
        return answers.delivered > before

    await eventually(done)  # by this sweep or by the one that runs anyhow
    await sweep(reactions.check)
    assert answers.delivered == before + 1


async def test_calls_that_fail_show_in_the_service(ask, sweep, stranger):
    error = {"Nats-Service-Error": "broken", "Nats-Service-Error-Code": "500"}
    await stranger("tool.weather.now", b"", error)
    await ask(registry.register, weather())

    async def failing():
        try:
            await ask(registry.invoke, InvokeService(name="weather", input={"city": "Oslo"}))
        except NotFound:
            return False  # the domain of tools has not learnt of it yet
        except ToolFailed:
            return True

    await eventually(failing)
    for _ in range(11):
        assert await failing()

    async def told():
        await sweep(reactions.look_after)
        return await status_of(ask) == "unhealthy"

    await eventually(told)
    found = await ask(registry.service, GetService(name="weather"))
    assert found.reason == "100 % of its calls fail."

    async def shown():
        unwell = SearchServices(q="weather.now", kind="tool", status="unhealthy")
        return [hit.name for hit in (await ask(registry.search, unwell)).items]

    assert await eventually(shown) == ["weather.now"]


async def test_every_operation_is_an_entry_with_its_layer_status_tags_and_schema(ask):
    async def all_there():
        found, cursor = [], None
        while True:
            asked = ListEntries(kind="operation", limit=100, cursor=cursor)
            page = await ask(registry.entries, asked)
            found += page.items
            cursor = page.next
            if cursor is None:
                break
        names = [each.name for each in found]
        assert len(set(names)) == len(names)
        wanted = {operation.name for operation in catalogue.operations()}
        return found if wanted <= set(names) else None

    found = {each.name: each for each in await eventually(all_there, 30)}
    assert len(found) >= 100
    for operation in catalogue.operations():
        each = found[operation.name]
        assert each.service == operation.domain
        assert each.layer
        assert each.status == "ready"
        assert each.tags == operation.tags
        assert each.input_schema == operation.request.model_json_schema()
        assert each.permission == operation.may
    wanted = ListEntries(kind="operation", layer="L02", tags=("reads",), status="ready")
    reads = await ask(registry.entries, wanted)
    assert {each.name for each in reads.items} == {
        o.name for o in catalogue.operations() if o.domain == "agents" and o.reads
    }
    one = await ask(registry.entry, GetEntry(name="agents.create"))
    assert one == found["agents.create"]
    with pytest.raises(NotFound):
        await ask(registry.entry, GetEntry(name="agents.fly"))


async def test_an_operation_is_invoked_with_the_callers_rights_and_nobody_elses(ask, ask_as):
    developer = ask_as("developer", "ada")
    invoke = InvokeService(name="agents.create", input={"name": "reader"})
    made = await developer(registry.invoke, invoke, key="once")
    assert (made.kind, made.service) == ("operation", "agents")
    assert await developer(registry.invoke, invoke, key="once") == made
    stored = await ask(agents.get, GetAgent(id=made.output["id"]))
    assert stored.owner_id == "ada"
    with pytest.raises(KeyReused):
        await developer(agents.create, CreateAgent(name="writer"), key="once")
    with pytest.raises(Denied):  # operators may invoke, and make no agents
        await ask_as("operator")(registry.invoke, invoke)
    with pytest.raises(Denied):
        await ask_as("viewer")(registry.invoke, invoke)


async def test_what_cannot_be_invoked_is_refused_before_anything_is_asked(ask):
    several = (await eventually(lambda: known(ask, "agents"), 30)).name
    nothing = ("agents.fly", "nobody", "nobody.there", "A.b")
    not_for_callers = ("registry.invoke", "identity.sign-in", "identity.resolve-key")
    for name in (*nothing, *not_for_callers, several):
        with pytest.raises(NotFound):
            await ask(registry.invoke, InvokeService(name=name))
    wrong = {"name": 7, "config": {"tools": ["a/b", 3]}}
    with pytest.raises(Malformed) as refused:
        await ask(registry.invoke, InvokeService(name="agents.create", input=wrong))
    pointers = [field["pointer"] for field in refused.value.details["fields"]]
    assert "/input/name" in pointers
    assert "/input/config/tools/1" in pointers
    given = {"expression": ["1", "+"]}
    with pytest.raises(OutsideSchema) as outside:
        await ask(registry.invoke, InvokeService(name="calculator.evaluate", input=given))
    assert outside.value.details["pointer"] == "/input/expression"
    kept = await ask(tools.invocations, ListInvocations(tool_name="calculator.evaluate"))
    assert kept.items == ()


async def known(ask, name):
    try:
        return await ask(registry.service, GetService(name=name))
    except NotFound:
        return None


async def test_nobody_registers_without_end_and_no_list_outgrows_a_message(
    platform, ask, ask_as, monkeypatch
):
    ada = ask_as("developer", "ada")
    schema = {"type": "object", "description": "x" * 25_000}
    large = [
        NewEndpoint(name=f"e{n}", subject="tool.large", description="d", input_schema=schema)
        for n in range(8)
    ]
    names = [f"large{n}" for n in range(8)]
    for name in names:
        await ada(registry.register, weather(name=name, endpoints=tuple(large)))
    listed, cursor = [], None
    while True:
        page = await ask(registry.services, ListServices(like="large", cursor=cursor))
        listed += [each.name for each in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert listed == names
    monkeypatch.setattr(rules, "OWNED_MAX", len(names))
    with pytest.raises(TooManyServices):
        await ada(registry.register, weather())
    assert (await ada(registry.register, weather(name="large0", endpoints=tuple(large)))).version
