"""Guessing: by account, by address, over many accounts; and what the answers give away."""

import asyncio
import statistics
import time

import pytest
import pytest_asyncio

from edge.limits import ANONYMOUS_PER_MINUTE, GUESSES_PER_MINUTE
from schemas.identity import sessions, users
from schemas.identity.sessions import SignIn, WrongPassword
from schemas.identity.users import UnlockUser
from tests.conftest import look
from tests.security.world import PASSWORD, Person, World

pytestmark = pytest.mark.asyncio(loop_scope="module")

GUESSES_MAX = 10
PAIRS = 12


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def person(world: World) -> Person:
    return await world.person("viewer")


async def guess(world: World, login: str, password: str = "not the password"):
    """As from an address that has not guessed before."""
    world.give_back_limits()
    return await guess_again(world, login, password)


async def guess_again(world: World, login: str, password: str = "not the password"):
    return await world.http().post("/auth/login", json={"login": login, "password": password})


@pytest.mark.parametrize("exists", [True, False])
async def test_an_account_is_locked_within_ten_guesses_whether_it_exists_or_not(
    world: World, exists: bool
) -> None:
    victim = await world.person("viewer")
    login = victim.user.login if exists else "nobody.at.all"
    codes = [(await guess(world, login)).json()["error"]["code"] for _ in range(GUESSES_MAX)]
    assert codes[0] == "ERR_204"
    assert codes[-1] == "ERR_400"
    locked = await guess(world, login, PASSWORD)
    assert locked.status_code == 429
    assert int(locked.headers["retry-after"]) >= 1
    assert locked.json()["error"]["details"]["limit"] == "account"
    if exists:
        await world.admin(users.unlock_user, UnlockUser(id=victim.user.id))
        assert (await guess(world, login, PASSWORD)).status_code == 200


async def test_a_lock_grows_with_each_failure_behind_it(world: World) -> None:
    login, waits = "grows.and.grows", []
    for _ in range(8):
        answer = await guess(world, login)
        if answer.status_code == 429:
            waits.append(answer.json()["error"]["details"]["retry_after_s"])
            await look(world.platform, "UPDATE identity.attempts SET locked_until = now()"
                       " WHERE login = $1 RETURNING 1", login)  # fmt: skip
    assert len(waits) >= 2
    assert waits[-1] > waits[0]


async def test_one_address_has_few_guesses_however_many_accounts_it_tries(world: World) -> None:
    """A spray: one password, many logins."""
    answers = await asyncio.gather(
        *(guess_again(world, f"spray{number}") for number in range(3 * GUESSES_PER_MINUTE))
    )
    limits = [a.json()["error"]["details"].get("limit") for a in answers if a.status_code == 429]
    assert limits.count("guesses-address") >= GUESSES_PER_MINUTE
    assert len(limits) < len(answers)


@pytest.mark.parametrize(
    "header", ["x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip", "cf-connecting-ip"]
)
async def test_an_address_that_a_client_names_itself_counts_for_nothing(
    world: World, header: str
) -> None:
    client, statuses = world.http(), []
    for number in range(ANONYMOUS_PER_MINUTE + 40):
        address = f"198.51.100.{number}"
        value = f"for={address}" if header == "forwarded" else address
        statuses.append((await client.get("/auth/setup", headers={header: value})).status_code)
    assert 429 in statuses


async def test_an_unknown_login_is_answered_as_a_known_one(world: World, person: Person) -> None:
    answers = [await guess(world, login) for login in (person.user.login, "nobody.here")]
    seen = []
    for answer in answers:
        error = answer.json()["error"]
        error.pop("timestamp"), error.pop("request_id")
        headers = {
            n: v
            for n, v in answer.headers.items()
            if n not in ("date", "x-request-id", "ratelimit")
        }
        seen.append((answer.status_code, error, headers))
    assert seen[0] == seen[1]


async def test_an_unknown_login_takes_as_long_as_a_known_one(
    costly_passwords: None, world: World
) -> None:
    """Interleaved, so that load falls on both; 20 % of what one password costs is allowed."""
    asking, person = world.admin.as_nobody, await world.person("viewer")
    took: dict[str, list[float]] = {"known": [], "unknown": []}
    for number in range(PAIRS):
        for kind, login in (("known", person.user.login), ("unknown", f"unknown{number}")):
            await look(world.platform, "DELETE FROM identity.attempts RETURNING 1")
            started = time.process_time()
            with pytest.raises(WrongPassword):
                await asking(sessions.sign_in, SignIn(login=login, password="not the password"))  # type: ignore[arg-type]
            took[kind].append(time.process_time() - started)
    known, unknown = (statistics.median(took[kind]) for kind in ("known", "unknown"))
    assert abs(known - unknown) < 0.2 * max(known, unknown), took
