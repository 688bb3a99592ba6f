"""How often one may ask: GCRA, counted in Redis for all edge processes together.

A check names one or more dimensions (an address, a credential, all anonymous callers); it passes
only if every dimension has room, and then uses up one of each. All checks that wait while a round
trip is under way go into the next one: one script call, one connection. While Redis is away each
process counts for itself with the same arithmetic (`Local`), in whole microseconds.

A service's limit is so wide that a round trip for each request would cost more than the request:
a process takes a lease of 10 ms' worth at once and spends it within 100 ms. Leases are counted
when taken, so the limit is never exceeded; what is left of one is lost.
"""

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bus import telemetry
from edge.answers import rate_headers
from edge.exchange import RawHeaders
from schemas.principal import Principal
from schemas.problems import DependencyDown, TooManyRequests

MINUTE_US = 60_000_000
GUESSES_PER_MINUTE = 10
ANONYMOUS_PER_MINUTE = 100
ANONYMOUS_TOTAL_PER_MINUTE = 1000
INTERACTIVE_PER_MINUTE = 100
ALL_TOGETHER = 10
LOCAL_KEYS_MAX = 10_000
LEASED_FROM = 60_000
LEASES_PER_MINUTE = 6_000
LEASE_S = 0.1
BATCH_MAX = 500
REDIS_TIMEOUT_S = 0.5
REDIS_RETRY_S = 2.0
UNCOUNTED = (RedisError, OSError, TimeoutError)

# KEYS: the distinct keys of a batch. ARGV: now; then for each check the number of its dimensions
# and how many requests it is for; and for each dimension the index of its key, its interval and
# its burst. Returns four numbers a check: the refusing dimension or 0, what is left of the
# tightest, the wait in microseconds, and which dimension is the tightest.
SCRIPT = """
local now, at, out, tat, touched = tonumber(ARGV[1]), 2, {}, {}, {}
local function read(i)
  if tat[i] == nil then tat[i] = tonumber(redis.call('GET', KEYS[i]) or 0) end
  return math.max(tat[i], now)
end
local function dimension(d)
  local p = at + 2 + d * 3
  return tonumber(ARGV[p]), tonumber(ARGV[p+1]), tonumber(ARGV[p+2])
end
while at <= #ARGV do
  local n, count = tonumber(ARGV[at]), tonumber(ARGV[at+1])
  local refused, left, wait, tightest = 0, -1, 0, 1
  for d = 0, n - 1 do
    local i, t, b = dimension(d)
    local over = read(i) - now - (b - count) * t
    if over > 0 and refused == 0 then refused, left, wait, tightest = d + 1, 0, over, d + 1 end
  end
  if refused == 0 then
    for d = 0, n - 1 do
      local i, t, b = dimension(d)
      tat[i] = read(i) + count * t
      touched[i] = true
      local room = math.floor((b * t - (tat[i] - now)) / t)
      if left < 0 or room < left then left, tightest = room, d + 1 end
    end
  end
  for _, v in ipairs({refused, left, wait, tightest}) do out[#out+1] = v end
  at = at + 2 + n * 3
end
for i, _ in pairs(touched) do
  redis.call('SET', KEYS[i], string.format('%.0f', tat[i]),
             'PX', string.format('%.0f', math.ceil((tat[i] - now) / 1000) + 1000))
end
return out
"""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One thing that is counted: `per_minute` of `key`, all of them at once if need be."""

    name: str
    key: str
    per_minute: int

    @property
    def interval_us(self) -> int:
        """How long one request uses up."""
        return MINUTE_US // self.per_minute


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: `refused` is the index of the dimension that had no room.

    `left` is what there is of the tightest dimension.
    """

    refused: int | None
    left: int
    wait_us: int
    tightest: int


Check = tuple[Sequence[Dimension], int]
"""What is counted, and for how many requests."""


@dataclass(slots=True)
class Lease:
    """Requests that are counted already and may be spent until `until`."""

    tokens: int
    left: int
    until: float


class Local:
    """The same counting inside this process."""

    def __init__(self) -> None:
        self._arrivals: OrderedDict[str, int] = OrderedDict()

    def check(self, dimensions: Sequence[Dimension], now_us: int, count: int = 1) -> Verdict:
        """Whether there is room for `count` requests, using it up if so."""
        arrivals = [max(self._arrivals.get(d.key, 0), now_us) for d in dimensions]
        for index, (at, d) in enumerate(zip(arrivals, dimensions, strict=True)):
            over = at - now_us - (d.per_minute - count) * d.interval_us
            if over > 0:
                return Verdict(index, 0, over, index)
        left, tightest = -1, 0
        for index, (at, d) in enumerate(zip(arrivals, dimensions, strict=True)):
            used = at + count * d.interval_us
            self._remember(d.key, used)
            room = (d.per_minute * d.interval_us - (used - now_us)) // d.interval_us
            if left < 0 or room < left:
                left, tightest = room, index
        return Verdict(None, left, 0, tightest)

    def _remember(self, key: str, arrival_us: int) -> None:
        self._arrivals[key] = arrival_us
        self._arrivals.move_to_end(key)
        if len(self._arrivals) > LOCAL_KEYS_MAX:
            self._arrivals.popitem(last=False)


class Counted:
    """Counting in Redis, many checks in one call."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._script = redis.register_script(SCRIPT)

    async def check(self, checks: Sequence[Check], now_us: int) -> list[Verdict]:
        """Verdicts in order.

        Raises:
            RedisError: There is no answer.
        """
        places: dict[str, int] = {}
        arguments: list[int] = [now_us]
        for dimensions, count in checks:
            arguments += (len(dimensions), count)
            for d in dimensions:
                place = places.setdefault(d.key, len(places) + 1)
                arguments += (place, d.interval_us, d.per_minute)
        async with asyncio.timeout(REDIS_TIMEOUT_S):
            flat = await self._script(keys=list(places), args=arguments)
        return [
            Verdict(flat[i] - 1 if flat[i] else None, flat[i + 1], flat[i + 2], flat[i + 3] - 1)
            for i in range(0, len(flat), 4)
        ]

    async def close(self) -> None:
        """Give the connection back."""
        await self.redis.aclose()


class Limiter:
    """Decides for every request of this process."""

    def __init__(
        self,
        counted: Counted,
        service_per_minute: int,
        processes: int = 1,
        interactive_per_minute: int = INTERACTIVE_PER_MINUTE,
    ) -> None:
        self._counted = counted
        self._service_per_minute = service_per_minute
        self._interactive_per_minute = interactive_per_minute
        self._processes = processes
        self._local = Local()
        self._waiting: list[tuple[Check, asyncio.Future[Verdict]]] = []
        self._leases: dict[str, Lease] = {}
        self._renewing: dict[str, asyncio.Task[None]] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._of: dict[tuple[str, str], tuple[Dimension, ...]] = {}

    async def admit(self, dimensions: Sequence[Dimension]) -> RawHeaders:
        """Use up one request; returns the headers that tell how many are left.

        Raises:
            TooManyRequests: A dimension has no room; the details name it.
        """
        if min(d.per_minute for d in dimensions) >= LEASED_FROM:
            return headers(dimensions[0], await self._spend(dimensions))
        verdict = await self._check(dimensions, 1)
        if verdict.refused is not None:
            raise too_many(dimensions[verdict.refused], verdict)
        return headers(dimensions[verdict.tightest], verdict.left)

    async def admit_guess(self, address: str) -> None:
        """Use up one of the address's guesses at a password or a token of a person.

        Identity counts the failures of an account. Other limits fall back to counting in the
        process, this one not: where nobody can count, nobody gets in.

        Raises:
            TooManyRequests: The address has none left.
            DependencyDown: Guesses cannot be counted, so none is allowed.
        """
        place = f"rate:guess:{network_of(address)}"
        guesses = Dimension("guesses-address", place, GUESSES_PER_MINUTE)
        try:
            [verdict] = await self._counted.check([((guesses,), 1)], time.time_ns() // 1000)
        except UNCOUNTED as away:
            raise DependencyDown("Sign-in is closed: attempts cannot be counted now.") from away
        if verdict.refused is not None:
            raise too_many(guesses, verdict)

    async def _spend(self, dimensions: Sequence[Dimension]) -> int:
        """Spend one of a lease, renewing it if need be; returns what is left of the limit.

        Who has waited for a lease may spend of it although its time is over: on a busy loop that
        is so for every lease. A renewal that is done may still be in `_renewing`; waiting for it
        would not let the loop go on, and take it out, so a new one takes its place.
        """
        key, waited = dimensions[0].key, False
        while True:
            lease = self._leases.get(key)
            if lease is not None and lease.tokens and (waited or time.monotonic() < lease.until):
                lease.tokens -= 1
                return lease.left + lease.tokens
            task = self._renewing.get(key)
            if task is None or task.done():
                task = self._renewing[key] = asyncio.create_task(self._renew(dimensions))
                task.add_done_callback(partial(self._renewed, key))
            await asyncio.shield(task)
            waited = True

    def _renewed(self, key: str, task: "asyncio.Task[None]") -> None:
        if self._renewing.get(key) is task:
            del self._renewing[key]

    async def _renew(self, dimensions: Sequence[Dimension]) -> None:
        """Take a lease; near the limit, of a single request.

        Raises:
            TooManyRequests: Not even one.
        """
        least = min(d.per_minute for d in dimensions)
        for tokens in (least // LEASES_PER_MINUTE, 1):
            verdict = await self._check(dimensions, tokens)
            if verdict.refused is None:
                if len(self._leases) >= LOCAL_KEYS_MAX:
                    self._leases.clear()
                until = time.monotonic() + LEASE_S
                self._leases[dimensions[0].key] = Lease(tokens, verdict.left, until)
                return
        raise too_many(dimensions[verdict.refused or 0], verdict)

    async def _check(self, dimensions: Sequence[Dimension], count: int) -> Verdict:
        future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append(((dimensions, count), future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await future

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            await self._judge([check for check, _ in batch], [future for _, future in batch])
        self._flushing = None

    async def _judge(
        self, checks: Sequence[Check], waiting: Sequence[asyncio.Future[Verdict]]
    ) -> None:
        """Give every waiting request its verdict, or the reason why there is none."""
        try:
            verdicts = await self._verdicts(checks, time.time_ns() // 1000)
        except Exception as failure:
            for future in waiting:
                if not future.done():
                    future.set_exception(failure)
            return
        for future, verdict in zip(waiting, verdicts, strict=True):
            if not future.done():
                future.set_result(verdict)

    async def _verdicts(self, checks: Sequence[Check], now_us: int) -> Sequence[Verdict]:
        if time.monotonic() >= self._away_until:
            try:
                return await self._counted.check(checks, now_us)
            except UNCOUNTED as away:
                self._away_until = time.monotonic() + REDIS_RETRY_S
                telemetry.log().warning("rate limits are counted locally", error=str(away))
        return [self._local.check(self._shared(of), now_us, count) for of, count in checks]

    def _shared(self, dimensions: Sequence[Dimension]) -> Sequence[Dimension]:
        """This process's share of the limits, while it cannot know what the others count."""
        if self._processes == 1:
            return dimensions
        return [replace(d, per_minute=max(1, d.per_minute // self._processes)) for d in dimensions]

    def of_principal(self, principal: Principal, address: str = "-") -> tuple[Dimension, ...]:
        """What a known caller is counted under: people by address and together, programs alone."""
        key = (principal.kind, address if principal.kind == "user" else principal.id)
        found = self._of.get(key)
        if found is None:
            if len(self._of) >= LOCAL_KEYS_MAX:
                self._of.clear()
            found = self._of[key] = self._class_of(principal, address)
        return found

    def _class_of(self, principal: Principal, address: str) -> tuple[Dimension, ...]:
        if principal.kind != "user":
            name = f"rate:{principal.kind}:{principal.id}"
            return (Dimension("service", name, self._service_per_minute),)
        place = f"rate:interactive:{network_of(address)}"
        return (
            Dimension("interactive-address", place, self._interactive_per_minute),
            Dimension(
                "interactive", "rate:interactive", ALL_TOGETHER * self._interactive_per_minute
            ),
        )

    def of_address(self, address: str) -> tuple[Dimension, ...]:
        """What an unknown caller is counted under."""
        return (
            Dimension("address", f"rate:address:{network_of(address)}", ANONYMOUS_PER_MINUTE),
            Dimension("anonymous", "rate:anonymous", ANONYMOUS_TOTAL_PER_MINUTE),
        )


def network_of(address: str) -> str:
    """An IPv4 address itself; of an IPv6 address the /64, which one customer has to himself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv4Address):
        return address
    return str(ipaddress.ip_network((address, 64), strict=False).network_address)


def too_many(dimension: Dimension, verdict: Verdict) -> TooManyRequests:
    """The refusal, naming the limit and when to come back."""
    return TooManyRequests(
        limit=dimension.name,
        per_minute=dimension.per_minute,
        retry_after_s=round(verdict.wait_us / 1e6, 3),
    )


def headers(dimension: Dimension, left: int) -> RawHeaders:
    """What is left of a limit, for an answer that was given."""
    used_us = (dimension.per_minute - left) * dimension.interval_us
    return rate_headers(dimension.name, dimension.per_minute, left, used_us // 1_000_000)
