"""What is taken away is gone within a second: on two edges, open sockets and event streams."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from websockets import ConnectionClosed

from schemas.identity import grants, keys, sessions, users
from schemas.identity.grants import Give
from schemas.identity.keys import IssueKey, RevokeKey
from schemas.identity.sessions import EndSession, SignOut
from schemas.identity.users import DisableUser, SetPassword, UpdateUser
from tests import servers
from tests.conftest import eventually
from tests.security.world import (
    PASSWORD,
    Headers,
    Person,
    World,
    bearer,
    cookie,
    frame_of,
    listening,
    on_free_port,
    open_world,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_S = 1.0
Undo = Callable[[], Awaitable[Any]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def without_valkey(stack, template, tmp_path_factory) -> AsyncIterator[World]:
    """A platform whose Valkey was there at the start and is not any more."""
    folder = tmp_path_factory.mktemp("valkey")
    with servers.embedded(folder / "valkey", {"redis"}) as valkey:
        opening = open_world(stack, template, folder, redis_url=valkey.redis_url)
        world = await opening.__aenter__()
    yield world
    await opening.__aexit__(None, None, None)


@pytest.fixture(params=["valkey", "no-valkey"])
def place(request: pytest.FixtureRequest) -> World:
    """Both are held to the same bound."""
    name = "world" if request.param == "valkey" else "without_valkey"
    return request.getfixturevalue(name)


async def by_ending(world: World, person: Person) -> tuple[Headers, Undo]:
    signed = await world.sign_in(person)
    command = EndSession(id=signed.session.id)
    return bearer(signed.tokens.access_token), lambda: world.admin(sessions.end_session, command)


async def by_signing_out(world: World, person: Person) -> tuple[Headers, Undo]:
    shown = cookie(await world.sign_in(person, browser=True))
    body = SignOut().model_dump()
    return shown, lambda: world.http().post("/auth/logout", json=body, headers=shown)


async def by_disabling(world: World, person: Person) -> tuple[Headers, Undo]:
    shown = cookie(await world.sign_in(person, browser=True))
    return shown, lambda: world.admin(users.disable_user, DisableUser(id=person.user.id))


async def by_disabling_the_owner(world: World, person: Person) -> tuple[Headers, Undo]:
    issued = await world.as_owner(person)(keys.issue_key, IssueKey(name="k", roles=("viewer",)))
    return bearer(issued.secret), lambda: world.admin(
        users.disable_user, DisableUser(id=person.user.id)
    )


async def by_a_new_password(world: World, person: Person) -> tuple[Headers, Undo]:
    signed = await world.sign_in(person)
    command = SetPassword(id=person.user.id, new=PASSWORD)
    return bearer(signed.tokens.access_token), lambda: world.admin(users.set_password, command)


async def by_revoking(world: World, person: Person) -> tuple[Headers, Undo]:
    issued = await world.as_owner(person)(keys.issue_key, IssueKey(name="k", roles=("viewer",)))
    return bearer(issued.secret), lambda: world.admin(keys.revoke_key, RevokeKey(id=issued.key.id))


CAUSES = [by_ending, by_signing_out, by_disabling, by_disabling_the_owner, by_a_new_password,
          by_revoking]  # fmt: skip


@asynccontextmanager
async def event_stream(world: World, headers: Headers, edge: int) -> AsyncIterator[Any]:
    """An open event stream, behind its first event."""
    async with world.http(edge).stream("GET", "/events/stream", headers=headers) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        assert await anext(lines) == "event: hello"
        yield lines


async def end_of(lines: Any) -> float:
    """When a stream has ended."""
    async for _ in lines:
        pass
    return time.monotonic()


async def end_of_socket(socket: Any) -> float:
    """When a socket was closed, and that it was told why."""
    with pytest.raises(ConnectionClosed):
        await frame_of(socket, "never")
    assert socket.close_code == 4401
    return time.monotonic()


async def refused_at(world: World, headers: Headers, edge: int, status: int) -> float:
    """When one edge refuses."""
    client = world.http(edge)

    async def refused() -> bool:
        return (await client.get("/auth/me", headers=headers)).status_code == status

    await eventually(refused, timeout_s=10, every_s=0.02)
    return time.monotonic()


@pytest.mark.parametrize("cause", CAUSES)
async def test_it_is_refused_everywhere_within_a_second(place: World, cause: Any) -> None:
    headers, undo = await cause(place, await place.person("viewer"))
    origin = {"origin": place.urls[1]} if "cookie" in headers else {}
    async with (
        event_stream(place, headers, 0) as near, event_stream(place, headers, 1) as far,
        place.socket(headers | origin, edge=1) as socket,
    ):  # fmt: skip
        await frame_of(socket, "hello")
        ends = [asyncio.create_task(end_of(lines)) for lines in (near, far)]
        ends.append(asyncio.create_task(end_of_socket(socket)))
        await undo()
        done = time.monotonic()
        ends += [asyncio.create_task(refused_at(place, headers, edge, 401)) for edge in (0, 1)]
        async with asyncio.timeout(30):
            took = [round(at - done, 3) for at in await asyncio.gather(*ends)]
    assert max(took) <= BOUND_S, f"streams, socket, edges took {took} s"
    async with listening(on_free_port(place.settings)) as restarted:
        url = f"http://127.0.0.1:{restarted.server.config.port}/api/v1/auth/me"
        assert (await place.http().get(url, headers=headers)).status_code == 401


async def test_a_lost_role_is_lost_everywhere_within_a_second(place: World) -> None:
    """Events of others' accounts are for those who may read users; then for nobody of them."""
    person, other = await place.person("admin"), await place.person("viewer")
    await place.person("admin")  # one stays
    signed = await place.sign_in(person)
    headers = bearer(signed.tokens.access_token)
    async with event_stream(place, headers, 0) as lines, place.socket(headers, 1) as socket:
        await frame_of(socket, "hello")
        await socket.send(json.dumps({"op": "subscribe", "topics": ["events"]}))
        await frame_of(socket, "subscribed")
        ended = asyncio.create_task(end_of(lines))
        command = UpdateUser(
            id=person.user.id, version=person.user.version, name="x", roles=("viewer",)
        )
        await place.admin(users.update_user, command)
        done = time.monotonic()
        for edge in (0, 1):
            client = place.http(edge)

            async def denied(client: Any = client) -> bool:
                path = f"/users/{other.user.id}"
                return (await client.get(path, headers=headers)).status_code == 404

            await eventually(denied, timeout_s=10, every_s=0.02)
        took = time.monotonic() - done
        async with asyncio.timeout(30):
            took = max(took, await ended - done)
        assert took <= BOUND_S, f"took {took:.3f} s"
        hidden = await place.person("viewer")
        again = UpdateUser(id=person.user.id, version=2, name="y", roles=("viewer",))
        await place.admin(users.update_user, again)
        seen = {(await frame_of(socket, "event"))["entity_id"]}
        while person.user.id not in seen:
            seen.add((await frame_of(socket, "event"))["entity_id"])
        assert hidden.user.id not in seen


async def test_a_denied_feed_ends_the_event_stream_and_the_socket(place: World) -> None:
    person = await place.person("viewer")
    headers = bearer((await place.sign_in(person)).tokens.access_token)
    async with event_stream(place, headers, 0) as lines, place.socket(headers, 1) as socket:
        await frame_of(socket, "hello")
        await socket.send(json.dumps({"op": "subscribe", "topics": ["events"]}))
        await frame_of(socket, "subscribed")
        deny = Give(subject=f"user:{person.user.id}", permission="events:read", allow=False)
        await place.admin(grants.give, deny)
        done = time.monotonic()
        async with asyncio.timeout(30):
            await end_of(lines)
            with pytest.raises(ConnectionClosed):
                await frame_of(socket, "never")
        took = time.monotonic() - done
    assert socket.close_code == 4403
    assert took <= BOUND_S, f"took {took:.3f} s"
