"""Grants on single things: what they hide and open, everywhere, and that `explain` tells the truth."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bus import process
from bus.credentials import new_credential
from bus.lifecycle import Health
from bus.service import Service
from handlers import DOMAINS
from schemas import agents
from schemas.contract import Listing, Operation, Page
from schemas.identity import grants, keys, users
from schemas.identity.grants import Give, Withdraw
from schemas.identity.keys import IssueKey
from schemas.principal import ROLES, Principal, permissions
from schemas.problems import Denied, Unavailable
from tests.conftest import eventually
from tests.security.things import MAKERS, agent, document, tool
from tests.security.world import Headers, Person, World, bearer, frame_of, open_world
from tests.servers import Stack

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND_S = 1.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def owner(world: World) -> Person:
    return await world.person("developer")


async def shown_by(world: World, person: Person) -> Headers:
    """An access token."""
    signed = await world.sign_in(person)
    assert signed.tokens is not None
    return bearer(signed.tokens.access_token)


async def give(world: World, subject: str, permission: str, thing: str = "*", **how: Any) -> str:
    """Make a grant; its id."""
    command = Give(subject=subject, permission=permission, thing=thing, **how)
    return str((await world.admin(grants.give, command)).id)


async def status(world: World, headers: Headers, path: str, edge: int = 0, how: str = "GET") -> int:
    """What a path answers."""
    return (await world.http(edge).request(how, path, headers=headers)).status_code


async def within_a_second(world: World, headers: Headers, path: str, expected: int) -> None:
    """Both edges answer as expected, within the bound."""

    async def both() -> bool:
        found = [await status(world, headers, path, edge) for edge in (0, 1)]
        return found == [expected, expected]

    await eventually(both, timeout_s=BOUND_S, every_s=0.02)


async def ids(world: World, headers: Headers, path: str, name: str = "id") -> set[str]:
    """What a list or search shows."""
    answer = await world.http().get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return {item.get(name) or item["tool"][name] for item in answer.json()["items"]}


@pytest.mark.parametrize("kind", ["agents", "goals", "documents"])
async def test_what_is_denied_is_not_there_in_get_list_history_or_change(
    world: World, owner: Person, kind: str
) -> None:
    person = await world.person("admin")
    headers = await shown_by(world, person)
    hidden, other = [await MAKERS[kind](world, owner) for _ in range(2)]
    assert {hidden, other} <= await ids(world, headers, f"/{kind}?limit=200")
    subject = f"user:{person.user.id}"
    for action in ("read", "delete", "control"):
        if f"{kind}:{action}" in permissions():
            await give(world, subject, f"{kind}:{action}", hidden, allow=False)
    await within_a_second(world, headers, f"/{kind}/{hidden}", 404)
    seen = await ids(world, headers, f"/{kind}?limit=200")
    assert hidden not in seen
    assert other in seen
    assert await ids(world, headers, f"/events?aggregate_id={hidden}", "aggregate_id") == set()
    assert await ids(world, headers, f"/events?aggregate_id={other}", "aggregate_id") == {other}
    changes = {"agents": f"/agents/{hidden}/suspend", "goals": f"/goals/{hidden}/cancel"}
    method, path = ("POST", changes[kind]) if kind in changes else ("DELETE", f"/{kind}/{hidden}")
    assert await status(world, headers, path, how=method) == 404
    async with world.http().stream(
        "GET",
        "/events/stream",
        params={"since": f"{world.edges[0].edge.feed.epoch}-0"},
        headers=headers,
    ) as answer:
        entities = set()
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and '"entity_id"' in line:
                entities.add(json.loads(line.removeprefix("data: "))["entity_id"])
            if other in entities:
                break
    assert hidden not in entities


async def test_a_denied_document_is_not_found_by_search(world: World, owner: Person) -> None:
    person = await world.person("viewer")
    headers = await shown_by(world, person)
    hidden, other = await document(world, owner), await document(world, owner)

    async def found() -> set[str]:
        body = {"q": "water boils", "mode": "text", "limit": 50}
        answer = await world.http().post("/documents/search", json=body, headers=headers)
        return {item["document_id"] for item in answer.json()["items"]}

    async def both() -> bool:
        return {hidden, other} <= await found()

    await eventually(both)
    await give(world, f"user:{person.user.id}", "documents:read", hidden, allow=False)
    await within_a_second(world, headers, f"/documents/{hidden}", 404)
    assert hidden not in await found()
    assert other in await found()


async def test_a_denied_tool_is_in_no_list_or_search_and_cannot_be_called(
    world: World, owner: Person
) -> None:
    person = await world.person("developer")
    headers = await shown_by(world, person)
    hidden, other = await tool(world, owner), await tool(world, owner)
    for action in ("read", "execute"):
        await give(world, f"user:{person.user.id}", f"tools:{action}", hidden, allow=False)
    await within_a_second(world, headers, f"/tools/{hidden}", 404)
    for path in ("/tools?limit=200", "/tools/search?q=owner&limit=50"):
        seen = await ids(world, headers, path, "name")
        assert hidden not in seen, path
        assert other in seen, path
    body = {"arguments": {}}
    answer = await world.http().post(f"/tools/{hidden}/invoke", json=body, headers=headers)
    assert answer.status_code == 404


async def test_an_allowance_on_one_thing_opens_exactly_that_one(world: World) -> None:
    """Viewers see themselves; and then one other."""
    person, one, other = [await world.person("viewer") for _ in range(3)]
    headers = await shown_by(world, person)
    assert await ids(world, headers, "/users") == {person.user.id}
    grant = await give(world, f"user:{person.user.id}", "users:read", one.user.id)
    await within_a_second(world, headers, f"/users/{one.user.id}", 200)
    assert await status(world, headers, f"/users/{other.user.id}") == 404
    assert await ids(world, headers, "/users") == {person.user.id, one.user.id}
    await world.admin(grants.withdraw, Withdraw(id=grant))
    await within_a_second(world, headers, f"/users/{one.user.id}", 404)


async def test_an_allowance_on_one_of_a_kind_that_the_role_has_nothing_of(world, owner) -> None:
    person = await world.person("viewer")
    headers = await shown_by(world, person)
    mine, other = await agent(world, owner), await agent(world, owner)
    await give(world, f"user:{person.user.id}", "agents:control", mine)

    async def opened() -> bool:
        return await status(world, headers, f"/agents/{mine}/suspend", how="POST") == 200

    await eventually(opened, timeout_s=BOUND_S, every_s=0.02)
    assert await status(world, headers, f"/agents/{other}/suspend", how="POST") == 404


async def test_a_denial_wins_over_an_allowance_and_over_the_role(world, owner) -> None:
    person, thing = await world.person("admin"), await agent(world, owner)
    headers = await shown_by(world, person)
    await give(world, f"user:{person.user.id}", "agents:read", thing)
    denial = await give(world, "role:admin", "agents:read", thing, allow=False)
    await within_a_second(world, headers, f"/agents/{thing}", 404)
    await world.admin(grants.withdraw, Withdraw(id=denial))
    await within_a_second(world, headers, f"/agents/{thing}", 200)


async def test_a_users_allowance_does_not_widen_the_users_keys_but_a_denial_binds_them(
    world, owner
) -> None:
    person = await world.person("viewer")
    issued = await world.as_owner(person)(keys.issue_key, IssueKey(name="k", roles=("viewer",)))
    session, key = await shown_by(world, person), bearer(issued.secret)
    one, two, three = [await world.person("viewer") for _ in range(3)]
    await give(world, f"user:{person.user.id}", "users:read", one.user.id)
    await give(world, f"key:{issued.key.id}", "users:read", two.user.id)
    await within_a_second(world, session, f"/users/{one.user.id}", 200)
    await within_a_second(world, key, f"/users/{two.user.id}", 200)
    assert await status(world, key, f"/users/{one.user.id}") == 404
    assert await status(world, session, f"/users/{two.user.id}") == 404
    assert await status(world, key, f"/users/{three.user.id}") == 404
    thing = await agent(world, owner)
    await give(world, f"user:{person.user.id}", "agents:read", thing, allow=False)
    await within_a_second(world, key, f"/agents/{thing}", 404)


async def test_a_denied_thing_is_seen_on_no_socket(world, owner) -> None:
    person, thing = await world.person("viewer"), await agent(world, owner)
    headers = await shown_by(world, person)
    async with world.socket(headers) as socket:
        await frame_of(socket, "hello")
        await socket.send('{"op":"subscribe","topics":["agents.status"]}')
        await frame_of(socket, "subscribed")
        await give(world, f"user:{person.user.id}", "agents:read", thing, allow=False)
        await within_a_second(world, headers, f"/agents/{thing}", 404)
        await world.admin(agents.suspend, agents.SuspendAgent(id=thing))
        last, seen = await agent(world, owner), set()
        while (last, "agents.created") not in seen:
            frame = await frame_of(socket, "event")
            seen.add((frame["entity_id"], frame["type"]))
    assert (thing, "agents.moved") not in seen


async def test_history_shows_accounts_and_sessions_only_to_who_may_read_them(world) -> None:
    viewer, other = await world.person("viewer"), await world.person("viewer")
    headers = await shown_by(world, viewer)
    await world.sign_in(other)
    answer = await world.http().get("/events?type=identity&limit=200", headers=headers)
    for event in answer.json()["items"]:
        [entity] = event["payload"].values()
        assert viewer.user.id in (event["aggregate_id"], entity.get("owner_id")), event["type"]
    one = await world.http().get(
        f"/events?aggregate_id={other.user.id}",
        headers=await shown_by(world, await world.person("admin")),
    )
    [created, *_] = one.json()["items"]
    assert await status(world, headers, f"/events/{created['event_id']}") == 404


async def test_explain_says_what_really_happens(world: World, owner: Person) -> None:
    """Random people, permissions and grants; asked of `explain` and of the door itself."""
    draw = random.Random(20261123)
    doors = {"agents:read": ("GET", "/agents/{}"), "agents:control": ("POST", "/agents/{}/suspend"),
             "documents:delete": ("DELETE", "/documents/{}"),
             "users:read": ("GET", "/users/{}")}  # fmt: skip
    people = [await world.person(role) for role in ROLES]
    admin, wrong = await shown_by(world, await world.person("admin")), []
    for number in range(40):
        world.give_back_limits()
        person, permission = draw.choice(people), draw.choice(sorted(doors))
        maker = draw.choice([owner, person])
        thing = await MAKERS[permission.partition(":")[0]](world, maker)
        for _ in range(draw.randrange(3)):
            role = draw.choice(person.user.roles)
            subject = draw.choice([f"user:{person.user.id}", f"role:{role}"])
            try:
                await give(world, subject, permission, thing, allow=draw.random() < 0.5)
            except grants.GrantExists:
                continue
        query = {"permission": permission, "thing": thing, "owner_id": maker.user.id,
                 "user_id": person.user.id}  # fmt: skip
        method, path = doors[permission]
        await settled(world, person)
        answer = await world.http().get("/authz/explain", params=query, headers=admin)
        said = answer.json()["allowed"]
        did = await status(world, await token_for(world, person), path.format(thing), how=method)
        if said != (did not in (403, 404)):
            wrong.append(
                (number, person.user.roles, permission, said, did, answer.json()["reasons"])
            )
    assert wrong == []


TOKENS: dict[str, Headers] = {}


async def token_for(world: World, person: Person) -> Headers:
    """One session a person."""
    if person.user.id not in TOKENS:
        TOKENS[person.user.id] = await shown_by(world, person)
    return TOKENS[person.user.id]


async def settled(world: World, person: Person) -> None:
    """Every process has heard of the newest grant: a marker behind it is in force everywhere."""
    mark = world.platform.clock.new_id()
    await give(world, f"user:{person.user.id}", "events:execute", mark, allow=False)
    rights = [world.platform.rights, *(running.edge.rights for running in world.edges)]

    async def heard() -> bool:
        return all(
            mark in r.reach(person.principal, "events:execute").denied
            or any(
                rule.thing == mark
                for rule in r.policy.rules_for(person.principal, "events:execute")
            )
            for r in rights
        )

    await eventually(heard, every_s=0.01)


async def test_explain_knows_that_a_key_has_no_more_than_its_owner_now(world: World) -> None:
    person = await world.person("developer")
    issued = await world.as_principal(person.principal)(keys.issue_key, IssueKey(name="k"))
    admin = await shown_by(world, await world.person("admin"))
    query = {"permission": "agents:create", "key_id": issued.key.id}
    answer = await world.http().get("/authz/explain", params=query, headers=admin)
    assert answer.json()["allowed"]
    demoted = users.UpdateUser(id=person.user.id, version=1, name="x", roles=("viewer",))
    await world.admin(users.update_user, demoted)
    answer = await world.http().get("/authz/explain", params=query, headers=admin)
    assert not answer.json()["allowed"]
    await world.admin(users.disable_user, users.DisableUser(id=person.user.id))
    query["permission"] = "agents:read"
    answer = await world.http().get("/authz/explain", params=query, headers=admin)
    assert not answer.json()["allowed"]


class ListNothing(Listing):
    """List what nobody has weighed."""


careless = Operation(
    "careless.list", ListNothing, Page[agents.Agent], rest="GET /careless", may="quality:read"
)  # fmt: skip
carelessly = Operation("careless.change", ListNothing, Page[agents.Agent], may="quality:approve")


async def test_a_handler_that_forgets_to_weigh_is_refused(world: World, owner: Person) -> None:
    forgetful = Service(name="careless", layer="L01", about="Weighs nothing.")

    @forgetful.handles(careless)
    @forgetful.handles(carelessly)
    async def show(_: ListNothing, __: Any) -> Page[agents.Agent]:
        return Page[agents.Agent](items=())

    person, thing = await world.person("viewer"), await agent(world, owner)
    asker = world.as_principal(person.principal)
    async with process.answering(world.settings, [forgetful], Health("careless")):
        assert (await asker(careless, ListNothing())).items == ()
        with pytest.raises(Denied):
            await asker(carelessly, ListNothing())
        await give(world, f"user:{person.user.id}", "quality:read", thing, allow=False)
        await give(world, f"user:{person.user.id}", "quality:approve", thing)
        await settled(world, person)

        async def refused() -> bool:
            done = []
            for operation in (careless, carelessly):
                try:
                    await asker(operation, ListNothing())
                except Denied:
                    done.append(operation.name)
            return len(done) == 2

        await eventually(refused, timeout_s=BOUND_S)


async def test_where_identity_is_away_at_the_start_the_answer_is_503_and_never_yes_or_401(
    stack: Stack, template: str, tmp_path: Path
) -> None:
    key = new_credential("key").text
    cookie = new_credential("session").text
    shown = ({"x-api-key": key}, {"cookie": f"__Host-portal={cookie}"})
    others = [domain for domain in DOMAINS if domain != "identity"]
    async with open_world(stack, template, tmp_path, domains=others) as world:
        answers = [await world.http().get("/agents", headers=headers) for headers in shown]
        assert [answer.status_code for answer in answers] == [503, 503]
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
        viewer = Principal(id="x", kind="user", roles=("admin",))
        with pytest.raises(Unavailable):
            await world.as_principal(viewer)(agents.listing, agents.ListAgents())


async def test_explain_knows_keys_whose_owner_is_no_user(world: World) -> None:
    """The owner of the first key, and of what it makes, is called "admin"."""
    issued = await world.admin(keys.issue_key, IssueKey(name="k"))
    admin = await shown_by(world, await world.person("admin"))
    query = {"permission": "agents:create", "key_id": issued.key.id}
    answer = await world.http().get("/authz/explain", params=query, headers=admin)
    assert answer.json()["allowed"] is True
