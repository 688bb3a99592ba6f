"""The matrix: every door, credential and role, as checked in, as declared, and as it is."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterable

import httpx2
import jwt
import pytest
import pytest_asyncio
from websockets import ConnectionClosed
from websockets.asyncio.client import ClientConnection

from bus import envelope, subjects
from bus.live import Lane
from schemas import catalogue
from schemas.principal import ANONYMOUS, ROLES, Principal, Role, RunRights
from tests.security import matrix
from tests.security.kinds import FACTORIES
from tests.security.world import Headers, World, frame_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = 8
NO_SUCH = "0192f0c1-0000-7000-8000-000000000000"
STREAMING = ("streams.resume", "events.stream")
REFUSALS = {"ERR_200": "401", "ERR_201": "401", "ERR_203": "401", "ERR_300": "403"}
PLACES = matrix.places()
OPERATIONS = {o.name: o for o in catalogue.operations()}

Verdict = Callable[[World, matrix.Place, Headers, str, httpx2.AsyncClient], Awaitable[str]]


async def test_every_door_has_a_row_and_every_row_a_door() -> None:
    assert sorted(matrix.read()) == sorted(place.name for place in PLACES)
    assert {place.operation for place in PLACES} >= OPERATIONS.keys()


async def test_the_table_is_what_the_declarations_say() -> None:
    assert matrix.TABLE.read_text() == matrix.render(), (
        "run `python -m tests.security.matrix` and review the diff"
    )


async def test_every_kind_of_credential_can_be_made() -> None:
    assert [*FACTORIES, matrix.OVER_NATS] == list(matrix.KINDS)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shown(world: World) -> dict[str, Headers]:
    """Column of the table -> what its caller shows."""
    people = {role: await world.person(role) for role in ROLES}
    columns: dict[str, Headers] = {"none": {}}
    for kind, make in FACTORIES.items():
        for role, person in people.items():
            columns[f"{kind}.{role}"] = await make(world, person)
    return columns


def split(column: str) -> tuple[str, Role]:
    """`key.viewer` -> its kind and role."""
    kind, _, role = column.partition(".")
    return kind, role or "viewer"  # type: ignore[return-value]


async def over_http(
    world: World, place: matrix.Place, headers: Headers, _: str, client: httpx2.AsyncClient
) -> str:
    """The verdict of a path; a parameter that nothing takes is refused right behind the door."""
    method, path = place.name.split(" ")
    path = path.replace("{file}", "x").replace("{name}", "x.y")
    for parameter in ("{id}", "{agent_id}", "{run_id}"):
        path = path.replace(parameter, NO_SUCH)
    url = f"{world.urls[0]}{path}"
    if place.operation in STREAMING:
        return await over_events(client, url, headers)
    answer = await client.request(method, url, params={"no-such-field": "1"}, headers=headers)
    return of_answer(answer)


async def over_events(client: httpx2.AsyncClient, url: str, headers: Headers) -> str:
    """The verdict of a streaming door: it is opened, and left."""
    async with client.stream("GET", url, headers=headers) as answer:
        if answer.status_code == 200:
            return "allow"
        await answer.aread()
        return "404" if answer.status_code == 404 else of_answer(answer)


def of_answer(answer: httpx2.Response) -> str:
    """401, 403, or allow: whatever came after."""
    assert answer.status_code < 500, answer.text
    if answer.status_code not in (401, 403):
        return "allow"
    verdict = REFUSALS[answer.json()["error"]["code"]]
    assert verdict == str(answer.status_code)
    return verdict


async def over_bus(
    world: World, place: matrix.Place, _: Headers, column: str, __: httpx2.AsyncClient
) -> str:
    """The verdict of an operation that has no path."""
    kind, role = split(column)
    scopes = matrix.KINDS[kind].scopes if kind != "none" else ()
    principal = Principal(id="somebody", kind="user", roles=(role,), scopes=scopes)
    if kind == matrix.RUN:
        rights = RunRights(run_id="run", tools=(), tokens=1000, until=int(time.time()) + 60)
        principal = Principal(id="somebody", kind="agent", roles=(role,), run=rights)
    header = world.signer.sign(ANONYMOUS if kind == "none" else principal)
    if kind == "expired":
        claims = jwt.decode(header, options={"verify_signature": False}) | {"exp": 1}
        header = jwt.encode(claims, world.signer._key, algorithm="EdDSA", headers={"kid": "edge"})
    subject = OPERATIONS[place.operation].subject
    headers = {envelope.PRINCIPAL: header}
    answer = await world.client.connection.request(subject, b"[]", timeout=10, headers=headers)
    return REFUSALS.get((answer.headers or {}).get(envelope.ERROR, ""), "allow")


def expected(cell: str) -> str:
    """What one request without a thing of anybody's is told."""
    return "allow" if cell == "own" else cell


async def differences(
    world: World, shown: dict[str, Headers], door: str, ask: Verdict
) -> list[str]:
    """Every cell whose verdict is another than the table's."""
    table, found = matrix.read(), list[str]()
    places = [place for place in PLACES if (place.name.split(" ")[0] in door.split("|"))]
    client, at_once = world.http(), asyncio.Semaphore(AT_ONCE)

    async def check(place: matrix.Place, column: str, headers: Headers) -> None:
        cell = expected(table[place.name][column])
        async with at_once:
            verdict = await ask(world, place, headers, column, client)
        if verdict != cell:
            found.append(f"{place.name} {column}: {verdict}, expected {cell}")

    assert places
    for place in places:
        world.give_back_limits()
        cells = table[place.name]
        await asyncio.gather(*(check(place, c, h) for c, h in shown.items() if cells[c] != "-"))
    return found


async def test_every_path_answers_every_caller_as_the_table_says(
    world: World, shown: dict[str, Headers]
) -> None:
    await Lane(world.client.connection, subjects.live("models", NO_SUCH)).end(b"{}")
    assert await differences(world, shown, "GET|POST|PUT|DELETE", over_http) == []


async def test_what_has_no_path_answers_every_caller_as_the_table_says(
    world: World, shown: dict[str, Headers]
) -> None:
    assert await differences(world, shown, "BUS", over_bus) == []


async def test_every_frame_and_topic_answers_every_caller_as_the_table_says(
    world: World, shown: dict[str, Headers]
) -> None:
    """All frames of a caller go through one socket, as they do in life."""
    table, found = matrix.read(), list[str]()
    rows = {place.name.removeprefix("WS "): table[place.name]
            for place in PLACES if place.name.startswith("WS")}  # fmt: skip
    for column, headers in shown.items():
        verdicts = await over_socket(world, headers, rows)
        for name, cells in rows.items():
            if verdicts[name] != expected(cells[column]):
                found.append(f"{name} {column}: {verdicts[name]}, expected {cells[column]}")
    assert found == []


async def over_socket(world: World, headers: Headers, rows: Iterable[str]) -> dict[str, str]:
    """Frame -> verdict; a caller who is nobody is told so by the close code."""
    origin = {"origin": world.urls[0]} if "cookie" in headers else {}
    first = headers or {"x-api-key": "none"}
    verdicts: dict[str, str] = {}
    try:
        async with world.socket(first | origin) as socket:
            await frame_of(socket, "hello")
            for name in rows:
                verdicts[name] = await over_frame(socket, name)
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else 0
        return dict.fromkeys(rows, {4401: "401", 4403: "403"}.get(code, str(code)))
    return verdicts


async def over_frame(socket: ClientConnection, name: str) -> str:
    """Send a frame and then a ping: what comes before the pong is the verdict."""
    op, _, topic = name.partition(" ")
    await socket.send(json.dumps({"op": op, "topics": [topic or "events"], "position": "0"}))
    await socket.send('{"op":"ping"}')
    verdict = "allow"
    while (frame := json.loads(await socket.recv()))["op"] != "pong":
        if frame["op"] == "error":
            verdict = REFUSALS[frame["code"]]
    if op == "ping":
        await frame_of(socket, "pong")
    return verdict
