"""The matrix on real things: one's own and somebody else's, asked for by every credential."""

import asyncio

import httpx2
import pytest
import pytest_asyncio

from schemas.principal import ROLES
from tests.security import matrix
from tests.security.kinds import FACTORIES
from tests.security.things import MAKERS
from tests.security.world import PASSWORD, Headers, Person, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

TABLE = matrix.read()
GOOD = [kind for kind, shows in matrix.KINDS.items() if shows.good and shows.person]
ROWS = [
    door for door, cells in TABLE.items()
    if "own" in cells.values() and door.count("{") == 1 and "/api/v1/" in door
]  # fmt: skip
BODIES = {
    "workflows.change": {
        "version": 999,
        "document": {"steps": [{"key": "a", "type": "set", "value": 1}]},
    },
    "workflows.schedule-update": {
        "version": 999,
        "name": "s",
        "every_s": 60,
        "workflow_id": "00000000-0000-7000-8000-000000000000",
    },
    "workflows.signal": {"name": "never"},
    "workflows.answer": {"path": "w"},
    "goals.approve": {"sha256": "0" * 64},
    "human.delegate": {"assignee_id": "somebody"},
    "human.answer": {"answer": "yes"},
    "agents.configure": {"version": 999},
    "identity.update-user": {"version": 999, "name": "X", "roles": ["viewer"]},
    "identity.set-password": {"current": "not the password", "new": PASSWORD},
    "identity.update-client": {
        "version": 999,
        "name": "X",
        "grants": ["client_credentials"],
        "scopes": ["agents:read"],
    },
}
AT_ONCE = 4  # a password is checked by two threads; its door waits 5 s
LISTS = {"api-keys": "/api-keys", "sessions": "/sessions", "users": "/users", "jobs": "/jobs"}


class Caller:
    """A person of one role, and the credentials of that person."""

    def __init__(self, person: Person, shown: dict[str, Headers]) -> None:
        self.person, self.shown = person, shown


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def callers(world: World) -> dict[str, Caller]:
    """One of each role."""
    found: dict[str, Caller] = {}
    for role in ROLES:
        person = await world.person(role)
        found[role] = Caller(person, {kind: await FACTORIES[kind](world, person) for kind in GOOD})
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stranger(world: World) -> Person:
    """Who owns what is foreign."""
    return await world.person("developer")


def of_answer(answer: httpx2.Response) -> str:
    """404 when the thing is hidden, allow when it was reached."""
    assert answer.status_code < 500, answer.text
    told = answer.json().get("error")
    error = told if isinstance(told, dict) else {}  # a job's own error is a text
    if answer.status_code == 401:  # the caller is known, and proves it once more
        assert error["message"] == "The current password is wrong.", answer.text
    return {"ERR_001": "404", "ERR_300": "403"}.get(error.get("code"), "allow")


async def test_there_are_rows_for_every_kind_of_thing_with_an_owner() -> None:
    assert {door.split("/")[3] for door in ROWS} == MAKERS.keys()


@pytest.mark.parametrize("door", ROWS)
async def test_ones_own_is_reached_and_somebody_elses_is_not_there(
    world: World, callers: dict[str, Caller], stranger: Person, door: str
) -> None:
    method, path = door.split(" ")
    make, cells, client = MAKERS[path.split("/")[3]], TABLE[door], world.http()
    body = BODIES.get(cells["operation"], {}) if method in ("POST", "PUT") else None
    found, at_once = list[str](), asyncio.Semaphore(AT_ONCE)

    async def check(kind: str, role: str, owner: Person, expected: str) -> None:
        async with at_once:
            thing = await make(world, owner)
            url = world.urls[0] + path.replace("{id}", thing).replace("{name}", thing)
            world.give_back_limits()
            answer = await client.request(method, url, json=body, headers=callers[role].shown[kind])
        if of_answer(answer) != expected:
            found.append(f"{kind} {role} {owner is stranger}: {answer.text}, not {expected}")

    checks = []
    for kind in GOOD:
        for role in ROLES:
            cell = cells[f"{kind}.{role}"]
            if cell in ("allow", "own"):
                checks.append(check(kind, role, callers[role].person, "allow"))
                foreign = "404" if cell == "own" else "allow"
                checks.append(check(kind, role, stranger, foreign))
    assert checks
    await asyncio.gather(*checks)
    assert found == []


@pytest.mark.parametrize("things", LISTS)
async def test_lists_show_only_what_the_caller_may_read(
    world: World, callers: dict[str, Caller], stranger: Person, things: str
) -> None:
    foreign, cells = await MAKERS[things](world, stranger), TABLE[f"GET /api/v1{LISTS[things]}"]
    for role, caller in callers.items():
        own = await MAKERS[things](world, caller.person)
        for kind in GOOD:
            cell = cells[f"{kind}.{role}"]
            if cell == "403":
                continue
            answer = await world.http().get(
                LISTS[things], params={"limit": "200"}, headers=caller.shown[kind]
            )
            seen = {item["id"] for item in answer.json()["items"]}
            assert own in seen, (kind, role)
            assert (foreign in seen) == (cell == "allow"), (kind, role)
