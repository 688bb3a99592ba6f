"""Guesses: few from an address, none while nobody can count; who shares a limit with whom."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from edge.limits import Counted, Dimension, Limiter
from schemas.principal import Principal
from schemas.problems import DependencyDown, TooManyRequests
from tests.servers import Stack, Valkey


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    async with Redis.from_url(stack.redis_url) as client:
        yield client


@pytest.fixture
def somebody() -> str:
    return secrets.token_hex(6)


def address() -> str:
    """One that no other test uses."""
    return f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"


async def test_the_eleventh_guess_from_an_address_is_refused(redis):
    limiter, here = Limiter(Counted(redis), 1000), address()
    for _ in range(10):
        await limiter.admit_guess(here)
    with pytest.raises(TooManyRequests) as refused:
        await limiter.admit_guess(here)

    assert refused.value.details["limit"] == "guesses-address"
    assert 5 < refused.value.details["retry_after_s"] <= 6
    await limiter.admit_guess(address())


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
        await limiter.admit_guess("10.0.0.1")
        await limiter.admit(who)
        valkey.kill()

        with pytest.raises(DependencyDown) as closed:
            await limiter.admit_guess("10.0.0.1")
        assert (closed.value.status, closed.value.retryable) == (503, True)
        answers = await asyncio.gather(
            *(limiter.admit(who) for _ in range(40)), return_exceptions=True
        )
        assert sum(not isinstance(answer, Exception) for answer in answers) == 25

        valkey.start()
        await limiter.admit_guess("10.0.0.1")


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
