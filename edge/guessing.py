"""How often somebody may try a name and a password: counted in Redis or not allowed at all.

Each attempt uses up one of the address's and one of the account's. An account without any left is
locked for half a minute, and twice as long each time that it comes to this again, up to a quarter
of an hour; trying while it is locked does not make it longer. A correct password forgives. Where
nobody can count, nobody gets in: other limits fall back to counting in the process, this one not.
"""

import asyncio
import hashlib
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.problems import DependencyDown

ADDRESS_PER_MINUTE, ACCOUNT_PER_MINUTE = 10, 5
LOCK_S, LOCK_S_MAX = 30, 900
REMEMBERED_S = 3600
TIMEOUT_S = 0.5
MINUTE_US = 60_000_000

# KEYS: arrivals of the address, of the account; how often the account was locked; its lock.
# ARGV: now in microseconds; interval and burst of the address, of the account; lock, longest lock
# and how long locks are remembered, in milliseconds. Returns what refuses and for how long.
SCRIPT = """
local now = tonumber(ARGV[1])
local function arrival(i, t, b)
  local at = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now)
  return at + t, at - now - (b - 1) * t
end
local function keep(i, at)
  redis.call('SET', KEYS[i], string.format('%.0f', at), 'PX',
             string.format('%.0f', math.ceil((at - now) / 1000) + 1000))
end
local address, over = arrival(1, tonumber(ARGV[2]), tonumber(ARGV[3]))
if over > 0 then return {1, over} end
local locked = redis.call('PTTL', KEYS[4])
if locked > 0 then keep(1, address) return {2, locked * 1000} end
local account, spent = arrival(2, tonumber(ARGV[4]), tonumber(ARGV[5]))
keep(1, address)
if spent > 0 then
  local times = redis.call('INCR', KEYS[3])
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
  local ms = math.min(tonumber(ARGV[6]) * 2 ^ math.min(times - 1, 20), tonumber(ARGV[7]))
  redis.call('SET', KEYS[4], '1', 'PX', string.format('%.0f', ms))
  return {2, ms * 1000}
end
keep(2, account)
return {0, 0}
"""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit an attempt has met, and how long it lasts."""

    limit: str
    per_minute: int
    wait_us: int


LIMITS = (("login-address", ADDRESS_PER_MINUTE), ("login-account", ACCOUNT_PER_MINUTE))


class Guesses:
    """Attempts, counted for all edge processes together."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.register_script(SCRIPT)

    async def attempt(self, network: str, account: str, now_us: int) -> Refusal | None:
        """Use up one attempt; tells what refuses it.

        Raises:
            DependencyDown: It cannot be counted.
        """
        arguments = [
            now_us, MINUTE_US // ADDRESS_PER_MINUTE, ADDRESS_PER_MINUTE,
            MINUTE_US // ACCOUNT_PER_MINUTE, ACCOUNT_PER_MINUTE,
            LOCK_S * 1000, LOCK_S_MAX * 1000, REMEMBERED_S * 1000,
        ]  # fmt: skip
        keys = [f"rate:login:address:{network}", *keys_of(account)]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                refused, wait_us = await self._script(keys=keys, args=arguments)
        except (RedisError, OSError, TimeoutError) as away:
            raise DependencyDown("Sign-in is closed: attempts cannot be counted now.") from away
        return Refusal(*LIMITS[refused - 1], wait_us) if refused else None

    async def forgive(self, account: str) -> None:
        """Forget an account's attempts and its lock: the password was right, or an admin says so.

        Raises:
            DependencyDown: Redis does not answer.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S):
                await self._redis.delete(*keys_of(account))
        except (RedisError, OSError, TimeoutError) as away:
            raise DependencyDown("Attempts cannot be forgotten now.") from away


def keys_of(account: str) -> list[str]:
    """Where an account's attempts, locks and lock are; names stay out of Redis."""
    digest = hashlib.sha256(account.strip().casefold().encode()).hexdigest()[:32]
    return [f"rate:login:{what}:{digest}" for what in ("account", "locks", "lock")]
