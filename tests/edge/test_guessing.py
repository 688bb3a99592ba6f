"""Attempts to sign in: few for an address, fewer for an account, none while nobody can count."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from edge.guessing import LOCK_S, LOCK_S_MAX, Guesses
from edge.limits import Counted, Dimension, Limiter
from schemas.principal import Principal
from schemas.problems import DependencyDown, TooManyRequests
from tests.servers import Stack, Valkey

START_US = 1_800_000_000_000_000


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.redis_url) as client:
        yield client


@pytest.fixture
def somebody() -> str:
    return secrets.token_hex(6)


async def refused(limiter: Limiter, address: str, account: str) -> TooManyRequests:
    with pytest.raises(TooManyRequests) as caught:
        await limiter.admit_login(address, account)
    return caught.value


def address() -> str:
    """One that no other test uses."""
    return f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"


async def test_the_sixth_attempt_at_an_account_locks_it_from_everywhere(redis, somebody):
    limiter = Limiter(Counted(redis), 1000)
    for _ in range(5):
        await limiter.admit_login(address(), somebody)
    problem = await refused(limiter, address(), somebody)

    assert problem.details["limit"] == "login-account"
    assert LOCK_S - 1 < problem.details["retry_after_s"] <= LOCK_S
    again = await refused(limiter, address(), somebody)
    assert again.details["retry_after_s"] <= LOCK_S  # trying does not make it longer
    await limiter.admit_login(address(), "somebody else " + somebody)


async def test_the_eleventh_attempt_from_an_address_is_refused_whatever_the_account(
    redis, somebody
):
    limiter, here = Limiter(Counted(redis), 1000), address()
    for n in range(10):
        await limiter.admit_login(here, f"{somebody}-{n}")
    problem = await refused(limiter, here, f"{somebody}-new")

    assert problem.details["limit"] == "login-address"
    await limiter.admit_login(address(), f"{somebody}-new")


async def test_a_lock_is_twice_as_long_each_time_up_to_the_longest(redis, somebody):
    guesses, waits, now_us = Guesses(redis), [], START_US
    lock = (
        f"rate:login:lock:{(await locked_key(redis, guesses, somebody, now_us)).rpartition(':')[2]}"
    )
    for _ in range(7):
        waits.append((await redis.pttl(lock)) / 1000)
        await redis.delete(lock)  # as if it had run out
        refusal = await guesses.attempt(address(), somebody, now_us)
        assert refusal is not None

    assert [round(w) for w in waits] == [30, 60, 120, 240, 480, LOCK_S_MAX, LOCK_S_MAX]


async def locked_key(redis: Redis, guesses: Guesses, account: str, now_us: int) -> str:
    """The key of the account's lock, after as many attempts as it takes."""
    before = set(await redis.keys("rate:login:lock:*"))
    while await guesses.attempt(address(), account, now_us) is None:
        pass
    [key] = set(await redis.keys("rate:login:lock:*")) - before
    return str(key.decode())


async def test_a_right_password_or_an_admin_forgives(redis, somebody):
    limiter = Limiter(Counted(redis), 1000)
    for _ in range(5):
        await limiter.admit_login(address(), somebody)
    await refused(limiter, address(), somebody)
    await limiter.forgive_login(somebody.upper() + " ")  # the same account, however it is typed
    for _ in range(5):
        await limiter.admit_login(address(), somebody)


async def test_names_of_accounts_do_not_stand_in_redis(redis, somebody):
    await Limiter(Counted(redis), 1000).admit_login(address(), somebody)

    assert [key for key in await redis.keys("*") if somebody.encode() in key] == []


@pytest.fixture
def valkey(tmp_path: Path):
    """A Valkey of this test's own, which may be killed."""
    server = Valkey(tmp_path)
    server.start()
    yield server
    server.kill()


async def test_without_redis_nobody_signs_in_while_others_are_counted_by_their_share(
    valkey, somebody
):
    async with Redis.from_url(valkey.url) as redis:
        limiter = Limiter(Counted(redis), 100, processes=4)
        who = limiter.of_principal(Principal(id=somebody, kind="service"))
        await limiter.admit_login("10.0.0.1", somebody)
        await limiter.admit(who)
        valkey.kill()

        with pytest.raises(DependencyDown) as closed:
            await limiter.admit_login("10.0.0.1", somebody)
        assert (closed.value.status, closed.value.retryable) == (503, True)
        answers = await asyncio.gather(
            *(limiter.admit(who) for _ in range(40)), return_exceptions=True
        )
        assert sum(not isinstance(answer, Exception) for answer in answers) == 25

        valkey.start()
        await limiter.admit_login("10.0.0.1", somebody)


async def test_people_share_a_limit_together_and_programs_are_not_hindered(redis):
    limiter = Limiter(Counted(redis), 1_000)
    await redis.delete("rate:interactive")
    admitted, names = 0, set()
    for n in range(11):
        for m in range(100):
            who = limiter.of_principal(Principal(id=f"u{n}", kind="user"), f"2001:db8:0:{n:x}::{m}")
            try:
                await limiter.admit(who)
                admitted += 1
            except TooManyRequests as problem:
                names.add(problem.details["limit"])
    program = limiter.of_principal(Principal(id=secrets.token_hex(4), kind="key"))
    await limiter.admit(program)

    assert names == {"interactive"}
    assert 1000 <= admitted <= 1000 + 17 * 20  # what flows back in 20 s


async def test_the_headers_tell_of_the_tightest_limit(redis, somebody):
    limiter = Limiter(Counted(redis), 1000)
    wide, tight = (
        Dimension("wide", f"t:{somebody}:w", 100),
        Dimension("tight", f"t:{somebody}:t", 3),
    )
    told = dict(await limiter.admit((wide, tight)))

    assert told[b"ratelimit"] == b'"tight";r=2;t=20'
    assert told[b"x-ratelimit-limit"] == b"3"
    assert told[b"x-ratelimit-remaining"] == b"2"
