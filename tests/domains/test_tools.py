"""Tools: registering them, calling them once, and tools of strangers on the bus."""

import asyncio
import json

import nats
import pytest
from nats.micro import ServiceConfig, add_service
from nats.micro.service import EndpointConfig

from bus.statement import Statement
from schemas import events, tools
from schemas.events import QueryEvents
from schemas.problems import BadSchema, KeyReused, OutsideSchema, StillRunning, Unavailable
from schemas.tools import (
    DeprecateTool,
    GetInvocation,
    GetTool,
    InvokeTool,
    ListInvocations,
    ListTools,
    NeedsAttention,
    RegisterTool,
    SearchTools,
    ToolBrokeItsSchema,
    ToolFailed,
    ToolTimedOut,
    ToolUnknown,
    ToolVersionTaken,
)
from tests.conftest import eventually, settled

pytestmark = pytest.mark.usefixtures("platform")

CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
DEGREES = {
    "type": "object",
    "properties": {"degrees": {"type": "number"}},
    "required": ["degrees"],
    "additionalProperties": False,
}
LATER = Statement(
    "UPDATE mcp_documents.tool_invocations SET started_at = started_at - interval '1 hour'"
    " WHERE id = $1"
)


def add(expression):
    return InvokeTool(name="calculator.evaluate", arguments={"expression": expression})


def weather(city="Oslo", **fields):
    return InvokeTool(name="weather.now", arguments={"city": city}, **fields)


def register(**fields):
    given = {
        "name": "weather.now", "description": "Weather of a city.", "subject": "tool.weather.now",
        "input_schema": CITY, "output_schema": DEGREES, "timeout_ms": 500,
    }  # fmt: skip
    return RegisterTool(**given | fields)


@pytest.fixture
async def stranger(settings):
    """A connection of a program that is not ours, with a way to answer subjects."""
    connection = await nats.connect(settings.nats_url.get_secret_value())

    async def answer(function, subject="tool.weather.now"):
        calls = []

        async def called(message):
            calls.append(message)
            await function(message)

        await connection.subscribe(subject, cb=called)
        await settled(connection)
        return calls

    yield answer
    await connection.close()


async def warm(message):
    await message.respond(b'{"degrees": 21.5}')


async def test_every_built_in_tool_is_there_and_found_by_what_it_does(ask):
    names = {tool.name for tool in (await ask(tools.listing, ListTools(limit=200))).items}
    assert {"documents.compare", "table.ask", "calculator.evaluate", "artifact.report"} <= names
    wanted = {
        "On which claims do the two reports disagree?": "documents.compare",
        "How many orders failed in total in each group?": "table.ask",
        "calculate a sum exactly": "calculator.evaluate",
    }
    for question, name in wanted.items():
        found = await ask(tools.search, SearchTools(q=question, limit=3))
        assert name in [hit.tool.name for hit in found.items]


async def test_a_call_is_kept_with_its_arguments_and_result(ask):
    called = await ask(tools.invoke, add("0.1 + 0.2"))
    assert called.status == "succeeded"
    assert called.result["value"] == "0.3"
    assert await ask(tools.invocation, GetInvocation(id=called.id)) == called
    listed = await ask(tools.invocations, ListInvocations(tool_name="calculator.evaluate"))
    assert listed.items[0].id == called.id
    recorded = await ask(events.query, QueryEvents(aggregate_id=called.id))
    assert [event.type for event in recorded.items] == [
        "tools.invocation_requested", "tools.invocation_succeeded",
    ]  # fmt: skip


async def test_arguments_outside_the_schema_are_refused_with_their_place(ask):
    with pytest.raises(OutsideSchema) as refused:
        await ask(tools.invoke, InvokeTool(name="calculator.evaluate", arguments={"expression": 7}))
    assert refused.value.details["path"] == "expression"
    assert refused.value.details["pointer"] == "/arguments/expression"


async def test_an_unknown_tool_is_refused(ask):
    with pytest.raises(ToolUnknown):
        await ask(tools.invoke, InvokeTool(name="no.such"))


async def test_the_same_key_answers_again_without_running(ask, stranger):
    await ask(tools.register, register())
    calls = await stranger(warm)
    first = await ask(tools.invoke, weather(), key="k")
    assert await ask(tools.invoke, weather(), key="k") == first
    assert len(calls) == 1
    with pytest.raises(KeyReused):
        await ask(tools.invoke, weather("Bergen"), key="k")


async def test_two_requests_of_one_key_at_once_run_the_tool_once(ask, stranger):
    await ask(tools.register, register())

    async def slow(message):
        await asyncio.sleep(0.2)
        await warm(message)

    calls = await stranger(slow)
    asked = [ask(tools.invoke, weather(), key="k") for _ in range(8)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert len(calls) == 1
    assert {type(a) for a in answers} <= {tools.ToolInvocation, StillRunning}
    assert (await ask(tools.invoke, weather(), key="k")).result == {"degrees": 21.5}


async def test_a_remote_tool_gets_json_its_call_and_its_deadline(ask, stranger):
    await ask(tools.register, register())
    calls = await stranger(warm)
    called = await ask(tools.invoke, weather())
    assert json.loads(calls[0].data) == {"city": "Oslo"}
    assert calls[0].headers["x-invocation-id"] == called.id
    assert int(calls[0].headers["x-deadline"]) > 0
    assert "x-principal" not in calls[0].headers


async def test_a_tool_that_nobody_answers_for_is_unavailable_and_may_be_asked_again(ask, stranger):
    await ask(tools.register, register())
    with pytest.raises(Unavailable):
        await ask(tools.invoke, weather(), key="k")
    await stranger(warm)
    called = await ask(tools.invoke, weather(), key="k")
    assert (called.status, called.attempts > 1) == ("succeeded", True)


async def test_a_hanging_tool_ends_at_its_timeout(ask, stranger):
    await ask(tools.register, register(timeout_ms=150))

    async def hang(message):
        pass

    calls = await stranger(hang)
    for _ in range(2):
        with pytest.raises(ToolTimedOut):
            await ask(tools.invoke, weather(), key="k")
    assert len(calls) == 1


@pytest.mark.parametrize(
    "answer",
    [b'{"degrees": "warm"}', b"{}", b"not json", b'{"degrees": 1, "x": 2}', b"x" * 300_000],
)
async def test_a_tool_that_lies_about_its_schema_is_caught(ask, stranger, answer):
    await ask(tools.register, register())

    async def lie(message):
        await message.respond(answer)

    await stranger(lie)
    with pytest.raises(ToolBrokeItsSchema):
        await ask(tools.invoke, weather())


async def test_only_the_first_answer_of_a_flooding_tool_counts(ask, stranger):
    await ask(tools.register, register())

    async def flood(message):
        for number in range(500):
            await message.respond(json.dumps({"degrees": number}).encode())

    await stranger(flood)
    assert (await ask(tools.invoke, weather())).result == {"degrees": 0}
    assert (await ask(tools.invoke, add("1 + 1"))).result["value"] == "2"


async def test_a_tool_fails_in_its_own_words(ask, stranger):
    await ask(tools.register, register())

    async def fail(message):
        await message.respond(b'{"error": {"message": "no such city"}}')

    await stranger(fail)
    with pytest.raises(ToolFailed, match="no such city"):
        await ask(tools.invoke, weather(), key="k")
    listed = await ask(tools.invocations, ListInvocations(status="failed"))
    assert listed.items[0].error["code"] == "ERR_510"


@pytest.fixture
def dies_in_the_middle(monkeypatch):
    """The first call of a tool never comes to its end, as if its process were killed."""
    from handlers.tools import calling

    run, left = calling.run, [1]

    async def die(*given):
        if left and left.pop():
            raise asyncio.CancelledError
        return await run(*given)

    monkeypatch.setattr(calling, "run", die)


@pytest.mark.usefixtures("dies_in_the_middle")
@pytest.mark.parametrize("repeatable", [True, False])
async def test_a_call_that_was_cut_off_is_repeated_only_if_the_tool_bears_it(
    ask, stranger, platform, repeatable
):
    await ask(tools.register, register(repeatable=repeatable))
    calls = await stranger(warm)
    asked = asyncio.create_task(ask(tools.invoke, weather(), key="k"))

    async def open_calls():
        return (await ask(tools.invocations, ListInvocations(status="executing"))).items

    [call] = await eventually(open_calls)
    asked.cancel()
    with pytest.raises(StillRunning):
        await ask(tools.invoke, weather(), key="k")
    await platform.database.execute(LATER, call.id)
    if repeatable:
        again = await ask(tools.invoke, weather(), key="k")
        assert (again.id, again.attempts, again.status) == (call.id, 2, "succeeded")
        assert len(calls) == 1
        return
    for _ in range(2):
        with pytest.raises(NeedsAttention):
            await ask(tools.invoke, weather(), key="k")
    assert calls == []


async def test_a_definition_is_pinned_by_name_and_version(ask):
    await ask(tools.register, register())
    with pytest.raises(ToolVersionTaken):
        await ask(tools.register, register(description="Other."))
    await ask(tools.register, register(tool_version="1.10.0"))
    await ask(tools.register, register(tool_version="1.9.0"))
    assert (await ask(tools.get, GetTool(name="weather.now"))).tool_version == "1.10.0"


async def test_the_name_of_a_built_in_tool_or_of_somebody_elses_cannot_be_taken(ask, ask_as):
    with pytest.raises(ToolVersionTaken):
        await ask(tools.register, register(name="calculator.evaluate", tool_version="9.0.0"))
    await ask(tools.register, register())
    with pytest.raises(ToolVersionTaken):
        await ask_as("developer")(tools.register, register(tool_version="2.0.0"))


@pytest.mark.parametrize(
    "schema", [{"type": "nope"}, {"$ref": "http://elsewhere"}, {"$ref": "#"}, {"x": "y" * 40_000}]
)
async def test_a_schema_that_cannot_be_used_is_refused(ask, schema):
    with pytest.raises(BadSchema):
        await ask(tools.register, register(input_schema=schema))


async def test_a_deprecated_tool_cannot_be_called(ask):
    await ask(tools.register, register())
    assert (await ask(tools.deprecate, DeprecateTool(name="weather.now"))).status == "deprecated"
    with pytest.raises(ToolUnknown):
        await ask(tools.invoke, weather())


async def serve(settings, schema=CITY, version="1.0.0"):
    """A program in plain nats-py that offers `weather.now`; returns its connection."""
    connection = await nats.connect(settings.nats_url.get_secret_value())

    async def now(request):
        await request.respond(b'{"degrees": 3}')

    config = ServiceConfig(name="weather", version=version, description="Weather")
    service = await add_service(connection, config)
    metadata = {
        "tool": "weather.now", "input_schema": json.dumps(schema), "description": "Weather.",
    }  # fmt: skip
    endpoint = EndpointConfig(
        name="now", subject="tool.weather.now", handler=now, metadata=metadata
    )
    await service.add_endpoint(endpoint)
    return connection


async def status_of(ask, version):
    try:
        found = await ask(tools.get, GetTool(name="weather.now", tool_version=version))
    except ToolUnknown:
        return None
    return found.status


async def test_a_program_that_joins_the_bus_brings_its_tool_and_takes_it_along(ask, settings):
    async def active():
        return await status_of(ask, "1.0.0") == "active"

    async def gone():
        return await status_of(ask, "1.0.0") == "unavailable"

    connection = await serve(settings)
    await eventually(active)
    assert (await ask(tools.invoke, weather())).result == {"degrees": 3}
    await connection.close()
    await eventually(gone, 30)
    with pytest.raises(Unavailable):
        await ask(tools.invoke, weather())
    connection = await serve(settings)
    await eventually(active)
    await connection.close()


async def test_another_schema_under_the_same_version_is_not_believed(ask, settings):
    async def active():
        return await status_of(ask, "1.0.0") == "active"

    async def newer():
        return await status_of(ask, "1.1.0") == "active"

    first = await serve(settings)
    await eventually(active)
    await first.close()
    other = {"type": "object", "properties": {"town": {"type": "string"}}}
    second = await serve(settings, schema=other)
    third = await serve(settings, schema=other, version="1.1.0")
    await eventually(newer, 30)
    pinned = await ask(tools.get, GetTool(name="weather.now", tool_version="1.0.0"))
    assert pinned.input_schema == CITY
    await second.close()
    await third.close()
