"""Rate limits: the process's own counting and Redis's agree to the microsecond."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as given_settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from edge import limits
from edge.limits import Counted, Dimension, Limiter, Local, network_of
from schemas.principal import Principal
from schemas.problems import TooManyRequests
from tests.servers import Stack

START_US = 1_800_000_000_000_000


@pytest.fixture
async def counted(stack: Stack) -> AsyncIterator[Counted]:
    counted = Counted(Redis.from_url(stack.redis_url))
    yield counted
    await counted.close()


requests = st.lists(
    st.tuples(
        st.integers(0, 3_000_000),
        st.lists(
            st.lists(
                st.sampled_from([("a", 3), ("b", 60), ("c", 7)]),
                min_size=1,
                max_size=3,
                unique=True,
            ),
            min_size=1,
            max_size=5,
        ),
    ),
    min_size=1,
    max_size=12,
)


@given_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=requests)
async def test_redis_and_the_process_count_alike(
    counted: Counted, batches: list[tuple[int, list[list[tuple[str, int]]]]]
) -> None:
    local, mark, now_us = Local(), secrets.token_hex(6), START_US
    for pause_us, checks in batches:
        now_us += pause_us
        dimensions = [[Dimension(n, f"test:{mark}:{n}", q) for n, q in check] for check in checks]
        counts = [1 + (now_us + place) % 3 for place in range(len(checks))]
        wanted = list(zip(dimensions, counts, strict=True))
        expected = [local.check(one, now_us, count) for one, count in wanted]
        assert await counted.check(wanted, now_us) == expected


async def test_the_first_request_too_many_is_refused_and_told_when_to_come_back(
    counted: Counted,
) -> None:
    limiter = Limiter(counted, 3)
    who = limiter.of_principal(Principal(id=secrets.token_hex(4), kind="service"))
    for _ in range(3):
        await limiter.admit(who)
    with pytest.raises(TooManyRequests) as refused:
        await limiter.admit(who)
    assert refused.value.details["limit"] == "service"
    assert 19 < refused.value.details["retry_after_s"] <= 20


async def test_while_redis_is_away_the_process_counts_for_itself() -> None:
    limiter = Limiter(Counted(Redis.from_url("redis://127.0.0.1:1")), 5)
    who = limiter.of_principal(Principal(id="x", kind="service"))
    results = await asyncio.gather(*(limiter.admit(who) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, TooManyRequests) for result in results) == 3


def test_one_customer_has_one_ipv6_network() -> None:
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("nonsense") == "unknown"


@pytest.mark.parametrize("wider", [0, 1])
async def test_a_lease_never_lets_more_through_than_the_limit(counted: Counted, wider: int) -> None:
    limiter, mark = Limiter(counted, 60_000), secrets.token_hex(6)
    who = (Dimension("service", f"test:{mark}", 60_000),)
    who += (Dimension("all", f"test:{mark}:all", 600_000),) * wider
    started = asyncio.get_running_loop().time()
    passed = 0
    while passed < 70_000:
        try:
            await limiter.admit(who)
        except TooManyRequests:
            break
        passed += 1
    took_s = asyncio.get_running_loop().time() - started
    assert passed <= 60_000 + 1_000 * (took_s + 1)
    assert passed >= 50_000


async def test_requests_go_on_where_the_loop_is_slower_than_a_lease_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LEASE_S", 0.0)
    limiter = Limiter(Counted(Redis.from_url("redis://127.0.0.1:1")), 600_000)
    dimensions = limiter.of_principal(Principal(id="busy", kind="key", roles=("admin",)))

    async with asyncio.timeout(5):
        await asyncio.gather(*(limiter.admit(dimensions) for _ in range(300)))


async def test_a_renewal_that_is_done_and_not_yet_forgotten_does_not_stop_the_loop() -> None:
    limiter = Limiter(Counted(Redis.from_url("redis://127.0.0.1:1")), 600_000)
    [dimension] = limiter.of_principal(Principal(id="late", kind="key", roles=("admin",)))
    done = asyncio.create_task(asyncio.sleep(0))
    await done
    limiter._renewing[dimension.key] = done

    async with asyncio.timeout(5):
        await limiter.admit((dimension,))
