"""The cache of verified tokens: bounded, kept, and never longer than token or key are good."""

import asyncio
import time
from types import SimpleNamespace

import pytest
import pytest_asyncio

from bus.clock import Clock
from edge import accesstokens
from edge.accesstokens import AccessTokens
from schemas.identity import signing
from schemas.identity.sessions import Session
from schemas.identity.signing import RotateSigningKey
from schemas.problems import Expired, Forged
from tests.conftest import eventually, look
from tests.security.forging import claims_of, signing_pair, token_of
from tests.security.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")

CACHE = 3
WAITING = """
SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(world: World) -> Session:
    return (await world.sign_in(await world.person("viewer"))).session


@pytest.fixture
def tokens(world: World) -> AccessTokens:
    """As an edge process has them, with room for three."""
    issuer = world.settings.public_url
    return AccessTokens(world.client, Clock(), world.signer, issuer, CACHE)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch):
    """Set the clock by which a verified token ages."""

    def set_clock(seconds: float) -> None:
        clock = SimpleNamespace(time=lambda: time.time() + seconds, monotonic=time.monotonic)
        monkeypatch.setattr(accesstokens, "time", clock)

    return set_clock


async def many(world: World, session: Session, count: int) -> list[str]:
    """Good tokens of one session."""
    pair = await signing_pair(world)
    return [token_of(pair, claims_of(world, session, jti=str(n))) for n in range(count)]


async def test_it_never_holds_more_than_its_size(world, session, tokens) -> None:
    for text in await many(world, session, 10):
        await tokens.verify(text)
        assert len(tokens._seen) <= CACHE
    assert len(tokens._seen) == CACHE


async def test_another_token_empties_nothing(world, session, tokens, monkeypatch) -> None:
    """What PostgREST did once: purge on every request."""
    first, second = await many(world, session, 2)
    decoded, read = [], accesstokens.claims_of
    monkeypatch.setattr(accesstokens, "claims_of", lambda t, *a: decoded.append(t) or read(t, *a))
    for text in (first, second, first, second, first):
        await tokens.verify(text)
    assert decoded == [first, second]


async def test_an_expired_token_is_not_served_from_it(world, session, tokens, later) -> None:
    [text] = await many(world, session, 1)
    await tokens.verify(text)
    later(3590)
    await tokens.verify(text)
    later(3601)
    with pytest.raises(Expired):
        await tokens.verify(text)
    assert not tokens._seen


async def test_a_refused_token_takes_no_room(world, session, tokens) -> None:
    pair = await signing_pair(world)
    for changed in ({"aud": "else"}, {"sid": "x"}, {"exp": 1}):
        with pytest.raises((Forged, Expired)):
            await tokens.verify(token_of(pair, claims_of(world, session, **changed)))
    assert not tokens._seen


async def test_a_replaced_key_verifies_nothing_after_its_overlap(
    world, session, tokens, later
) -> None:
    """Though who has the old key writes any expiry into a token, and the edge had seen it."""
    stolen = await signing_pair(world)
    await world.admin(signing.rotate_signing_key, RotateSigningKey())
    claims = claims_of(world, session, exp=int(time.time()) + 86_400)
    forged, unseen = (token_of(stolen, claims | {"jti": jti}) for jti in "ab")
    await tokens.verify(forged)
    later(3600)
    await tokens.verify(forged)
    later(3600 + 60 + 31)
    for text in (forged, unseen):
        with pytest.raises(Expired):
            await tokens.verify(text)


async def test_a_change_of_the_key_set_empties_it(world, session, tokens) -> None:
    """What PostgREST did once: old tokens stayed good after a change of the secret."""
    [text] = await many(world, session, 1)
    await tokens.verify(text)
    await world.admin(signing.rotate_signing_key, RotateSigningKey(compromised=True))
    tokens.forget_keys()  # what the event does on an edge
    with pytest.raises(Forged):
        await tokens.verify(text)


async def test_a_key_set_that_was_under_way_when_it_changed_is_read_again(
    world, session, tokens
) -> None:
    """Else a compromised key would come back for as long as the process lives."""
    [text] = await many(world, session, 1)
    connection = await world.platform.database.connect()
    async with connection.transaction():
        await connection.execute("LOCK identity.signing_keys IN ACCESS EXCLUSIVE MODE")
        verifying = asyncio.create_task(tokens.verify(text))
        await eventually(lambda: look(world.platform, WAITING))
        await connection.execute("UPDATE identity.signing_keys SET verifies_until = now()")
        tokens.forget_keys()
    await connection.close()
    with pytest.raises(Forged):
        await verifying
    await world.admin(signing.rotate_signing_key, RotateSigningKey(compromised=True))  # for others
